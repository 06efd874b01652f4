"""When received packets are acknowledged, and how (RFC 9000 sections 13.2 and 19.3)."""

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import pull_ack_frame
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.quic.space import PacketNumberSpace
from tests.core.quic.flight import NEVER

NOW = 50.0
DELAY = 0.025
NOT_ECT, ECT_1, ECT_0, CE = range(4)


def space(*numbers: int, max_ack_delay: float = DELAY) -> PacketNumberSpace:
    """Return a space that received these ack-eliciting packets, and sent an ACK."""
    result = PacketNumberSpace(max_ack_delay)
    for number in numbers:
        result.on_packet_received(number, True, NOT_ECT, NOW)
    result.ack_frame(1200, 3, NOW)
    return result


def parse(frame: bytes) -> tuple[list[tuple[int, int]], int]:
    """Return the ranges and the encoded delay of an ACK frame, as aioquic reads them."""
    buffer = Buffer(data=frame)
    assert buffer.pull_uint_var() in (2, 3)
    acknowledged, delay = pull_ack_frame(buffer)
    return [(part.start, part.stop) for part in acknowledged], delay


def test_13_2_1_one_packet_waits_for_a_second() -> None:
    receiver = space(0)
    receiver.on_packet_received(1, True, NOT_ECT, NOW)
    assert receiver.ack_wanted()
    assert not receiver.ack_due(NOW)
    assert receiver.ack_deadline() == NOW + DELAY
    assert receiver.ack_due(NOW + DELAY)


def test_13_2_2_every_second_ack_eliciting_packet_is_acknowledged() -> None:
    receiver = space(0)
    receiver.on_packet_received(1, True, NOT_ECT, NOW)
    receiver.on_packet_received(2, False, NOT_ECT, NOW)
    assert not receiver.ack_due(NOW)
    receiver.on_packet_received(3, True, NOT_ECT, NOW)
    assert receiver.ack_due(NOW)


def test_13_2_1_the_deadline_is_that_of_the_first() -> None:
    receiver = space(0)
    receiver.on_packet_received(1, True, NOT_ECT, NOW)
    receiver.on_packet_received(2, False, NOT_ECT, NOW + 0.02)
    assert receiver.ack_deadline() == NOW + DELAY


@pytest.mark.parametrize("number", [2, 5, 11, 20])
def test_13_2_1_out_of_order_is_acknowledged_at_once(number: int) -> None:
    receiver = space(0, 1, 3, 4, 8, 9)
    receiver.on_packet_received(10, False, NOT_ECT, NOW)
    receiver.on_packet_received(number, True, NOT_ECT, NOW)
    assert receiver.ack_due(NOW) == (number != 11)


def test_13_2_1_a_ce_mark_is_acknowledged_at_once() -> None:
    receiver = space(0)
    receiver.on_packet_received(1, True, CE, NOW)
    assert receiver.ack_due(NOW)


def test_13_2_1_initial_and_handshake_are_acknowledged_at_once() -> None:
    receiver = space(max_ack_delay=0.0)
    receiver.on_packet_received(0, True, NOT_ECT, NOW)
    assert receiver.ack_due(NOW)


def test_13_2_1_an_ack_is_not_acknowledged() -> None:
    receiver = space(0)
    for number in range(1, 10):
        receiver.on_packet_received(number, False, NOT_ECT, NOW)
    assert not receiver.ack_wanted()
    assert receiver.ack_deadline() == NEVER


def test_an_ack_that_was_sent_is_not_due_again() -> None:
    receiver = space(0, 1)
    assert not receiver.ack_wanted()
    assert not receiver.ack_due(NOW)
    assert receiver.ack_deadline() == NEVER


