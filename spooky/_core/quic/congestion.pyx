# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Congestion control: NewReno (RFC 9002 section 7) and CUBIC (RFC 9438), with HyStart++ (RFC 9406).

Windows are in bytes, times in seconds.
"""

cimport cython
from libc.math cimport INFINITY, cbrt
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t

# RFC 9002 section 7.2.
cdef uint64_t INITIAL_WINDOW_DATAGRAMS = 10
cdef uint64_t INITIAL_WINDOW_BYTES = 14720
cdef uint64_t MINIMUM_WINDOW_DATAGRAMS = 2

# RFC 9406 section 4.3, in its names.
cdef double MIN_RTT_THRESH = 0.004
cdef double MAX_RTT_THRESH = 0.016
cdef double MIN_RTT_DIVISOR = 8.0
cdef int N_RTT_SAMPLE = 8
cdef uint64_t CSS_GROWTH_DIVISOR = 4
cdef int CSS_ROUNDS = 5

cdef uint64_t NEW_RENO_DIVISOR = 2

# RFC 9438 section 4: segments a cubic second, the reduction, and alpha below the prior window.
cdef double CUBIC_C = 0.4
cdef double CUBIC_BETA = 0.7
cdef double CUBIC_ALPHA = 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA)
cdef double CUBIC_MAX_GROWTH = 1.5


cdef class CongestionController:
    """What both algorithms share: slow start, and when a reaction is due.

    Arguments:
        max_datagram_size: Bytes.

    Attributes:
        window: Bytes that may be in flight.
        slow_start_threshold: Bytes; 2**64 - 1 until the first reduction.
        recovery_start: When the last recovery period began; -infinite for none.
        max_datagram_size: Bytes.
    """

    def __init__(self, uint32_t max_datagram_size):
        self.max_datagram_size = max_datagram_size
        self.window = min(
            INITIAL_WINDOW_DATAGRAMS * max_datagram_size,
            max(INITIAL_WINDOW_BYTES, MINIMUM_WINDOW_DATAGRAMS * max_datagram_size),
        )
        self.slow_start_threshold = UINT64_MAX
        self.recovery_start = -INFINITY
        self._round_start = -INFINITY
        self._last_round_min_rtt = INFINITY
        self._current_round_min_rtt = INFINITY
        self._css_baseline_min_rtt = INFINITY

    cpdef bint in_slow_start(self) noexcept:
        """Return whether the window still grows exponentially."""
        return self.window < self.slow_start_threshold

    cpdef void set_max_datagram_size(self, uint32_t size) noexcept:
        """Note that the path carries datagrams of another size, bytes."""
        self.max_datagram_size = size
        self.window = max(self.window, self._minimum())

    cpdef void on_rtt_sample(self, double rtt, double time_sent, double now) noexcept:
        """Look for the growing delay that ends slow start (RFC 9406); before ``on_acked``.

        Arguments:
            rtt: The sample, seconds.
            time_sent: When the packet was sent that gave it.
            now: Seconds.
        """
        cdef double threshold
        # Later slow starts end at the threshold that the first one found.
        if self.slow_start_threshold != UINT64_MAX:
            return
        if time_sent >= self._round_start:
            self._begin_round(now)
        self._current_round_min_rtt = min(self._current_round_min_rtt, rtt)
        self._rtt_sample_count += 1
        if self._rtt_sample_count < N_RTT_SAMPLE:
            return
        if self._css_baseline_min_rtt != INFINITY:
            if self._current_round_min_rtt < self._css_baseline_min_rtt:
                self._css_baseline_min_rtt = INFINITY
        elif self._last_round_min_rtt != INFINITY:
            threshold = self._last_round_min_rtt / MIN_RTT_DIVISOR
            threshold = max(MIN_RTT_THRESH, min(threshold, MAX_RTT_THRESH))
            if self._current_round_min_rtt >= self._last_round_min_rtt + threshold:
                self._css_baseline_min_rtt = self._current_round_min_rtt
                self._css_rounds = 0

    cpdef void on_acked(self, uint64_t size, double smoothed_rtt, double now) noexcept:
        """Grow the window.

        Arguments:
            size: Bytes acknowledged that were sent after ``recovery_start`` while the window was
                in use.
            smoothed_rtt: Seconds.
            now: Seconds.
        """
        if not self.in_slow_start():
            self._avoid_congestion(size, smoothed_rtt, now)
            return
        # Paced, so RFC 9406 section 4.2 sets no limit on what one ACK may add.
        if self._css_baseline_min_rtt != INFINITY:
            size //= CSS_GROWTH_DIVISOR
        self.window += min(size, self.slow_start_threshold - self.window)

    cpdef void on_underutilized(self, double now) noexcept:
        """Note that what was acknowledged had not filled the window (RFC 9002 section 7.8)."""

    cpdef void on_congestion(self, double time_sent, double now) noexcept:
        """React to a loss or ECN-CE mark, once a round trip.

        Arguments:
            time_sent: When the packet was sent that was lost or marked.
            now: Seconds.
        """
        if time_sent <= self.recovery_start:
            return
        self._window_before = self.window
        self._threshold_before = self.slow_start_threshold
        self._recovery_start_before = self.recovery_start
        self.recovery_start = now
        self._css_baseline_min_rtt = INFINITY
        self._reduce()

    cpdef void on_spurious_congestion(self) noexcept:
        """Take the last reduction back: nothing was lost (RFC 9438 section 4.9.2)."""
        self.window = max(self.window, self._window_before)
        self.slow_start_threshold = self._threshold_before
        self.recovery_start = self._recovery_start_before

    cpdef void on_persistent_congestion(self) noexcept:
        """Start again from the smallest window (RFC 9002 section 7.6.2)."""
        self.window = self._minimum()
        self.recovery_start = -INFINITY

    cdef void _avoid_congestion(self, uint64_t size, double smoothed_rtt, double now) noexcept:
        """Grow the window in congestion avoidance."""

    cdef void _reduce(self) noexcept:
        """Reduce window and threshold once."""

    cdef uint64_t _minimum(self) noexcept:
        """Return the smallest window, bytes."""
        return MINIMUM_WINDOW_DATAGRAMS * self.max_datagram_size

    cdef void _begin_round(self, double now) noexcept:
        """Begin a round of HyStart++: all that was in flight at the last one is acknowledged."""
        self._round_start = now
        self._last_round_min_rtt = self._current_round_min_rtt
        self._current_round_min_rtt = INFINITY
        self._rtt_sample_count = 0
        if self._css_baseline_min_rtt != INFINITY:
            self._css_rounds += 1
            if self._css_rounds >= CSS_ROUNDS:
                self.slow_start_threshold = self.window


@cython.final
cdef class NewReno(CongestionController):
    """RFC 9002 section 7: a datagram a window, half after a loss."""

    cpdef void on_persistent_congestion(self) noexcept:
        """Start again from the smallest window (RFC 9002 section 7.6.2)."""
        CongestionController.on_persistent_congestion(self)
        self._bytes_acked = 0

    cdef void _avoid_congestion(self, uint64_t size, double smoothed_rtt, double now) noexcept:
        self._bytes_acked += size
        while self._bytes_acked >= self.window:
            self._bytes_acked -= self.window
            self.window += self.max_datagram_size

    cdef void _reduce(self) noexcept:
        self.window = max(self.window // NEW_RENO_DIVISOR, self._minimum())
        self.slow_start_threshold = self.window
        self._bytes_acked = 0


@cython.final
cdef class Cubic(CongestionController):
    """RFC 9438: growth by the time since the last reduction."""

    def __init__(self, uint32_t max_datagram_size):
        CongestionController.__init__(self, max_datagram_size)
        self._curve.epoch_start = -INFINITY
        self._underutilized_since = INFINITY

    cpdef void on_underutilized(self, double now) noexcept:
        """Stop the clock of the cubic function (RFC 9438 section 5.8)."""
        self._underutilized_since = min(self._underutilized_since, now)

    cpdef void on_spurious_congestion(self) noexcept:
        """Take the last reduction back: nothing was lost (RFC 9438 section 4.9.2)."""
        CongestionController.on_spurious_congestion(self)
        self._curve = self._curve_before

    cpdef void on_persistent_congestion(self) noexcept:
        """Start again from the smallest window, forgetting the last one (RFC 9438 section 4.8)."""
        CongestionController.on_persistent_congestion(self)
        self._curve.epoch_start = -INFINITY
        self._curve.window_max = 0.0

    cdef void _avoid_congestion(self, uint64_t size, double smoothed_rtt, double now) noexcept:
        cdef double scale = CUBIC_C * self.max_datagram_size
        cdef double window = self.window
        cdef double share = size / window
        cdef double elapsed, target, alpha
        if self._curve.epoch_start == -INFINITY:
            self._begin_epoch(now)
        elif self._underutilized_since < now:
            self._curve.epoch_start += now - max(self._underutilized_since, self._curve.epoch_start)
        self._underutilized_since = INFINITY
        elapsed = now - self._curve.epoch_start - self._curve.k
        alpha = CUBIC_ALPHA if self._curve.window_estimate < self._curve.window_prior else 1.0
        self._curve.window_estimate += alpha * self.max_datagram_size * share
        if self._curve.window_max + scale * elapsed ** 3 < self._curve.window_estimate:
            # Section 4.3: where Reno would be faster, grow as it would.
            if self._curve.window_estimate > window:
                self.window = <uint64_t>self._curve.window_estimate
            return
        target = self._curve.window_max + scale * (elapsed + smoothed_rtt) ** 3
        target = max(window, min(target, CUBIC_MAX_GROWTH * window))
        self._remainder += (target - window) * share
        self.window += <uint64_t>self._remainder
        self._remainder -= <double><uint64_t>self._remainder

    cdef void _reduce(self) noexcept:
        cdef double window = self.window
        self._curve_before = self._curve
        self._curve.window_prior = window
        # Section 4.7, fast convergence: a window below the last maximum leaves room for others.
        if window < self._curve.window_max:
            self._curve.window_max = window * (1.0 + CUBIC_BETA) / 2.0
        else:
            self._curve.window_max = window
        self.window = max(<uint64_t>(window * CUBIC_BETA), self._minimum())
        self.slow_start_threshold = self.window
        self._curve.epoch_start = -INFINITY

    cdef void _begin_epoch(self, double now) noexcept:
        """Begin congestion avoidance: K is when the cubic function reaches the last maximum."""
        cdef double window = self.window
        self._curve.epoch_start = now
        self._curve.window_estimate = window
        self._remainder = 0.0
        self._curve.k = 0.0
        if window < self._curve.window_max:
            self._curve.k = cbrt(
                (self._curve.window_max - window) / (CUBIC_C * self.max_datagram_size)
            )
        else:
            self._curve.window_max = window


cpdef CongestionController make_controller(str name, uint32_t max_datagram_size):
    """Return a controller by name.

    Arguments:
        name: ``cubic`` or ``reno``.
        max_datagram_size: Bytes.

    Raises:
        ValueError: There is no such algorithm.
    """
    if name == "cubic":
        return Cubic(max_datagram_size)
    if name == "reno":
        return NewReno(max_datagram_size)
    raise ValueError(f"no congestion control is called {name!r}")
