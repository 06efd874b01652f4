"""C declarations of pacing."""

from libc.stdint cimport uint32_t, uint64_t


cdef class Pacer:
    cdef double _rate  # Bytes a second.
    cdef double _burst
    cdef double _tokens
    cdef double _updated

    cpdef void set_rate(
        self, uint64_t window, double smoothed_rtt, bint slow_start, uint32_t size, double now
    ) noexcept
    cpdef void on_sent(self, uint32_t size, double now) noexcept
    cpdef Py_ssize_t room(self, double now) noexcept
    cpdef double deadline(self, uint32_t size, double now) noexcept
    cdef void _refill(self, double now) noexcept