def test_13_2_5_the_delay_is_measured_from_the_largest() -> None:
    receiver = space()
    receiver.on_packet_received(5, True, NOT_ECT, NOW)
    receiver.on_packet_received(4, True, NOT_ECT, NOW + 0.010)
    assert parse(receiver.ack_frame(100, 3, NOW + 0.016))[1] == pytest.approx(2_000, abs=1)
    assert parse(receiver.ack_frame(100, 0, NOW + 0.016))[1] == pytest.approx(16_000, abs=1)
    assert parse(receiver.ack_frame(100, 3, NOW - 1))[1] == 0


def test_19_3_an_ack_frame_byte_for_byte() -> None:
    # Largest 9, no delay, two more ranges: 8-9, then 5, then 0-2.
    assert space(0, 1, 2, 5, 8, 9).ack_frame(100, 3, NOW) == bytes([2, 9, 0, 2, 1, 1, 0, 1, 2])


def test_19_3_2_counts_are_sent_once_a_mark_was_seen() -> None:
    receiver = space(0)
    for number, codepoint in enumerate([ECT_0, ECT_0, ECT_0, ECT_1, CE, CE, NOT_ECT], 1):
        receiver.on_packet_received(number, True, codepoint, NOW)
    assert receiver.ack_frame(100, 3, NOW) == bytes([3, 7, 0, 0, 7, 3, 1, 2])
    counts = (receiver.ect0_received, receiver.ect1_received, receiver.ce_received)
    assert counts == (3, 1, 2)


def test_nothing_received_is_no_frame() -> None:
    assert space().ack_frame(1200, 3, NOW) == b""


@pytest.mark.parametrize("marked", [False, True])
@given(
    numbers=st.sets(st.one_of(st.integers(0, 300), st.integers(0, 2**62 - 1)), min_size=1),
    room=st.integers(0, 120),
)
def test_19_3_the_newest_ranges_that_fit_are_sent(
    marked: bool, numbers: set[int], room: int
) -> None:
    receiver = PacketNumberSpace(DELAY)
    for number in sorted(numbers):
        receiver.on_packet_received(number, True, CE if marked else NOT_ECT, NOW)
    whole = receiver.ack_frame(5000, 3, NOW)
    frame = receiver.ack_frame(room, 3, NOW)
    assert len(frame) <= room
    assert parse(whole)[0] == receiver.received.ranges()
    if frame:
        sent = parse(frame)[0]
        assert sent == receiver.received.ranges()[-len(sent) :]
    else:
        assert room < 1 + 8 + 1 + 1 + 8 + 3
    if room >= len(whole):
        assert frame == whole


def test_13_2_3_ranges_are_bounded_and_what_is_forgotten_counts_as_received() -> None:
    """Attack 21: packets with gaps everywhere cost no memory."""
    receiver = PacketNumberSpace(DELAY)
    for number in range(0, 20_000, 2):
        assert not receiver.is_duplicate(number)
        receiver.on_packet_received(number, True, NOT_ECT, NOW)
    assert receiver.received.count == 64
    sent, _ = parse(receiver.ack_frame(1200, 3, NOW))
    assert sent == [(number, number + 1) for number in range(20_000 - 128, 20_000, 2)]
    oldest = sent[0][0]
    assert receiver.is_duplicate(oldest - 1)
    assert receiver.is_duplicate(7)
    assert not receiver.is_duplicate(oldest + 1)


def test_12_3_duplicates_are_told() -> None:
    receiver = space(0, 1, 4)
    assert [receiver.is_duplicate(number) for number in range(6)] == [
        True, True, False, False, True, False,
    ]  # fmt: skip


def test_13_2_4_an_acknowledged_ack_is_forgotten() -> None:
    receiver = space(0, 1, 4, 5, 8)
    receiver.on_packet_received(9, True, NOT_ECT, NOW)
    receiver.on_ack_acknowledged(8)
    assert receiver.received.ranges() == [(8, 10)]
    assert receiver.is_duplicate(2)
    receiver.on_packet_received(10, True, NOT_ECT, NOW)
    assert parse(receiver.ack_frame(100, 3, NOW))[0] == [(8, 11)]
    receiver.on_ack_acknowledged(4)
    assert receiver.received.ranges() == [(8, 11)]
