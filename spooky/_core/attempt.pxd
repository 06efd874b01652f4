# C types for spooky/_core/pure/attempt.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core.admission cimport Admission

cdef double _NOT_YET
cdef object _COMPLETED


cdef class Owner:
    cdef double _now(self) except? -1
    cdef object _on_upstream_connected(self, Attempt attempt, object stream)
    cdef object _on_response_head(self, Attempt attempt, list fields, bint end)
    cdef object _on_response_informational(self, Attempt attempt, list fields)
    cdef object _on_response_data(self, Attempt attempt, bytes data, bint end)
    cdef object _on_response_trailers(self, Attempt attempt, list fields)
    cdef object _on_upstream_writable(self, Attempt attempt)


cdef class Attempt:
    cdef Owner _exchange
    cdef readonly Admission admission
    cdef public object stream
    cdef readonly bint reused
    cdef readonly bint heard
    cdef readonly bint over
    cdef public int64_t owed
    cdef readonly double started
    cdef public double connected
    cdef public double sent
    cdef public double answered
    cdef public int status

    cpdef object give_up(self, object reason)
    @cython.locals(latency=double, until=double, elapsed=double)
    cpdef object conclude(self, object reason)
    @cython.locals(service=double)
    cdef object _took_head(self, double now, int status)
    cpdef object on_connected(self, object stream, bint reused)
    cpdef object on_connect_failed(self, object reason, str detail)
    cpdef object on_head(self, list fields, bint end)
    cpdef object on_informational(self, list fields)
    cpdef object on_data(self, bytes data, bint end)
    cpdef object on_trailers(self, list fields)
    cpdef object on_reset(self, object reason)
    cpdef object on_stopped(self)
    cpdef object on_writable(self)
