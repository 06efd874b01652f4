"""Loss detection (RFC 9002) over the three packet number spaces, with its RTT estimator.

It owns congestion control and pacing. A packet that is acknowledged or lost is handed back to the
connection, which knows what its frames meant.
"""

from spooky._core.quic.congestion import CongestionController
from spooky._core.quic.ecn import EcnPath
from spooky._core.quic.pacer import Pacer
from spooky._core.quic.ranges import RangeSet
from spooky._core.quic.reordering import Reordering
from spooky._core.quic.sent_packet import SentPacket
from spooky._core.quic.space import PacketNumberSpace

class Recovery:
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

    @property
    def initial(self) -> PacketNumberSpace: ...
    @property
    def handshake(self) -> PacketNumberSpace: ...
    @property
    def application(self) -> PacketNumberSpace: ...
    @property
    def congestion(self) -> CongestionController: ...
    @property
    def pacer(self) -> Pacer: ...
    @property
    def ecn(self) -> EcnPath: ...
    @property
    def reordering(self) -> Reordering: ...
    handshake_confirmed: bool
    has_handshake_keys: bool
    peer_completed_address_validation: bool
    amplification_limited: bool
    max_ack_delay: float
    @property
    def bytes_in_flight(self) -> int: ...
    @property
    def pto_count(self) -> int: ...
    @property
    def probe_epoch(self) -> int: ...
    @property
    def latest_rtt(self) -> float: ...
    @property
    def smoothed_rtt(self) -> float: ...
    @property
    def rttvar(self) -> float: ...
    @property
    def min_rtt(self) -> float: ...
    def __init__(
        self,
        is_client: bool,
        congestion_control: str,
        max_datagram_size: int,
        seed: int,
        now: float,
        skip_period: int,
    ) -> None: ...
    def skip_if_due(self, epoch: int) -> int:
        """Return the number for the next packet, now and then leaving one out.

        A peer that acknowledges what it did not receive, to be sent more than its path carries,
        also acknowledges what was never sent (RFC 9000 section 21.4).
        """

    def on_packet_sent(self, epoch: int, packet: SentPacket, now: float) -> int:
        """Note a packet as it is sent; always returns 0.

        Raises:
            ValueError: Its number is below one that was used.
        """

    def congestion_room(self) -> int:
        """Return how many bytes the congestion window still lets out."""

    def sending_room(self, now: float) -> int:
        """Return how many bytes congestion window and pacer let out now."""

    def pacing_deadline(self, now: float) -> float:
        """Return when the pacer lets out a full datagram; 0 if now."""

    def ecn_codepoint(self) -> int:
        """Return the codepoint to send with: 2 for ECT(0), 0 where the path failed or is tested."""

    def on_ack_received(
        self,
        epoch: int,
        ranges: RangeSet,
        ack_delay: float,
        now: float,
        acked: list[SentPacket],
        lost: list[SentPacket],
    ) -> int:
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

    def on_ecn_counts(
        self, epoch: int, present: bool, ect0: int, ect1: int, ce: int, now: float
    ) -> int:
        """Validate the ECN counts of the ACK frame last processed (RFC 9000 section 13.4.2.1).

        Arguments:
            epoch: The space it came in.
            present: Whether the frame has counts.
            ect0: Its count of packets with ECT(0); ``ect1`` and ``ce`` alike.
            now: Seconds.

        Returns:
            1 if it shows new congestion, else 0.
        """

    def on_timeout(self, now: float, lost: list[SentPacket]) -> int:
        """Act when ``deadline`` is reached (RFC 9002 appendix A.9); nothing before.

        Arguments:
            now: Seconds.
            lost: Receives the packets that are lost.

        Returns:
            How many ack-eliciting packets to send in ``probe_epoch``, whatever the window.
        """

    def deadline(self) -> float:
        """Return when to call ``on_timeout``; infinite for never (RFC 9002 section 6.2)."""

    def probe_timeout(self) -> float:
        """Return the PTO of the application space without backoff, seconds (section 6.2.1)."""

    def oldest_ack_eliciting(self, epoch: int, count: int) -> list[SentPacket]:
        """Return the packets, at most ``count``, whose content as many probes should repeat."""

    def discard_space(self, epoch: int, now: float) -> None:
        """Forget a space whose keys are discarded (RFC 9002 section 6.4)."""

    def forget_sent(self, epoch: int, packets: list[SentPacket], now: float) -> int:
        """Take back all that is outstanding, which the peer will not process; returns 0.

        For a Retry (RFC 9002 section 6.3) and for 0-RTT that was refused.

        Arguments:
            epoch: The space.
            packets: Receives the packets.
            now: Seconds.
        """

    def reset_for_path(self, now: float) -> int:
        """Begin a new path: what is in flight on the old one no longer counts; returns 0.

        RFC 9000 section 9.4: neither its RTT nor its congestion says anything of the new path.
        """

    def set_max_datagram_size(self, size: int, now: float) -> None:
        """Note that the path carries datagrams of another size, bytes."""
