# C types for spooky/_core/pure/turns.py, which is the source.

cimport cython

from spooky._core.timers cimport Timer, TimerWheel


cdef double _SHORTEST_WAIT
cdef Py_ssize_t _FEW


cdef class Turns:
    cdef public object loop
    cdef public object now
    cdef public Py_ssize_t under_way
    cdef public TimerWheel _wheel
    cdef object _wakeup
    cdef double _wakeup_at
    cdef list _pending
    cdef bint _flush_scheduled
    cdef bint _closed

    cpdef double clock(self) except? -1
    cpdef Timer schedule(self, double deadline, object callback)
    @cython.locals(deadline=double)
    cpdef Timer follow(self, Timer timer, object due, object callback)
    cpdef object mark(self, object flushable)
    cpdef object hold(self)
    cpdef bint hold_if_few(self) except -1
    cpdef object flush(self)
    @cython.locals(delay=double)
    cdef object _set_wakeup(self)
