# C types for spooky/_core/pure/access_record.py, which is the source.

from libc.stdint cimport int64_t, uint64_t

from spooky._core.decisions cimport Admitted, Notes, Ring
from spooky._core.validate cimport Request

cdef double _NOT_YET


cdef class AccessRecord:
    cdef public str request_id
    cdef public double started
    cdef public bytes method
    cdef public bytes authority
    cdef public bytes path
    cdef public str upstream
    cdef public str backend
    cdef public str upstream_protocol
    cdef public int64_t bytes_received
    cdef public int64_t bytes_sent
    cdef public str detail
    cdef public double connected
    cdef public double first_byte
    cdef public int status
    cdef public int tries
    cdef public bint hedged
    cdef public double ended
    cdef public object reason
    cdef public bytes address
    cdef public int port
    cdef public str protocol
    cdef public bint early
    cdef public uint64_t generation
    cdef public Admitted admitted
    cdef public Notes notes

    cpdef object take_request(self, Request request)
    cpdef object take_raw_head(self, list fields)
    cpdef object upstream_connected(self, double now, str protocol)
    cpdef object response_head(self, double now, int status)
    cpdef object close(
        self, double now, object reason, bytes address, int port, str protocol, bint early=*
    )
    cpdef object note(
        self, int kind, double at, object reason, str name, double first=*, double second=*
    )
    cpdef object keep(self, Ring ring, double now, object reason, str protocol)
