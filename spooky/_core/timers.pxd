"""C declarations of the timer wheel."""

from libc.stdint cimport int64_t, uint64_t

cdef enum:
    SLOT_BITS = 6
    SLOTS = 64
    # Eight levels reach 2**48 ticks, 89,000 years of 10 ms: the top level never turns over.
    LEVELS = 8


cdef class Timer:
    cdef readonly double deadline
    cdef object _callback
    cdef TimerWheel _wheel
    cdef double _filed
    cdef uint64_t _sequence
    cdef int _slot
    cdef Py_ssize_t _index

    cpdef cancel(self)
    cpdef postpone(self, double deadline)


cdef class TimerWheel:
    cdef double _origin
    cdef double _ticks_per_second
    cdef int64_t _tick
    cdef uint64_t _occupied[LEVELS]
    cdef double _earliest[LEVELS * SLOTS]
    cdef list _slots
    cdef list _due
    cdef Py_ssize_t _active
    cdef uint64_t _sequence
    cdef bint _advancing

    cpdef Timer schedule(self, double deadline, object callback)
    cpdef advance(self, double now)
    cpdef object next_deadline(self)
    cdef int64_t _tick_of(self, double time) noexcept
    cdef int _file(self, Timer timer) except -1
    cdef int _unfile(self, Timer timer) except -1
    cdef int _collect(self, double now) except -1
    cdef int _examine(self, list timers, double now) except -1
    cdef int _fire(self, Timer timer, double now) except -1
