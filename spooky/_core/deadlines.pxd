# C types for spooky/_core/pure/deadlines.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core.terms cimport Rates, Timeouts
from spooky._core.timers cimport Timer
from spooky._core.turns cimport Turns

cdef double _NEVER
cdef object _BODY_TIMEOUT, _BODY_SLOW, _READ_TIMEOUT, _READ_SLOW


cdef class Deadlines:
    cdef Turns _runtime
    cdef object _owner
    cdef Timer _timer
    cdef double _client
    cdef object _client_reason
    cdef double _idle
    cdef object _idle_reason
    cdef double _charged_since
    cdef double _rate
    cdef double _grace
    cdef double _allowance
    cdef object _slow_reason
    cdef int64_t _received
    cdef double _upstream
    cdef object _upstream_reason
    cdef double _total

    cpdef object expect_client(self, double seconds, object reason)
    cpdef object hold_to_rate(self, double rate, double grace, object reason)
    @cython.locals(now=double)
    cpdef object expect_movement(self, double seconds, object reason, int64_t moved)
    @cython.locals(rates=Rates, rate=double, moved=int64_t)
    cpdef object expect_body(self, Timeouts timeouts, bint is_declared, int64_t received)
    @cython.locals(rates=Rates, moved=int64_t)
    cpdef object expect_reading(self, Timeouts timeouts)
    cpdef object expect_upstream(self, double seconds, object reason)
    cpdef object limit_total(self, double seconds)
    cpdef object client_acted(self)
    cpdef object upstream_acted(self)
    cpdef object close(self)
    cdef object _settle(self, double now, int64_t moved)
    @cython.locals(moved=int64_t)
    cdef bint _has_moved(self, double now) except -1
    @cython.locals(deadline=double)
    cdef double _arm(self, double seconds) except -1
    cdef object _wake_at(self, double deadline)
    @cython.locals(now=double, earliest=double)
    cdef object _on_timer(self)
