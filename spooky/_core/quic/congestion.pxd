"""C declarations of congestion control."""

from libc.stdint cimport uint32_t, uint64_t


cdef class CongestionController:
    cdef readonly uint64_t window
    cdef readonly uint64_t slow_start_threshold
    cdef readonly double recovery_start  # When the current recovery period began; -inf for none.
    cdef readonly uint32_t max_datagram_size
    # What the last reduction changed.
    cdef uint64_t _window_before
    cdef uint64_t _threshold_before
    cdef double _recovery_start_before
    # HyStart++ (RFC 9406), in its names.
    cdef double _round_start
    cdef double _last_round_min_rtt
    cdef double _current_round_min_rtt
    cdef int _rtt_sample_count
    cdef double _css_baseline_min_rtt
    cdef int _css_rounds

    cpdef bint in_slow_start(self) noexcept
    cpdef void set_max_datagram_size(self, uint32_t size) noexcept
    # An ACK frame whose largest packet, sent at `time_sent`, gave a sample; before on_acked.
    cpdef void on_rtt_sample(self, double rtt, double time_sent, double now) noexcept
    # Bytes newly acknowledged that were sent after recovery_start while the window was in use.
    cpdef void on_acked(self, uint64_t size, double smoothed_rtt, double now) noexcept
    # Bytes were acknowledged but the window was not in use (RFC 9002 section 7.8).
    cpdef void on_underutilized(self, double now) noexcept
    # A loss or ECN-CE mark of a packet sent at `time_sent`.
    cpdef void on_congestion(self, double time_sent, double now) noexcept
    # Everything has arrived that on_congestion was last called for.
    cpdef void on_spurious_congestion(self) noexcept
    cpdef void on_persistent_congestion(self) noexcept
    cdef void _avoid_congestion(self, uint64_t size, double smoothed_rtt, double now) noexcept
    cdef void _reduce(self) noexcept
    cdef uint64_t _minimum(self) noexcept
    cdef void _begin_round(self, double now) noexcept


cdef struct Curve:
    double window_max  # Bytes, as all its windows.
    double window_prior
    double window_estimate
    double k
    double epoch_start  # -inf for none.


cdef class NewReno(CongestionController):
    cdef uint64_t _bytes_acked


cdef class Cubic(CongestionController):
    cdef Curve _curve
    cdef Curve _curve_before  # The last reduction.
    cdef double _remainder
    cdef double _underutilized_since  # inf for not.

    cdef void _begin_epoch(self, double now) noexcept


cpdef CongestionController make_controller(str name, uint32_t max_datagram_size)
