# C types for spooky/_core/pure/outcomes.py, which is the source.

cimport cython
from libc.stdint cimport int64_t, uint64_t

from spooky._core.shared cimport Words

cdef int _TRIES, _ERRORS, _CONSECUTIVE_ERRORS, _CONSECUTIVE_GATEWAY_ERRORS, _LATENCIES, _TIMED
cdef int _UNCOUNTED, _SUCCESS, _ERROR, _GATEWAY_ERROR
cdef int _FRACTION_BITS
cdef int64_t _MICROSECONDS_MAX
cdef bytes _OUTCOMES_OF_REASONS

cpdef int outcome_of_status(int status) except -1

@cython.locals(microseconds=int64_t, rest=int64_t, doublings=int64_t)
cpdef int64_t latency_units(double latency_ms) except -1


cdef class Tally:
    cdef Words _words
    cdef Words _alarm
    cdef uint64_t _errors_limit
    cdef uint64_t _gateway_errors_limit

    @cython.locals(words=Words)
    cpdef object answered(self, int status, double latency_ms)
    @cython.locals(outcome=int)
    cpdef object failed(self, object reason, int status=*)
    cdef object _count_success(self, Words words)
    @cython.locals(words=Words, errors=uint64_t, gateway_errors=uint64_t)
    cdef object _count_error(self, int outcome)
