# C types for spooky/_core/pure/h3_server.py, which is the source.

from libc.stdint cimport int64_t

from spooky._core.h3 cimport RequestStream
from spooky._core.h3_fields cimport declared_length, field_value

cdef bytes _PRIORITY


cdef class ServerStream(RequestStream):
    cdef public object signals
    cdef object _session

    cpdef object send_head(self, object fields, bint end)
    cpdef object prioritize(self, object priority)
    cpdef object reject(self, object reason, int error_code)
    cpdef object _take_head(self, list fields, bint end)
