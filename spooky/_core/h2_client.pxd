# C types for spooky/_core/pure/h2_client.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core cimport h2
from spooky._core.h2 cimport list_fields
from spooky._core.h2_stream cimport Stream


cdef class ClientSession(h2.Session):
    cdef bint _shutting_down
    cdef public int64_t _max_streams
    cdef int64_t _unsent_streams
    cdef list _refused

    @cython.locals(stream=Stream)
    cpdef Stream open(self, object handler)
    cpdef bint ping(self, bytes payload) except -1
    @cython.locals(stream_id=int64_t)
    cpdef object send_head(self, Stream stream, object fields, bint end)
    @cython.locals(refused=list, stream=Stream)
    cdef object _tell_refused(self)
    @cython.locals(stream=Stream)
    cpdef object _on_message_head(self, object event)
    cdef object _close_if_idle(self)
