"""C declarations of loss detection (RFC 9002) over the three packet number spaces."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from spooky._core.quic.congestion cimport CongestionController
from spooky._core.quic.ecn cimport EcnPath
from spooky._core.quic.pacer cimport Pacer
from spooky._core.quic.ranges cimport RangeSet
from spooky._core.quic.reordering cimport Reordering
from spooky._core.quic.sent_packet cimport SentPacket
from spooky._core.quic.space cimport PacketNumberSpace, Sent


cdef class Recovery:
    cdef readonly PacketNumberSpace initial
    cdef readonly PacketNumberSpace handshake
    cdef readonly PacketNumberSpace application
    cdef readonly CongestionController congestion
    cdef readonly Pacer pacer
    cdef readonly EcnPath ecn
    cdef readonly Reordering reordering
    cdef str _algorithm

    # What the connection tells; all False at first.
    cdef public bint handshake_confirmed
    cdef public bint has_handshake_keys
    # Also set by an acknowledgment of a Handshake packet (RFC 9002 section 6.2.2.1).
    cdef public bint peer_completed_address_validation
    cdef public bint amplification_limited  # A server that may send nothing before it receives.
    cdef public double max_ack_delay  # The peer's, seconds.

    cdef readonly uint64_t bytes_in_flight
    cdef readonly int pto_count
    cdef readonly int probe_epoch  # For which on_timeout asked for probes.
    cdef readonly double latest_rtt
    cdef readonly double smoothed_rtt
    cdef readonly double rttvar
    cdef readonly double min_rtt  # Infinite without a sample.
    cdef double _first_sample_at
    cdef double _last_event
    cdef double _window_used_at
    cdef uint32_t _path
    cdef uint64_t _random
    cdef uint64_t _next_skip
    cdef uint64_t _skip_period
    # Of the ACK frame that was last processed.
    cdef bint _largest_increased
    cdef SentPacket _largest_packet
    cdef bint _ack_eliciting_acknowledged
    cdef uint64_t _growth
    cdef bint _underutilized

    cdef PacketNumberSpace space(self, int epoch)
    # Returns the number to use for the next packet; in the application space it sometimes leaves
    # one out first (RFC 9000 section 21.4).
    cpdef uint64_t skip_if_due(self, int epoch) except? 0
    cpdef int on_packet_sent(self, int epoch, SentPacket packet, double now) except -1
    # Appends to `acked` and `lost`; returns how many were newly acknowledged. ValueError: the
    # peer acknowledged what was never sent.
    cpdef int on_ack_received(
        self, int epoch, RangeSet ranges, double ack_delay, double now, list acked, list lost
    ) except -1
    # After every on_ack_received, with `present` False for an ACK frame without counts. Returns 1
    # if they show new congestion.
    cpdef int on_ecn_counts(
        self, int epoch, bint present, uint64_t ect0, uint64_t ect1, uint64_t ce, double now
    ) except -1
    cpdef uint8_t ecn_codepoint(self) noexcept  # What to mark packets with: 0 or 2, ECT(0).
    # When `deadline` is reached: returns how many ack-eliciting probes to send now in
    # `probe_epoch`, whatever the congestion window.
    cpdef int on_timeout(self, double now, list lost) except -1
    cpdef double deadline(self) noexcept
    cpdef double probe_timeout(self) noexcept  # RFC 9002 section 6.2.1, without backoff.
    # What probes should repeat: the oldest that are outstanding.
    cpdef list oldest_ack_eliciting(self, int epoch, int count)
    cpdef void discard_space(self, int epoch, double now) noexcept
    # Takes back all that is outstanding (Retry, 0-RTT refused), to be sent again.
    cpdef int forget_sent(self, int epoch, list packets, double now) except -1
    cpdef int reset_for_path(self, double now) except -1  # RFC 9000 section 9.4.
    cpdef void set_max_datagram_size(self, uint32_t size, double now) noexcept

    cpdef Py_ssize_t congestion_room(self) noexcept
    # Bytes that window and pacer let out now.
    cpdef Py_ssize_t sending_room(self, double now) noexcept
    cpdef double pacing_deadline(self, double now) noexcept  # 0: may send.

    cdef int _start_path(self, uint32_t max_datagram_size, double now) except -1
    cdef void _pace(self, double now) noexcept
    cdef void _plan_skip(self) noexcept
    cdef int _take_acknowledged(
        self, PacketNumberSpace space, RangeSet ranges, list acked
    ) except -1
    cdef void _count_acknowledged(self, PacketNumberSpace space, SentPacket packet) noexcept
    cdef void _leave_flight(self, SentPacket packet) noexcept
    cdef void _sample_rtt(self, int epoch, double ack_delay, double now) noexcept
    cdef int _take_lost(self, PacketNumberSpace space, double now, list lost) except -1
    cdef double _longest_rtt(self) noexcept
    cdef PacketNumberSpace _earliest_loss(self)
    cdef double _pto_deadline(self, int* epoch) noexcept
    cdef double _pto_of(self, int epoch, double base) noexcept
