"""A sender under loss recovery, and the ACK frames that its peer might send."""

from spooky._core.quic.ranges import RangeSet
from spooky._core.quic.recovery import Recovery
from spooky._core.quic.sent_packet import SentPacket
from spooky.protocol.quic.limits import DEFAULT_LIMITS

INITIAL, HANDSHAKE, APPLICATION = range(3)
SIZE = 1200
NEVER = float("inf")


def ranges(*numbers: int) -> RangeSet:
    """Return the set of these packet numbers."""
    result = RangeSet()
    for number in numbers:
        result.add(number, number + 1)
    return result


class Flight:
    """A ``Recovery`` with a clock, and what it has said.

    Arguments:
        client: Which side it is.
        algorithm: The congestion control.
        confirmed: Whether the handshake is over.
    """

    def __init__(
        self, client: bool = False, algorithm: str = "reno", confirmed: bool = True, seed: int = 1
    ) -> None:
        self.now = 100.0
        self.recovery = Recovery(
            client, algorithm, SIZE, seed, self.now, DEFAULT_LIMITS.skip_period
        )
        self.recovery.handshake_confirmed = confirmed
        self.acked: list[SentPacket] = []
        self.lost: list[SentPacket] = []

    @property
    def window(self) -> int:
        """The congestion window."""
        return self.recovery.congestion.window

    def send(
        self, count: int = 1, epoch: int = APPLICATION, size: int = SIZE, **attributes: object
    ) -> list[int]:
        """Send packets, and return their numbers."""
        return [self._send_one(epoch, size, attributes) for _ in range(count)]

    def _send_one(self, epoch: int, size: int, attributes: dict[str, object]) -> int:
        packet = SentPacket()
        packet.number = self.recovery.skip_if_due(epoch)
        packet.size = size
        packet.ack_eliciting = packet.in_flight = True
        for name, value in attributes.items():
            setattr(packet, name, value)
        self.recovery.on_packet_sent(epoch, packet, self.now)
        return packet.number

    def fill(self) -> list[int]:
        """Send as much as the congestion window allows."""
        return self.send(self.recovery.congestion_room() // SIZE)

    def wait(self, seconds: float) -> "Flight":
        """Let time pass."""
        self.now += seconds
        return self

    def ack(self, *numbers: int, epoch: int = APPLICATION, delay: float = 0.0) -> int:
        """Receive an ACK frame, and return how many packets it newly acknowledges."""
        return self.recovery.on_ack_received(
            epoch, ranges(*numbers), delay, self.now, self.acked, self.lost
        )

    def ecn(self, ect0: int, ce: int = 0, ect1: int = 0, *, present: bool = True) -> int:
        """Process the counts of the ACK frame that was received last."""
        return self.recovery.on_ecn_counts(APPLICATION, present, ect0, ect1, ce, self.now)

    def round_trip(self, rtt: float = 0.1) -> None:
        """Fill the window, and acknowledge all of it."""
        numbers = self.fill()
        self.wait(rtt).ack(*numbers)

    def expire(self) -> int:
        """Wait for the deadline, and return how many probes it asks for."""
        self.now = self.recovery.deadline()
        return self.recovery.on_timeout(self.now, self.lost)

    @property
    def lost_numbers(self) -> list[int]:
        """The numbers of all packets that were declared lost."""
        return [packet.number for packet in self.lost]
