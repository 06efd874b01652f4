# C types for spooky/_core/pure/concurrency.py, which is the source.

cimport cython
from libc.stdint cimport int64_t, uint64_t

from spooky._core.shared cimport Words

cdef int _IN_FLIGHT, _LIMIT, _MINIMUM, _WINDOW, _MEASURED, _MEASURING, _BEFORE
cdef int64_t _SAMPLES_MIN, _SAMPLES_MAX
cdef uint64_t _PARTS
cdef double _MICROSECONDS


cdef class AdaptiveLimit:
    cdef Words _words
    cdef int64_t _min
    cdef int64_t _max

    @cython.locals(value=int64_t)
    cpdef int64_t limit(self) except? -1
    cpdef object observe(self, double now, double latency)
    cdef object _set_limit(self, double value)


cdef class Gradient(AdaptiveLimit):
    cdef double _tolerance
    cdef double _interval
    cdef list _samples
    cdef int64_t _count
    cdef uint64_t _window
    cdef double _start
    cdef double _end
    cdef bint _measures
    cdef int64_t _peak

    @cython.locals(in_flight=int64_t)
    cpdef object observe(self, double now, double latency)
    @cython.locals(words=Words, minimum=double)
    cdef object _begin(self)
    @cython.locals(words=Words, minimum=double)
    cdef object _close(self, double now)
    @cython.locals(words=Words, minimum=double)
    cdef object _learn(self, double now, double median)
    @cython.locals(limit=double, measured=double, is_due=bint, gradient=double, grown=double, changed=double, is_pressed=bint)
    cdef object _move(self, double now, double median, double minimum)
    cdef double _raise_minimum(self, double now, double median, double minimum) except? -1
    @cython.locals(part=double, jitter=double)
    cdef double _pause(self, double minimum) except? -1
    @cython.locals(pause=double)
    cdef bint _has_collapsed(self, double now, double limit, double median) except -1
    cdef object _begin_measurement(self, double now, double limit)
    @cython.locals(words=Words, before=double, minimum=double)
    cdef object _end_measurement(self, double now, double median)
    cdef object _note_minimum(self, double now, double minimum)
    cdef object _store_minimum(self, double minimum)


cdef class Aimd(AdaptiveLimit):
    cdef int64_t _increase
    cdef int64_t _decrease
    cdef double _high_latency

    @cython.locals(value=uint64_t, limit=int64_t)
    cpdef object observe(self, double now, double latency)
