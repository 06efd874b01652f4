"""What loss recovery costs a packet; it has no twin but aioquic's, which is not called alike."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY
from spooky import _core

if _core.COMPILED:
    from spooky._core.quic.ranges import RangeSet
    from spooky._core.quic.recovery import Recovery
    from spooky._core.quic.sent_packet import SentPacket
    from spooky._core.quic.space import PacketNumberSpace

APPLICATION = 2
SIZE = 1200
FLIGHT = 1000


@pytest.fixture(autouse=True, params=[pytest.param("compiled", marks=COMPILED_ONLY)])
def side() -> None:
    """Name the column of the table that the only side stands in."""


def packet(number: int) -> "SentPacket":
    """Return a full packet."""
    result = SentPacket()
    result.number = number
    result.size = SIZE
    result.ack_eliciting = result.in_flight = True
    return result


def in_flight(count: int) -> "Recovery":
    """Return a sender with as many packets in flight."""
    recovery = Recovery(False, "cubic", SIZE, 1, 0.0)
    recovery.handshake_confirmed = True
    for number in range(count):
        recovery.on_packet_sent(APPLICATION, packet(number), 0.0)
    return recovery


@pytest.mark.benchmark(group="recovery: send a packet")
def test_send(benchmark: BenchmarkFixture) -> None:
    def setup() -> tuple[tuple[object, ...], dict[str, object]]:
        return (in_flight(0), [packet(number) for number in range(FLIGHT)]), {}

    def send(recovery: "Recovery", packets: list["SentPacket"]) -> "Recovery":
        on_packet_sent = recovery.on_packet_sent
        for each in packets:
            on_packet_sent(APPLICATION, each, 0.0)
        return recovery

    benchmark.extra_info["calls"] = FLIGHT
    result = benchmark.pedantic(send, setup=setup, rounds=200)
    assert result.bytes_in_flight == FLIGHT * SIZE


@pytest.mark.parametrize("extra", [0, 31])
def test_acknowledge(benchmark: BenchmarkFixture, extra: int) -> None:
    benchmark.group = f"recovery: an ACK of 2 packets and {extra} older ranges"
    benchmark.extra_info["calls"] = FLIGHT // 2
    frames = []
    for number in range(0, FLIGHT, 2):
        frame = RangeSet()
        for gap in range(1, extra + 1):
            oldest = max(number - 4 * gap, 0)
            frame.add(oldest, oldest + 2)
        frame.add(number, number + 2)
        frames.append(frame)

    def setup() -> tuple[tuple[object, ...], dict[str, object]]:
        return (in_flight(FLIGHT),), {}

    def acknowledge(recovery: "Recovery") -> "Recovery":
        acked: list[SentPacket] = []
        lost: list[SentPacket] = []
        on_ack_received = recovery.on_ack_received
        now = 0.1
        for frame in frames:
            on_ack_received(APPLICATION, frame, 0.0, now, acked, lost)
            acked.clear()
            now += 0.0001
        return recovery

    assert benchmark.pedantic(acknowledge, setup=setup, rounds=200).bytes_in_flight == 0


@pytest.mark.benchmark(group="recovery: 2 packets received and an ACK written")
def test_receive(benchmark: BenchmarkFixture) -> None:
    def receive() -> int:
        space = PacketNumberSpace(0.025)
        size = 0
        for number in range(0, FLIGHT, 2):
            space.on_packet_received(number, True, 0, 0.0)
            space.on_packet_received(number + 1, True, 0, 0.0)
            size += len(space.ack_frame(32, 3, 0.001))
        return size

    benchmark.extra_info["calls"] = FLIGHT // 2
    assert benchmark(receive) > FLIGHT
