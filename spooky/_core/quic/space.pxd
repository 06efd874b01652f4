"""C declarations of a packet number space: what was sent in it, and what was received."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t

from spooky._core.quic.ranges cimport RangeSet
from spooky._core.quic.sent_packet cimport SentPacket

cdef enum:
    SPACE_INITIAL = 0
    SPACE_HANDSHAKE = 1
    SPACE_APPLICATION = 2
    LEVEL_EARLY = 3  # No space of its own: 0-RTT packets are numbered with those of 1-RTT.

cdef enum:
    # The ECN field of an IP header (RFC 3168 section 5).
    ECT_1 = 1
    ECT_0 = 2
    CE = 3


cdef enum SentState:
    OUTSTANDING
    ACKNOWLEDGED
    LOST
    SKIPPED  # No packet has this number (RFC 9000 section 21.4).


cdef struct Sent:
    uint64_t number
    PyObject* packet  # An owned reference while it is outstanding, else NULL.
    SentState state


cdef class PacketNumberSpace:
    # --- sent: in-flight packets by ascending number, in a ring
    cdef readonly uint64_t next_packet_number
    cdef readonly int64_t largest_acknowledged  # -1: none.
    cdef readonly double time_of_last_ack_eliciting
    cdef readonly double loss_time  # When the next packet is lost by time; infinite if none.
    cdef readonly Py_ssize_t ack_eliciting_in_flight
    cdef Sent* _sent
    cdef Py_ssize_t _first
    cdef Py_ssize_t _count
    cdef Py_ssize_t _capacity  # A power of two, or 0.
    # ECN (RFC 9000 section 13.4.2): packets sent with ECT(0), and what the peer last reported.
    cdef uint64_t ect0_sent
    cdef uint64_t ect0_reported
    cdef uint64_t ce_reported
    cdef uint64_t ect0_newly_acknowledged  # By the last ACK frame.

    cdef Sent* at(self, Py_ssize_t index) noexcept
    cdef Py_ssize_t find(self, uint64_t number) noexcept  # The first not below `number`.
    cdef int push(self, uint64_t number, SentPacket packet, SentState state) except -1
    cdef SentPacket take(self, Sent* sent, SentState state)
    cdef void trim(self) noexcept
    cdef void clear_sent(self) noexcept
    cdef int _grow(self) except -1

    # --- received (RFC 9000 section 13.2)
    cdef readonly RangeSet received
    cdef public Py_ssize_t ranges_max
    cdef readonly uint64_t ect0_received
    cdef readonly uint64_t ect1_received
    cdef readonly uint64_t ce_received
    cdef public double max_ack_delay  # Ours, seconds; 0 where every packet is acknowledged at once.
    cdef uint64_t _forgotten_below  # What is lower counts as received.
    cdef double _largest_received_at
    cdef int _unacknowledged  # Ack-eliciting packets received since an ACK was sent.
    cdef double _ack_at

    cpdef bint is_duplicate(self, uint64_t number) noexcept
    cpdef int on_packet_received(
        self, uint64_t number, bint ack_eliciting, uint8_t ecn, double now
    ) except -1
    cpdef bint ack_due(self, double now) noexcept
    cpdef bint ack_wanted(self) noexcept  # Something ack-eliciting was not acknowledged yet.
    cpdef double ack_deadline(self) noexcept
    cdef Py_ssize_t write_ack(
        self, uint8_t* out, Py_ssize_t room, uint8_t ack_delay_exponent, double now
    ) noexcept
    # With the largest number of an ACK frame that we sent and that the peer has received.
    cpdef void on_ack_acknowledged(self, uint64_t largest) noexcept
