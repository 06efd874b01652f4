# C types for spooky/_core/pure/h3_client.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core.h3 cimport Connection, RequestStream
from spooky._core.h3_fields cimport declared_length, field_value
from spooky._core.h3_session cimport Session

cdef bytes _METHOD, _STATUS
cdef int64_t _SERVER_INITIATED, _NO_STREAM


cdef class ClientSession(Session):
    cdef Py_ssize_t _max_streams
    cdef int64_t _spare_id
    cdef public bint held_back

    @cython.locals(stream_id=int64_t, stream=ClientStream)
    cpdef ClientStream open(self, object handler)
    cdef bint _is_reusable(self)
    @cython.locals(spare=object)
    cdef bint _has_room(self) except -1
    cpdef RequestStream _accept(self, int64_t stream_id)


cdef class ClientStream(RequestStream):
    cdef ClientSession _session
    cdef bint _is_head
    cdef int _informational

    cpdef object send_head(self, object fields, bint end)
    @cython.locals(status=bytes)
    cpdef object _take_head(self, list fields, bint end)
    cdef object _take_informational(self, list fields, bytes status, bint end)
