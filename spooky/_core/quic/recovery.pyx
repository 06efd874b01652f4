# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Loss detection (RFC 9002) over the three packet number spaces, with its RTT estimator.

It owns congestion control and pacing. A packet that is acknowledged or lost is handed back to the
connection, which knows what its frames meant.
"""

cimport cython
from cpython.object cimport PyObject
from libc.math cimport INFINITY, fabs, ldexp
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from spooky._core.hashing cimport GOLDEN, mix
from spooky._core.quic.congestion cimport make_controller
from spooky._core.quic.ecn cimport EcnPath
from spooky._core.quic.pacer cimport Pacer
from spooky._core.quic.ranges cimport Range, RangeSet
from spooky._core.quic.reordering cimport Reordering
from spooky._core.quic.sent_packet cimport SentPacket
from spooky._core.quic.space cimport (
    ACKNOWLEDGED,
    ECT_0,
    LOST,
    OUTSTANDING,
    SKIPPED,
    SPACE_APPLICATION,
    SPACE_HANDSHAKE,
    SPACE_INITIAL,
    PacketNumberSpace,
    Sent,
)

# RFC 9002 sections 6.1.2, 6.2 and 7.6.1.
cdef double GRANULARITY = 0.001
cdef double INITIAL_RTT = 0.333
cdef double PERSISTENT_CONGESTION_THRESHOLD = 3.0
cdef int PROBES = 2

# RFC 9000 section 18.2: what a peer that says nothing may delay, and what we may.
cdef double DEFAULT_MAX_ACK_DELAY = 0.025

# How seldom a packet number is left out in the end (RFC 9000 section 21.4).
cdef uint64_t LAST_SKIP_PERIOD = 32768



@cython.final
cdef class Recovery:
    """What a connection has in flight, and when to give it up.

    Arguments:
        is_client: Which side this is.
        congestion_control: ``cubic`` or ``reno``.
        max_datagram_size: What the path carries, bytes of UDP payload.
        seed: 64 random bits that the peer cannot know, for the packet numbers that are skipped.
        now: Seconds.
        skip_period: After how many packets a number is left out first; later ever more.

    Attributes:
        initial: The space of Initial packets; ``handshake`` and ``application`` alike.
        congestion: The congestion controller of the current path.
        pacer: The pacer of the current path.
        ecn: What is known of ECN on the current path.
        reordering: How late a packet may be on the current path.
        handshake_confirmed: Told by the connection (RFC 9001 section 4.1.2).
        has_handshake_keys: Told by the connection.
        peer_completed_address_validation: Whether the peer will answer without more from us.
        amplification_limited: Told by a server that may send nothing until it receives more.
        max_ack_delay: The peer's transport parameter, seconds.
        bytes_in_flight: On the current path.
        pto_count: Probe timeouts since the last acknowledgment.
        probe_epoch: The space that the last probe timeout was for.
        latest_rtt: Seconds, as ``smoothed_rtt``, ``rttvar`` and ``min_rtt``.

    Raises:
        ValueError: There is no such congestion control.
    """

    def __init__(
        self,
        bint is_client,
        str congestion_control,
        uint32_t max_datagram_size,
        uint64_t seed,
        double now,
        uint64_t skip_period,
    ):
        self.initial = PacketNumberSpace()
        self.handshake = PacketNumberSpace()
        self.application = PacketNumberSpace(DEFAULT_MAX_ACK_DELAY)
        self.max_ack_delay = DEFAULT_MAX_ACK_DELAY
        # A client's first packet proves to a server that nothing blocks it.
        self.peer_completed_address_validation = not is_client
        self._algorithm = congestion_control
        self._last_event = now
        self._random = seed
        self._skip_period = skip_period
        self._plan_skip()
        self._start_path(max_datagram_size, now)

    cdef PacketNumberSpace space(self, int epoch):
        """Return a space by its number."""
        if epoch == SPACE_APPLICATION:
            return self.application
        return self.handshake if epoch == SPACE_HANDSHAKE else self.initial

    # --- sending ---------------------------------------------------------------------------------

    cpdef uint64_t skip_if_due(self, int epoch) except? 0:
        """Return the number for the next packet, now and then leaving one out.

        A peer that acknowledges what it did not receive, to be sent more than its path carries,
        also acknowledges what was never sent (RFC 9000 section 21.4).
        """
        cdef PacketNumberSpace space = self.space(epoch)
        if epoch == SPACE_APPLICATION and space.next_packet_number >= self._next_skip:
            space.push(space.next_packet_number, None, SKIPPED)
            space.next_packet_number += 1
            self._plan_skip()
        return space.next_packet_number

    cpdef int on_packet_sent(self, int epoch, SentPacket packet, double now) except -1:
        """Note a packet as it is sent; always returns 0.

        Raises:
            ValueError: Its number is below one that was used.
        """
        cdef PacketNumberSpace space = self.space(epoch)
        if packet.number < space.next_packet_number:
            raise ValueError("packet numbers must increase")
        space.next_packet_number = packet.number + 1
        packet.time_sent = now
        packet.path = self._path
        if packet.ecn == ECT_0:
            space.ect0_sent += 1
            self.ecn.on_marked_sent()
        if not packet.in_flight:
            return 0
        space.push(packet.number, packet, OUTSTANDING)
        self.bytes_in_flight += packet.size
        self.pacer.on_sent(packet.size, now)
        if packet.ack_eliciting:
            space.ack_eliciting_in_flight += 1
            space.time_of_last_ack_eliciting = now
            self._last_event = now
        # RFC 9002 section 7.8. A window that doubles in a round trip counts as used by half.
        if self.bytes_in_flight + self.congestion.max_datagram_size > self.congestion.window or (
            2 * self.bytes_in_flight >= self.congestion.window and self.congestion.in_slow_start()
        ):
            self._window_used_at = now
        return 0

    cpdef Py_ssize_t congestion_room(self) noexcept:
        """Return how many bytes the congestion window still lets out."""
        if self.bytes_in_flight >= self.congestion.window:
            return 0
        return self.congestion.window - self.bytes_in_flight

    cpdef Py_ssize_t sending_room(self, double now) noexcept:
        """Return how many bytes congestion window and pacer let out now."""
        return min(self.congestion_room(), self.pacer.room(now))

    cpdef double pacing_deadline(self, double now) noexcept:
        """Return when the pacer lets out a full datagram; 0 if now."""
        return self.pacer.deadline(self.congestion.max_datagram_size, now)

    cpdef uint8_t ecn_codepoint(self) noexcept:
        """Return the codepoint to send with: 2 for ECT(0), 0 where the path failed or is tested."""
        return self.ecn.codepoint()

    # --- acknowledgments -------------------------------------------------------------------------

    cpdef int on_ack_received(
        self, int epoch, RangeSet ranges, double ack_delay, double now, list acked, list lost
    ) except -1:
        """Process an ACK frame (RFC 9002 appendix A.7).

        Arguments:
            epoch: The space it came in: 0 Initial, 1 Handshake, 2 application.
            ranges: What it acknowledges.
            ack_delay: What it says of its delay, seconds.
            now: Seconds.
            acked: Receives the packets that are newly acknowledged.
            lost: Receives the packets that are thereby lost.

        Returns:
            How many packets are newly acknowledged.

        Raises:
            ValueError: It acknowledges a packet that was never sent.
        """
        cdef PacketNumberSpace space = self.space(epoch)
        cdef uint64_t largest
        cdef int count
        cdef double recovery_start
        self._largest_increased = False
        space.ect0_newly_acknowledged = 0
        if ranges.count == 0:
            return 0
        largest = ranges.items[ranges.count - 1].stop - 1
        if largest >= space.next_packet_number:
            raise ValueError("a packet was acknowledged that was never sent")
        if <int64_t>largest > space.largest_acknowledged:
            self._largest_increased = True
        count = self._take_acknowledged(space, ranges, acked)
        if self._largest_increased:
            space.largest_acknowledged = <int64_t>largest
        if epoch == SPACE_APPLICATION and self.reordering.on_acknowledged(
            ranges,
            <uint64_t>space.largest_acknowledged,
            max(self._longest_rtt(), GRANULARITY),
            now,
        ):
            self.congestion.on_spurious_congestion()
            self._pace(now)
        recovery_start = self.congestion.recovery_start
        if count == 0:
            space.trim()
            return 0
        self._last_event = now
        if epoch == SPACE_HANDSHAKE:
            self.peer_completed_address_validation = True
        if self._largest_packet.number == largest and self._ack_eliciting_acknowledged:
            self._sample_rtt(epoch, ack_delay, now)
        self._take_lost(space, now, lost)
        if self._growth and self.congestion.recovery_start == recovery_start:
            self.congestion.on_acked(self._growth, self.smoothed_rtt, now)
        elif self._underutilized:
            self.congestion.on_underutilized(now)
        # RFC 9002 section 6.2.1: not while a server may be unable to answer.
        if self.peer_completed_address_validation:
            self.pto_count = 0
        self._pace(now)
        return count

    cpdef int on_ecn_counts(
        self, int epoch, bint present, uint64_t ect0, uint64_t ect1, uint64_t ce, double now
    ) except -1:
        """Validate the ECN counts of the ACK frame last processed (RFC 9000 section 13.4.2.1).

        Arguments:
            epoch: The space it came in.
            present: Whether the frame has counts.
            ect0: Its count of packets with ECT(0); ``ect1`` and ``ce`` alike.
            now: Seconds.

        Returns:
            1 if it shows new congestion, else 0.
        """
        cdef PacketNumberSpace space = self.space(epoch)
        cdef bint this_path
        # An older frame that arrives late has lower counts (RFC 9000 section 13.4.2.1).
        if not self._largest_increased:
            return 0
        if not present:
            self.ecn.on_nothing_reported(space)
            return 0
        this_path = self._largest_packet is not None and self._largest_packet.path == self._path
        if self.ecn.on_reported(space, ect0, ect1, ce, this_path) == 0:
            return 0
        self.reordering.keep_reduction()
        self.congestion.on_congestion(self._largest_packet.time_sent, now)
        self._pace(now)
        return 1

    cdef int _take_acknowledged(
        self, PacketNumberSpace space, RangeSet ranges, list acked
    ) except -1:
        """Take out what an ACK frame newly acknowledges, and return how many packets that is.

        Its cost is proportional to that and to the ranges above the oldest outstanding packet.
        """
        cdef Py_ssize_t index, place
        cdef Range* item
        cdef Sent* sent
        cdef SentPacket packet
        cdef int count = 0
        self._largest_packet = None
        self._ack_eliciting_acknowledged = False
        self._growth = 0
        self._underutilized = False
        for index in range(ranges.count - 1, -1, -1):
            item = &ranges.items[index]
            if space._count == 0 or item.stop <= space.at(0).number:
                break
            place = space.find(item.start)
            while place < space._count:
                sent = space.at(place)
                if sent.number >= item.stop:
                    break
                if sent.state == SKIPPED:
                    raise ValueError("a packet number was acknowledged that was skipped")
                if sent.state == OUTSTANDING:
                    packet = space.take(sent, ACKNOWLEDGED)
                    self._count_acknowledged(space, packet)
                    acked.append(packet)
                    count += 1
                place += 1
        return count

    cdef void _count_acknowledged(self, PacketNumberSpace space, SentPacket packet) noexcept:
        """Sum up what one acknowledged packet says."""
        self._leave_flight(packet)
        if packet.ack_eliciting:
            self._ack_eliciting_acknowledged = True
        if packet.ecn == ECT_0:
            space.ect0_newly_acknowledged += 1
        if self._largest_packet is None or packet.number > self._largest_packet.number:
            self._largest_packet = packet
        # RFC 9000 section 9.4: what was sent on another path says nothing of this one.
        if packet.path != self._path or packet.time_sent <= self.congestion.recovery_start:
            return
        if packet.time_sent <= self._window_used_at:
            self._growth += packet.size
        else:
            self._underutilized = True

    cdef void _leave_flight(self, SentPacket packet) noexcept:
        """Take a packet out of the bytes in flight."""
        if packet.path == self._path:
            self.bytes_in_flight -= packet.size

    cdef void _sample_rtt(self, int epoch, double ack_delay, double now) noexcept:
        """Take a sample from the largest packet acknowledged (RFC 9002 section 5)."""
        cdef double adjusted
        if self._largest_packet.path != self._path:
            return
        self.latest_rtt = now - self._largest_packet.time_sent
        self.min_rtt = min(self.min_rtt, self.latest_rtt)
        self.congestion.on_rtt_sample(self.latest_rtt, self._largest_packet.time_sent, now)
        if self._first_sample_at == INFINITY:
            self._first_sample_at = now
            self.smoothed_rtt = self.latest_rtt
            self.rttvar = self.latest_rtt / 2.0
            return
        if epoch == SPACE_INITIAL:
            ack_delay = 0.0
        elif self.handshake_confirmed:
            ack_delay = min(ack_delay, self.max_ack_delay)
        adjusted = self.latest_rtt
        if self.latest_rtt >= self.min_rtt + ack_delay:
            adjusted -= ack_delay
        self.rttvar = 0.75 * self.rttvar + 0.25 * fabs(self.smoothed_rtt - adjusted)
        self.smoothed_rtt = 0.875 * self.smoothed_rtt + 0.125 * adjusted

    # --- losses ----------------------------------------------------------------------------------

    cpdef int on_timeout(self, double now, list lost) except -1:
        """Act when ``deadline`` is reached (RFC 9002 appendix A.9); nothing before.

        Arguments:
            now: Seconds.
            lost: Receives the packets that are lost.

        Returns:
            How many ack-eliciting packets to send in ``probe_epoch``, whatever the window.
        """
        cdef PacketNumberSpace space
        if now < self.deadline():
            return 0
        space = self._earliest_loss()
        if space.loss_time != INFINITY:
            self._take_lost(space, now, lost)
            self._pace(now)
            return 0
        self._pto_deadline(&self.probe_epoch)
        self.pto_count += 1
        self._last_event = now
        # Against a deadlock with a server that may not send, one is enough.
        return PROBES if self.space(self.probe_epoch).ack_eliciting_in_flight else 1

    cpdef double deadline(self) noexcept:
        """Return when to call ``on_timeout``; infinite for never (RFC 9002 section 6.2)."""
        cdef int epoch
        cdef double loss_time = min(
            self.initial.loss_time, self.handshake.loss_time, self.application.loss_time
        )
        if loss_time != INFINITY:
            return loss_time
        if self.amplification_limited:
            return INFINITY
        return self._pto_deadline(&epoch)

    cpdef double probe_timeout(self) noexcept:
        """Return the PTO of the application space without backoff, seconds (section 6.2.1)."""
        return self.smoothed_rtt + max(4.0 * self.rttvar, GRANULARITY) + self.max_ack_delay

    cpdef list oldest_ack_eliciting(self, int epoch, int count):
        """Return the packets, at most ``count``, whose content as many probes should repeat."""
        cdef PacketNumberSpace space = self.space(epoch)
        cdef Py_ssize_t place
        cdef Sent* sent
        cdef SentPacket packet
        cdef list oldest = []
        for place in range(space._count):
            if len(oldest) == count:
                break
            sent = space.at(place)
            if sent.state == OUTSTANDING:
                packet = <SentPacket>sent.packet
                if packet.ack_eliciting and not packet.is_mtu_probe:
                    oldest.append(packet)
        return oldest

    cdef int _take_lost(self, PacketNumberSpace space, double now, list lost) except -1:
        """Take out what is lost by number or by time (section 6.1), and react to it (section 7)."""
        cdef double loss_delay = max(
            self.reordering.time_threshold * self._longest_rtt(), GRANULARITY
        )
        cdef double run_start = INFINITY, longest_run = 0.0, last_sent = -INFINITY
        cdef Py_ssize_t place, first_lost = len(lost)
        cdef Sent* sent
        cdef SentPacket packet
        space.loss_time = INFINITY
        for place in range(space._count):
            sent = space.at(place)
            if <int64_t>sent.number > space.largest_acknowledged:
                break
            if sent.state == ACKNOWLEDGED:
                run_start = INFINITY
            if sent.state != OUTSTANDING:
                continue
            packet = <SentPacket>sent.packet
            if (
                packet.time_sent + loss_delay > now
                and sent.number + self.reordering.packet_threshold
                > <uint64_t>space.largest_acknowledged
            ):
                space.loss_time = min(space.loss_time, packet.time_sent + loss_delay)
                continue
            packet = space.take(sent, LOST)
            self._leave_flight(packet)
            lost.append(packet)
            if packet.path != self._path:
                continue
            if packet.ecn == ECT_0:
                self.ecn.on_marked_lost()
            # RFC 9000 section 14.4: a probe that is too large is no sign of congestion.
            if packet.is_mtu_probe:
                continue
            last_sent = max(last_sent, packet.time_sent)
            # Section 7.6.2: from a lost packet to another, with none acknowledged between them.
            if packet.ack_eliciting and packet.time_sent > self._first_sample_at:
                run_start = min(run_start, packet.time_sent)
                longest_run = max(longest_run, packet.time_sent - run_start)
        space.trim()
        if last_sent == -INFINITY:
            return 0
        if last_sent > self.congestion.recovery_start:
            self.congestion.on_congestion(last_sent, now)
            self.reordering.begin_period()
        if space is self.application:
            self.reordering.on_lost_packets(lost, first_lost, self._path)
        else:
            self.reordering.keep_reduction()
        if longest_run > PERSISTENT_CONGESTION_THRESHOLD * self.probe_timeout():
            self.reordering.keep_reduction()
            self.congestion.on_persistent_congestion()
            # Section 5.2: the path may have changed.
            self.min_rtt = INFINITY
        return 0

    cdef double _longest_rtt(self) noexcept:
        """Return the round trip that loss is measured by (RFC 9002 section 6.1.2)."""
        return max(self.latest_rtt, self.smoothed_rtt)

    cdef PacketNumberSpace _earliest_loss(self):
        """Return the space whose loss time comes first."""
        cdef PacketNumberSpace earliest = self.initial
        if self.handshake.loss_time < earliest.loss_time:
            earliest = self.handshake
        if self.application.loss_time < earliest.loss_time:
            earliest = self.application
        return earliest

    cdef double _pto_deadline(self, int* epoch) noexcept:
        """Return when the probe timeout expires, and for which space (RFC 9002 appendix A.8)."""
        cdef double earliest = INFINITY, deadline
        cdef int candidate
        cdef PacketNumberSpace space
        for candidate in range(SPACE_APPLICATION + 1):
            # Section 6.2.1: the peer may be unable to process application data before.
            if candidate == SPACE_APPLICATION and not self.handshake_confirmed:
                break
            space = self.space(candidate)
            if space.ack_eliciting_in_flight:
                deadline = self._pto_of(candidate, space.time_of_last_ack_eliciting)
                if deadline < earliest:
                    earliest = deadline
                    epoch[0] = candidate
        if (
            earliest == INFINITY
            and not self.peer_completed_address_validation
            and not self.handshake_confirmed
        ):
            # Section 6.2.2.1: a client sends, lest the server wait for it.
            epoch[0] = SPACE_HANDSHAKE if self.has_handshake_keys else SPACE_INITIAL
            return self._pto_of(epoch[0], self._last_event)
        return earliest

    cdef double _pto_of(self, int epoch, double base) noexcept:
        """Return when a probe timeout that began at ``base`` expires."""
        cdef double duration = self.probe_timeout()
        if epoch != SPACE_APPLICATION:
            duration -= self.max_ack_delay
        return base + ldexp(duration, self.pto_count)

    # --- changes ---------------------------------------------------------------------------------

    cpdef void discard_space(self, int epoch, double now) noexcept:
        """Forget a space whose keys are discarded (RFC 9002 section 6.4)."""
        cdef PacketNumberSpace space = self.space(epoch)
        cdef Py_ssize_t place
        cdef PyObject* packet
        for place in range(space._count):
            packet = space.at(place).packet
            if packet != NULL:
                self._leave_flight(<SentPacket>packet)
        space.clear_sent()
        self.pto_count = 0
        self._last_event = now

    cpdef int forget_sent(self, int epoch, list packets, double now) except -1:
        """Take back all that is outstanding, which the peer will not process; returns 0.

        For a Retry (RFC 9002 section 6.3) and for 0-RTT that was refused.

        Arguments:
            epoch: The space.
            packets: Receives the packets.
            now: Seconds.
        """
        cdef PacketNumberSpace space = self.space(epoch)
        cdef Py_ssize_t place
        cdef PyObject* packet
        for place in range(space._count):
            packet = space.at(place).packet
            if packet != NULL:
                packets.append(<SentPacket>packet)
        self.discard_space(epoch, now)
        return 0

    cpdef int reset_for_path(self, double now) except -1:
        """Begin a new path: what is in flight on the old one no longer counts; returns 0.

        RFC 9000 section 9.4: neither its RTT nor its congestion says anything of the new path.
        """
        self._path += 1
        self.bytes_in_flight = 0
        self.pto_count = 0
        self._start_path(self.congestion.max_datagram_size, now)
        return 0

    cpdef void set_max_datagram_size(self, uint32_t size, double now) noexcept:
        """Note that the path carries datagrams of another size, bytes."""
        self.congestion.set_max_datagram_size(size)
        self._pace(now)

    cdef int _start_path(self, uint32_t max_datagram_size, double now) except -1:
        """Begin with what is assumed of a path that nothing is known of."""
        self.latest_rtt = 0.0
        self.smoothed_rtt = INITIAL_RTT
        self.rttvar = INITIAL_RTT / 2.0
        self.min_rtt = INFINITY
        self._first_sample_at = INFINITY
        self._window_used_at = -INFINITY
        self.congestion = make_controller(self._algorithm, max_datagram_size)
        self.pacer = Pacer()
        self.ecn = EcnPath()
        self.reordering = Reordering()
        self._pace(now)
        return 0

    cdef void _pace(self, double now) noexcept:
        """Let the pacer follow the window."""
        self.pacer.set_rate(
            self.congestion.window,
            self.smoothed_rtt,
            self.congestion.in_slow_start(),
            self.congestion.max_datagram_size,
            now,
        )

    cdef void _plan_skip(self) noexcept:
        """Choose the next packet number to leave out."""
        self._random += GOLDEN
        self._next_skip = (
            self.application.next_packet_number
            + self._skip_period
            + mix(self._random) % self._skip_period
        )
        self._skip_period = min(2 * self._skip_period, LAST_SKIP_PERIOD)
