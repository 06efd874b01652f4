"""What is remembered of a sent packet."""

import pytest

from spooky._core.quic.sent_packet import SentPacket


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 100])
def test_a_packet_remembers_its_frames(count: int) -> None:
    packet = SentPacket()
    frames = [(number % 200, 4 * number, 2**61 + number, 1200, number % 2 == 1)
              for number in range(count)]  # fmt: skip
    for frame in frames:
        packet.record(*frame)
    assert packet.records() == frames


def test_a_packet_from_the_freelist_is_blank() -> None:
    for _ in range(3):
        packet = SentPacket()
        assert packet.records() == []
        assert (packet.number, packet.size, packet.ecn, packet.path) == (0, 0, 0, 0)
        assert (packet.ack_eliciting, packet.in_flight, packet.is_mtu_probe) == (False,) * 3
        packet.number = packet.size = packet.ecn = packet.path = 3
        packet.ack_eliciting = packet.in_flight = packet.is_mtu_probe = True
        for _ in range(5):
            packet.record(8, 4)
        del packet
