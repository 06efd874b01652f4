# cython: language_level=3, cdivision=True
"""Pacing (RFC 9002 section 7.7): a window spread over a round trip, in short bursts."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t

# Somewhat faster than the window allows, so that pacing is not what limits it; in slow start the
# window doubles while it is sent.
cdef double GAIN = 1.25
cdef double SLOW_START_GAIN = 2.0

# A burst that buffers on a path absorb, and that one system call sends.
cdef int BURST_DATAGRAMS = 16

# Timers of event loops count milliseconds: a fast path may send in one burst what two take.
cdef double BURST_SECONDS = 0.002
cdef double SHORTEST_WAIT = 0.001

# Below what a clock tells; a simulated path may have no delay at all.
cdef double SMALLEST_RTT = 1e-6


@cython.final
cdef class Pacer:
    """A token bucket, full at first, that fills at the rate of the window."""

    def __cinit__(self):
        self._updated = -INFINITY

    cpdef void set_rate(
        self, uint64_t window, double smoothed_rtt, bint slow_start, uint32_t size, double now
    ) noexcept:
        """Follow the window.

        Arguments:
            window: Bytes.
            smoothed_rtt: Seconds.
            slow_start: Whether the window is growing exponentially.
            size: Of the largest datagram, bytes.
            now: Seconds.
        """
        cdef double gain = SLOW_START_GAIN if slow_start else GAIN
        self._refill(now)
        self._rate = gain * window / max(smoothed_rtt, SMALLEST_RTT)
        self._burst = max(<double>BURST_DATAGRAMS * size, self._rate * BURST_SECONDS)
        if self._updated == -INFINITY:
            self._tokens = self._burst
            self._updated = now

    cpdef void on_sent(self, uint32_t size, double now) noexcept:
        """Take what was sent, bytes, out of the bucket."""
        self._refill(now)
        self._tokens -= size

    cpdef Py_ssize_t room(self, double now) noexcept:
        """Return how many bytes may be sent now."""
        self._refill(now)
        return <Py_ssize_t>self._tokens if self._tokens > 0.0 else 0

    cpdef double deadline(self, uint32_t size, double now) noexcept:
        """Return when a datagram of ``size`` bytes may be sent, at least a timer's tick from now.

        0 if it may be sent now.
        """
        self._refill(now)
        if self._tokens >= size:
            return 0.0
        return now + max((size - self._tokens) / self._rate, SHORTEST_WAIT)

    cdef void _refill(self, double now) noexcept:
        if now > self._updated and self._updated != -INFINITY:
            self._tokens = min(self._tokens + (now - self._updated) * self._rate, self._burst)
            self._updated = now
