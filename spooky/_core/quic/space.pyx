# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A packet number space: what was sent in it, and what was received (RFC 9000 section 12.3)."""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport INFINITY
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from spooky._core.quic.frames cimport FRAME_ACK, FRAME_ACK_ECN
from spooky._core.quic.ranges cimport Range, RangeSet
from spooky._core.quic.sent_packet cimport SentPacket
from spooky._core.quic.wire cimport varint_size, write_varint

# What is remembered at first, and what one byte says of an ACK frame's ranges after the first.
cdef Py_ssize_t DEFAULT_RANGES_MAX = 64
cdef uint8_t RANGE_COUNT_MAX = 63

# RFC 9000 section 13.2.2: an ACK for every second ack-eliciting packet.
cdef int ACK_ELICITING_THRESHOLD = 2

# A handshake's; whoever sends more gets more.
cdef Py_ssize_t SMALLEST_CAPACITY = 8
# An idle connection keeps no more than this, whatever it sent before.
cdef Py_ssize_t IDLE_CAPACITY = 64


@cython.final
cdef class PacketNumberSpace:
    """Packet numbers sent and received.

    Packets that are not in flight take a number but are not remembered: their loss means nothing,
    and a receiver of data would remember without bound what nobody acknowledges.

    Arguments:
        max_ack_delay: How long an acknowledgment may wait for a second packet, seconds; 0 to
            acknowledge at once, as Initial and Handshake packets are.

    Attributes:
        next_packet_number: The lowest number not used yet.
        largest_acknowledged: By the peer; -1 for none.
        time_of_last_ack_eliciting: When a packet was last sent that the peer must acknowledge.
        loss_time: When the next packet is lost by time; infinite if none.
        ack_eliciting_in_flight: How many such packets are outstanding.
        received: The packet numbers received that may still be acknowledged.
        ranges_max: How many ranges of them are remembered.
        ect0_received: Packets received with ECT(0); ``ect1_received`` and ``ce_received`` alike.
    """

    def __init__(self, double max_ack_delay=0.0):
        self.largest_acknowledged = -1
        self.time_of_last_ack_eliciting = -INFINITY
        self.loss_time = INFINITY
        self.received = RangeSet()
        self.ranges_max = DEFAULT_RANGES_MAX
        self.max_ack_delay = max_ack_delay
        self._ack_at = INFINITY

    def __dealloc__(self):
        self.clear_sent()

    # --- sent ------------------------------------------------------------------------------------

    cdef Sent* at(self, Py_ssize_t index) noexcept:
        """Return what was sent, by its place in the ring."""
        return &self._sent[(self._first + index) & (self._capacity - 1)]

    cdef Py_ssize_t find(self, uint64_t number) noexcept:
        """Return the place of the first that is not below ``number``."""
        cdef Py_ssize_t low = 0, high = self._count, middle
        while low < high:
            middle = (low + high) >> 1
            if self.at(middle).number < number:
                low = middle + 1
            else:
                high = middle
        return low

    cdef int push(self, uint64_t number, SentPacket packet, SentState state) except -1:
        """Remember a packet whose number is above all before; None for a skipped number."""
        cdef Sent* sent
        if self._count == self._capacity:
            self._grow()
        sent = self.at(self._count)
        sent.number = number
        sent.state = state
        sent.packet = NULL
        if packet is not None:
            Py_INCREF(packet)
            sent.packet = <PyObject*>packet
        self._count += 1
        return 0

    cdef SentPacket take(self, Sent* sent, SentState state):
        """Return an outstanding packet, which is then known to be acknowledged or lost."""
        cdef SentPacket packet = <SentPacket>sent.packet
        sent.packet = NULL
        sent.state = state
        if packet.ack_eliciting:
            self.ack_eliciting_in_flight -= 1
        Py_DECREF(packet)
        return packet

    cdef void trim(self) noexcept:
        """Forget what nothing can be learnt about any more.

        A skipped number stays until one above it is acknowledged: an optimistic ACK that covers
        it comes at the latest together with that one.
        """
        cdef Sent* sent
        while self._count:
            sent = self.at(0)
            if sent.state == OUTSTANDING:
                return
            if sent.state == SKIPPED and <int64_t>sent.number > self.largest_acknowledged:
                return
            self._first = (self._first + 1) & (self._capacity - 1)
            self._count -= 1
        if self._capacity > IDLE_CAPACITY:
            self.clear_sent()

    cdef void clear_sent(self) noexcept:
        """Forget everything that was sent but the numbers used."""
        cdef Py_ssize_t index
        cdef Sent* sent
        for index in range(self._count):
            sent = self.at(index)
            if sent.packet != NULL:
                Py_DECREF(<SentPacket>sent.packet)
        free(self._sent)
        self._sent = NULL
        self._first = 0
        self._count = 0
        self._capacity = 0
        self.ack_eliciting_in_flight = 0
        self.loss_time = INFINITY

    cdef int _grow(self) except -1:
        """Double the ring, and straighten it."""
        cdef Py_ssize_t capacity = max(2 * self._capacity, SMALLEST_CAPACITY)
        cdef Py_ssize_t straight = self._capacity - self._first
        cdef Sent* sent = <Sent*>malloc(capacity * sizeof(Sent))
        if sent == NULL:
            raise MemoryError()
        if self._count:
            memcpy(sent, self._sent + self._first, straight * sizeof(Sent))
            memcpy(sent + straight, self._sent, self._first * sizeof(Sent))
        free(self._sent)
        self._sent = sent
        self._first = 0
        self._capacity = capacity
        return 0

    # --- received --------------------------------------------------------------------------------

    cpdef bint is_duplicate(self, uint64_t number) noexcept:
        """Return whether a packet was received before, or is too old to tell."""
        return number < self._forgotten_below or self.received.contains(number)

    cpdef int on_packet_received(
        self, uint64_t number, bint ack_eliciting, uint8_t ecn, double now
    ) except -1:
        """Note a packet that is no duplicate and was processed; always returns 0.

        Arguments:
            number: Its packet number.
            ack_eliciting: Whether it holds a frame that must be acknowledged.
            ecn: The ECN field it arrived with; 3 for CE.
            now: Seconds.
        """
        cdef RangeSet received = self.received
        cdef uint64_t expected = received.items[received.count - 1].stop if received.count else 0
        received.add(number, number + 1)
        if received.count > self.ranges_max:
            received.keep_newest(self.ranges_max)
            self._forgotten_below = received.items[0].start
        if number >= expected:
            self._largest_received_at = now
        if ecn == ECT_0:
            self.ect0_received += 1
        elif ecn == CE:
            self.ce_received += 1
        elif ecn == ECT_1:
            self.ect1_received += 1
        if not ack_eliciting:
            return 0
        self._unacknowledged += 1
        # At once too when it is out of order or marked (RFC 9000 section 13.2.1).
        if (
            self._unacknowledged >= ACK_ELICITING_THRESHOLD
            or number != expected
            or ecn == CE
            or self.max_ack_delay == 0.0
        ):
            self._ack_at = -INFINITY
        else:
            self._ack_at = now + self.max_ack_delay
        return 0

    cpdef bint ack_wanted(self) noexcept:
        """Return whether an ack-eliciting packet came since the last ACK, due or not."""
        return self._unacknowledged > 0

    cpdef bint ack_due(self, double now) noexcept:
        """Return whether an ACK must be sent now."""
        return self._ack_at <= now

    cpdef double ack_deadline(self) noexcept:
        """Return when an ACK must be sent: infinite for never, -infinite for at once."""
        return self._ack_at

    cdef Py_ssize_t write_ack(
        self, uint8_t* out, Py_ssize_t room, uint8_t ack_delay_exponent, double now
    ) noexcept:
        """Write an ACK frame with as many of the newest ranges as fit, and count it as sent.

        Returns:
            Its length; 0 if nothing was received or not even the newest range fits.
        """
        cdef Py_ssize_t index = self.received.count - 1
        cdef Range* item
        cdef bint counts = self.ect0_received or self.ect1_received or self.ce_received
        cdef uint64_t delay = 0, largest, gap, length
        cdef uint8_t* at = out
        cdef uint8_t* range_count
        cdef Py_ssize_t size
        if index < 0:
            return 0
        item = self.received.items + index
        if now > self._largest_received_at:
            delay = <uint64_t>((now - self._largest_received_at) * 1e6) >> ack_delay_exponent
        largest = item.stop - 1
        length = largest - item.start
        # The type and the range count take one byte each.
        size = 2 + varint_size(largest) + varint_size(delay) + varint_size(length)
        if counts:
            size += (
                varint_size(self.ect0_received)
                + varint_size(self.ect1_received)
                + varint_size(self.ce_received)
            )
        if size > room:
            return 0
        at[0] = FRAME_ACK_ECN if counts else FRAME_ACK
        at = write_varint(write_varint(at + 1, largest), delay)
        range_count = at
        range_count[0] = 0
        at = write_varint(at + 1, length)
        while index > 0 and range_count[0] < RANGE_COUNT_MAX:
            # RFC 9000 section 19.3.1: a gap and a length are one less than what they count.
            gap = item.start - (item - 1).stop - 1
            item -= 1
            index -= 1
            length = item.stop - item.start - 1
            size += varint_size(gap) + varint_size(length)
            if size > room:
                break
            at = write_varint(write_varint(at, gap), length)
            range_count[0] += 1
        if counts:
            at = write_varint(at, self.ect0_received)
            at = write_varint(at, self.ect1_received)
            at = write_varint(at, self.ce_received)
        self._unacknowledged = 0
        self._ack_at = INFINITY
        return at - out

    def ack_frame(self, Py_ssize_t room, uint8_t ack_delay_exponent, double now):
        """Return what ``write_ack`` writes into ``room`` bytes; empty if it does not fit."""
        cdef bytearray out = bytearray(room)
        cdef Py_ssize_t size = self.write_ack(out, room, ack_delay_exponent, now)
        return bytes(out[:size])

    cpdef void on_ack_acknowledged(self, uint64_t largest) noexcept:
        """Forget what the peer knows that we received (RFC 9000 section 13.2.4).

        Arguments:
            largest: The largest number in an ACK frame that the peer has received.
        """
        # The largest of all stays: what is out of order is told by it.
        self.received.remove_below(largest)
        if largest > self._forgotten_below:
            self._forgotten_below = largest
