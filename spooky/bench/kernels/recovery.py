"""What loss recovery costs a packet; it has no twin but aioquic's, which is not called alike."""

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from spooky.bench.kernels.case import Case, State, Work
from spooky.protocol.quic.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from spooky._core.quic.recovery import Recovery
    from spooky._core.quic.sent_packet import SentPacket

APPLICATION: Final = 2
SIZE: Final = 1200
FLIGHT: Final = 1000


def _packet(number: int) -> "SentPacket":
    """Return a full packet."""
    from spooky._core.quic.sent_packet import SentPacket

    result = SentPacket()
    result.number = number
    result.size = SIZE
    result.ack_eliciting = result.in_flight = True
    return result


def _in_flight(count: int) -> "Recovery":
    """Return a sender with as many packets in flight."""
    from spooky._core.quic.recovery import Recovery

    recovery = Recovery(False, "cubic", SIZE, 1, 0.0, DEFAULT_LIMITS.skip_period)
    recovery.handshake_confirmed = True
    for number in range(count):
        recovery.on_packet_sent(APPLICATION, _packet(number), 0.0)
    return recovery


def _send() -> Work:
    def before() -> State:
        return _in_flight(0), [_packet(number) for number in range(FLIGHT)]

    def send(recovery: "Recovery", packets: list["SentPacket"]) -> int:
        on_packet_sent = recovery.on_packet_sent
        for each in packets:
            on_packet_sent(APPLICATION, each, 0.0)
        return recovery.bytes_in_flight

    return Work(run=send, right=lambda sent: sent == FLIGHT * SIZE, calls=FLIGHT, before=before)


def _acknowledge(extra: int) -> Work:
    from spooky._core.quic.ranges import RangeSet

    frames = []
    for number in range(0, FLIGHT, 2):
        frame = RangeSet()
        for gap in range(1, extra + 1):
            oldest = max(number - 4 * gap, 0)
            frame.add(oldest, oldest + 2)
        frame.add(number, number + 2)
        frames.append(frame)

    def before() -> State:
        return (_in_flight(FLIGHT),)

    def acknowledge(recovery: "Recovery") -> int:
        acked: list[Any] = []
        lost: list[Any] = []
        on_ack_received = recovery.on_ack_received
        now = 0.1
        for frame in frames:
            on_ack_received(APPLICATION, frame, 0.0, now, acked, lost)
            acked.clear()
            now += 0.0001
        return recovery.bytes_in_flight

    return Work(run=acknowledge, right=lambda left: left == 0, calls=FLIGHT // 2, before=before)


def _receive() -> Work:
    from spooky._core.quic.space import PacketNumberSpace

    def receive() -> int:
        space = PacketNumberSpace(0.025)
        size = 0
        for number in range(0, FLIGHT, 2):
            space.on_packet_received(number, True, 0, 0.0)
            space.on_packet_received(number + 1, True, 0, 0.0)
            size += len(space.ack_frame(32, 3, 0.001))
        return size

    return Work(run=receive, right=lambda size: size > FLIGHT, calls=FLIGHT // 2)


CASES: Final = (
    Case("recovery: send a packet", _send, compiled_only=True),
    *(
        Case(
            f"recovery: an ACK of 2 packets and {extra} older ranges",
            partial(_acknowledge, extra),
            compiled_only=True,
        )
        for extra in (0, 31)
    ),
    Case("recovery: 2 packets received and an ACK written", _receive, compiled_only=True),
)
