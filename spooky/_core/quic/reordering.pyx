# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What a path that reorders is allowed before a packet counts as lost (RFC 9002 section 6.1).

A packet that was declared lost and is acknowledged after all was only late. The thresholds rise to
what would have waited for it, as TCP's do (RFC 8985 section 6.2), and if all were late that the
window was reduced for, nothing was lost and the reduction is taken back (RFC 9438 section 4.9.2).
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from spooky._core.quic.ranges cimport RangeSet
from spooky._core.quic.sent_packet cimport SentPacket

# RFC 9002 sections 6.1.1 and 6.1.2: where nothing is known of a path.
cdef uint64_t PACKET_THRESHOLD = 3
cdef double TIME_THRESHOLD = 9.0 / 8.0

# What Linux takes for the most that TCP's may rise to; time is what decides then.
cdef uint64_t PACKET_THRESHOLD_MAX = 300

# RFC 8985 section 6.2: no more than a round trip is waited beyond the first.
cdef double TIME_THRESHOLD_MAX = 2.0

# RFC 8985 section 6.2: so many reductions without a late packet, and the path is as any other.
cdef int CLEAN_PERIODS_MAX = 16

# How long a lost packet may still turn out to be late, round trips since it was sent; and how many
# are remembered: a window of 180 KB, of which a burst of late packets is a part.
cdef double LATENESS_MAX = 4.0
cdef enum:
    LOSSES_MAX = 128


@cython.final
cdef class Reordering:
    """The thresholds of one path, and the losses that may yet turn out to be none.

    Attributes:
        packet_threshold: How many numbers later packets are before one is lost.
        time_threshold: How many round trips one may take before it is lost.
    """

    def __cinit__(self):
        self._reset()

    def __dealloc__(self):
        free(self._losses)

    cdef void _reset(self) noexcept:
        self.packet_threshold = PACKET_THRESHOLD
        self.time_threshold = TIME_THRESHOLD
        self._clean_periods = 0

    cdef void begin_period(self) noexcept:
        """Count what is lost from now on as the reason why the window was reduced."""
        if self._period_is_clean:
            self._clean_periods += 1
            if self._clean_periods >= CLEAN_PERIODS_MAX:
                self._reset()
        self._period += 1
        self._period_is_clean = True
        self._missing = 0
        self._undoable = True

    cdef void keep_reduction(self) noexcept:
        """Note that there is another reason for the reduction than losses that may be none."""
        self._undoable = False

    cdef int on_lost_packets(self, list lost, Py_ssize_t first, uint32_t path) except -1:
        """Remember the packets of a path in a list, from a place in it, that are declared lost."""
        cdef SentPacket packet
        cdef Py_ssize_t index
        for index in range(first, len(lost)):
            packet = lost[index]
            if packet.path == path and not packet.is_mtu_probe:
                self.on_lost(packet.number, packet.time_sent)
        return 0

    cdef int on_lost(self, uint64_t number, double time_sent) except -1:
        """Remember a packet that is declared lost."""
        cdef Loss* loss
        self._missing += 1
        if self._count == LOSSES_MAX:
            # Not all are watched, so it will not be known that all arrived.
            return 0
        if self._losses == NULL:
            self._losses = <Loss*>malloc(LOSSES_MAX * sizeof(Loss))
            if self._losses == NULL:
                raise MemoryError()
        loss = &self._losses[self._count]
        loss.number = number
        loss.time_sent = time_sent
        loss.period = self._period
        self._count += 1
        return 0

    cdef bint on_acknowledged(
        self, RangeSet ranges, uint64_t largest, double rtt, double now
    ) noexcept:
        """Look for lost packets among what is acknowledged.

        Arguments:
            ranges: What an ACK frame acknowledges.
            largest: The largest number that is acknowledged by now.
            rtt: Seconds; above zero.
            now: Seconds.

        Returns:
            Whether everything has arrived for which the window was reduced the last time.
        """
        cdef Py_ssize_t index, kept = 0
        cdef Loss* loss
        cdef bint late = False
        for index in range(self._count):
            loss = &self._losses[index]
            if ranges.contains(loss.number):
                self.packet_threshold = max(
                    self.packet_threshold, min(largest - loss.number + 1, PACKET_THRESHOLD_MAX)
                )
                self.time_threshold = max(
                    self.time_threshold, min((now - loss.time_sent) / rtt, TIME_THRESHOLD_MAX)
                )
                self._clean_periods = 0
                if loss.period == self._period:
                    late = True
                    self._missing -= 1
                    self._period_is_clean = False
            elif now - loss.time_sent <= LATENESS_MAX * rtt:
                self._losses[kept] = loss[0]
                kept += 1
        self._count = kept
        if late and self._missing == 0 and self._undoable:
            self._undoable = False
            return True
        return False
