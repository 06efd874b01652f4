"""A packet number space: what was sent in it, and what was received (RFC 9000 section 12.3)."""

from spooky._core.quic.ranges import RangeSet

class PacketNumberSpace:
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

    @property
    def next_packet_number(self) -> int: ...
    @property
    def largest_acknowledged(self) -> int: ...
    @property
    def time_of_last_ack_eliciting(self) -> float: ...
    @property
    def loss_time(self) -> float: ...
    @property
    def ack_eliciting_in_flight(self) -> int: ...
    @property
    def received(self) -> RangeSet: ...
    @property
    def ect0_received(self) -> int: ...
    @property
    def ect1_received(self) -> int: ...
    @property
    def ce_received(self) -> int: ...
    ranges_max: int
    max_ack_delay: float
    def __init__(self, max_ack_delay: float = 0.0) -> None: ...
    def is_duplicate(self, number: int) -> bool:
        """Return whether a packet was received before, or is too old to tell."""

    def on_packet_received(self, number: int, ack_eliciting: bool, ecn: int, now: float) -> int:
        """Note a packet that is no duplicate and was processed; always returns 0.

        Arguments:
            number: Its packet number.
            ack_eliciting: Whether it holds a frame that must be acknowledged.
            ecn: The ECN field it arrived with; 3 for CE.
            now: Seconds.
        """

    def ack_wanted(self) -> bool:
        """Return whether an ack-eliciting packet came since the last ACK, due or not."""

    def ack_due(self, now: float) -> bool:
        """Return whether an ACK must be sent now."""

    def ack_deadline(self) -> float:
        """Return when an ACK must be sent: infinite for never, -infinite for at once."""

    def ack_frame(self, room: int, ack_delay_exponent: int, now: float) -> bytes:
        """Return what ``write_ack`` writes into ``room`` bytes; empty if it does not fit."""

    def on_ack_acknowledged(self, largest: int) -> None:
        """Forget what the peer knows that we received (RFC 9000 section 13.2.4).

        Arguments:
            largest: The largest number in an ACK frame that the peer has received.
        """
