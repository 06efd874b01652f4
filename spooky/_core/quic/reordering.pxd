"""C declarations of what is learnt of a path that reorders."""

from libc.stdint cimport uint32_t, uint64_t

from spooky._core.quic.ranges cimport RangeSet


cdef struct Loss:
    uint64_t number
    double time_sent
    uint32_t period  # Which reduction of the window it belongs to.


cdef class Reordering:
    cdef readonly uint64_t packet_threshold
    cdef readonly double time_threshold
    cdef Loss* _losses  # NULL until there is one.
    cdef Py_ssize_t _count
    cdef uint32_t _period
    cdef uint64_t _missing  # Of this period's losses those that have not arrived.
    cdef bint _undoable
    cdef bint _period_is_clean
    cdef int _clean_periods

    cdef void _reset(self) noexcept
    # The window was reduced; what is lost from now on belongs to that.
    cdef void begin_period(self) noexcept
    # The window was reduced for another reason too.
    cdef void keep_reduction(self) noexcept
    cdef int on_lost_packets(self, list lost, Py_ssize_t first, uint32_t path) except -1
    cdef int on_lost(self, uint64_t number, double time_sent) except -1
    # Returns 1 if everything has arrived for which the window was reduced the last time.
    cdef bint on_acknowledged(
        self, RangeSet ranges, uint64_t largest, double rtt, double now
    ) noexcept
