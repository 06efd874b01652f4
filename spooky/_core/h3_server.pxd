# C types for spooky/_core/pure/h3_server.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core.h3 cimport Connection, RequestStream, SeenStreams
from spooky._core.h3_fields cimport declared_length, field_value
from spooky._core.h3_session cimport Session
from spooky._core.h3_wire cimport encode_frame, encode_varint

cdef bytes _PRIORITY
cdef int64_t _NO_GOAWAY


cdef class ServerConnection(Session):
    cdef public object on_stream
    cdef public object priorities
    cdef public SeenStreams _seen
    cdef public int64_t _goaway

    cpdef object settle(self)
    @cython.locals(early=dict, stream=ServerStream)
    cpdef RequestStream _accept(self, int64_t stream_id)


cdef class ServerStream(RequestStream):
    cdef public object signals
    cdef ServerConnection _session

    cpdef object send_head(self, object fields, bint end)
    cpdef object prioritize(self, object priority)
    cpdef object reject(self, object reason, int error_code)
    @cython.locals(connection=ServerConnection)
    cpdef object _take_head(self, list fields, bint end)
