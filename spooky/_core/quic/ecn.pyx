# cython: language_level=3, boundscheck=False, wraparound=False
"""Whether a path carries ECN marks (RFC 9000 section 13.4.2 and appendix A.4)."""

cimport cython
from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.space cimport ECT_0, PacketNumberSpace

# RFC 9000 appendix A.4: packets marked before the peer must have reported some.
cdef uint64_t TEST_PACKETS = 10


@cython.final
cdef class EcnPath:
    """What is known of ECN on one path."""

    @property
    def state(self):
        """``testing``, ``unknown``, ``capable`` or ``failed``."""
        return ("testing", "unknown", "capable", "failed")[<int>self._state]

    cdef uint8_t codepoint(self) noexcept:
        """Return what to send with: 2 for ECT(0), or 0."""
        return ECT_0 if self._state == ECN_TESTING or self._state == ECN_CAPABLE else 0

    cdef void on_marked_sent(self) noexcept:
        """Count a packet sent with ECT(0)."""
        if self._state == ECN_TESTING:
            self._tested += 1
            if self._tested == TEST_PACKETS:
                self._state = ECN_UNKNOWN

    cdef void on_marked_lost(self) noexcept:
        """Give up where everything marked is lost."""
        if self._state != ECN_CAPABLE:
            self._lost += 1
            if self._lost >= self._tested and self._state == ECN_UNKNOWN:
                self._state = ECN_FAILED

    cdef void on_nothing_reported(self, PacketNumberSpace space) noexcept:
        """Judge an ACK frame without counts."""
        if space.ect0_newly_acknowledged:
            self._state = ECN_FAILED

    cdef uint64_t on_reported(
        self, PacketNumberSpace space, uint64_t ect0, uint64_t ect1, uint64_t ce, bint this_path
    ) noexcept:
        """Judge the counts of an ACK frame (RFC 9000 section 13.4.2.1).

        Arguments:
            space: The space it came in.
            ect0: Its count of packets with ECT(0); ``ect1`` and ``ce`` alike.
            this_path: Whether the largest packet newly acknowledged was sent on this path.

        Returns:
            How many packets more than before were marked on this path, as far as is known.
        """
        cdef uint64_t newly = space.ect0_newly_acknowledged
        cdef uint64_t new_ce
        if self._state == ECN_FAILED:
            return 0
        if (
            ect1 != 0
            or ect0 > space.ect0_sent
            or ce > space.ect0_sent - ect0
            or ect0 < space.ect0_reported
            or ce < space.ce_reported
            or ect0 - space.ect0_reported + (ce - space.ce_reported) < newly
        ):
            self._state = ECN_FAILED
            return 0
        new_ce = ce - space.ce_reported
        space.ect0_reported = ect0
        space.ce_reported = ce
        if newly == 0 or not this_path:
            return 0
        self._state = ECN_CAPABLE
        return new_ce
