# C types for spooky/_core/pure/deadlines.py, which is the source.

cimport cython

from spooky._core.timers cimport Timer
from spooky._core.turns cimport Turns

cdef double _NEVER


cdef class Deadlines:
    cdef Turns _runtime
    cdef object _owner
    cdef Timer _timer
    cdef double _client
    cdef object _client_reason
    cdef double _upstream
    cdef object _upstream_reason
    cdef double _total

    cpdef object expect_client(self, double seconds, object reason)
    cpdef object expect_upstream(self, double seconds, object reason)
    cpdef object limit_total(self, double seconds)
    cpdef object client_acted(self)
    cpdef object upstream_acted(self)
    cpdef object close(self)
    @cython.locals(deadline=double)
    cdef double _arm(self, double seconds) except -1
    cdef object _wake_at(self, double deadline)
    @cython.locals(now=double, earliest=double)
    cdef object _on_timer(self)
