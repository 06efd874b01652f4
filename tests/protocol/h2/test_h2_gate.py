"""The gate in front of the engines: whole frames, and budgets (attacks 1, 3, 6 and 7)."""

import random

import pytest

from spooky._core.h2_gate import PREFACE, FrameFloodError, FrameGate, TokenBucket
from spooky.protocol.h2.limits import DEFAULT_LIMITS, Limits
from tests.protocol.h2.peers import data, raw_frame, rst_stream, settings, window_update

HEADERS, PRIORITY, PING, CONTINUATION, PRIORITY_UPDATE = 1, 2, 6, 9, 0x10


def boundaries(stream: bytes) -> set[int]:
    """Return where a preface and frames end."""
    ends = {len(PREFACE)}
    position = len(PREFACE)
    while position < len(stream):
        position += 9 + int.from_bytes(stream[position : position + 3], "big")
        ends.add(position)
    return ends


@pytest.mark.parametrize("seed", range(20))
def test_only_whole_frames_pass_and_nothing_is_lost(seed: int) -> None:
    source = random.Random(seed)
    stream = PREFACE + settings()
    for _ in range(30):
        stream += data(1, source.randbytes(source.choice((0, 1, 8, 500, 16_384))))
    gate = FrameGate(DEFAULT_LIMITS, len(PREFACE))
    ends = boundaries(stream)
    passed = b""
    position = 0
    while position < len(stream):
        size = source.choice((1, 2, 8, 9, 10, 300, 20_000))
        passed += gate.admit(stream[position : position + size], 0.0)
        position += size
        if len(passed) >= len(PREFACE):
            assert len(passed) in ends
            assert position - len(passed) < 9 + 16_384 + size
    assert passed == stream


def test_a_frame_that_is_too_large_ends_what_is_admitted() -> None:
    """It must not be waited for: that would be up to 16 MiB (RFC 9113 section 4.2)."""
    gate = FrameGate(DEFAULT_LIMITS, 0)
    start = (16_385).to_bytes(3, "big") + bytes(6) + b"start of it"
    assert gate.admit(data(1, b"x") + start, 0.0) == data(1, b"x")
    assert gate.too_large


def test_resets_are_those_of_the_bytes_last_admitted() -> None:
    gate = FrameGate(DEFAULT_LIMITS, 0)
    gate.admit(rst_stream(5) + data(1, b"x") + rst_stream(0x80000007 & 0x7FFFFFFF), 0.0)
    assert gate.resets == {5, 7}
    gate.admit(data(1, b"x"), 0.0)
    assert gate.resets == set()


def test_a_bucket_refills_with_time_and_never_overflows() -> None:
    bucket = TokenBucket((3, 2))
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.5) for _ in range(2)] == [True, False]
    bucket.refill(2)
    assert [bucket.take(100.5) for _ in range(3)] == [True, True, False]
    assert [bucket.take(1_000.0) for _ in range(4)] == [True, True, True, False]
    bucket.refill(100)
    assert [bucket.take(1_000.0) for _ in range(4)] == [True, True, True, False]


FLOODS = {
    "reset": (rst_stream(1), Limits(peer_resets=(10, 0))),
    "settings": (settings(), Limits(settings_frames=(10, 0))),
    "settings acknowledgement": (settings(ack=True), Limits(settings_frames=(10, 0))),
    "ping": (raw_frame(PING, 0, 0, bytes(8)), Limits(control_frames=(10, 0))),
    "priority": (raw_frame(PRIORITY, 0, 1, bytes(5)), Limits(control_frames=(10, 0))),
    "priority update": (
        raw_frame(PRIORITY_UPDATE, 0, 0, bytes(4) + b"u=1"), Limits(control_frames=(10, 0)),
    ),
    "window update": (window_update(0, 1), Limits(control_frames=(10, 0))),
    "unknown": (raw_frame(0xBB, 0, 0, b""), Limits(control_frames=(10, 0))),
    "continuation": (raw_frame(CONTINUATION, 0, 1, b""), Limits(max_continuations=10)),
}  # fmt: skip


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("together", [True, False])
def test_floods_are_stopped_at_the_limit(kind: str, together: bool) -> None:
    frame, limits = FLOODS[kind]
    gate = FrameGate(limits, 0)
    if together:
        gate.admit(frame * 10, 1.0)
    else:
        for _ in range(10):
            gate.admit(frame, 1.0)
    with pytest.raises(FrameFloodError):
        gate.admit(frame, 1.0)


@pytest.mark.parametrize("kind", [kind for kind in FLOODS if kind != "continuation"])
def test_the_same_frames_pass_when_they_take_their_time(kind: str) -> None:
    frame, _ = FLOODS[kind]
    gate = FrameGate(DEFAULT_LIMITS, 0)
    for second in range(3_000):
        gate.admit(frame, float(second))


def test_each_head_may_have_its_continuations() -> None:
    gate = FrameGate(Limits(max_continuations=2), 0)
    for _ in range(100):
        gate.admit(raw_frame(HEADERS, 0, 1) + raw_frame(CONTINUATION, 0, 1) * 2, 1.0)


def test_settings_with_too_many_entries_are_a_flood() -> None:
    """Attack 6."""
    gate = FrameGate(DEFAULT_LIMITS, 0)
    gate.admit(raw_frame(4, 0, 0, bytes(6 * 32)), 1.0)
    with pytest.raises(FrameFloodError):
        gate.admit(raw_frame(4, 0, 0, bytes(6 * 33)), 1.0)


def test_traffic_earns_the_control_frames_that_go_with_it() -> None:
    """gRPC sends a PING for nearly every message, browsers a WINDOW_UPDATE with every request."""
    gate = FrameGate(Limits(control_frames=(10, 0)), 0)
    for _ in range(1_000):
        gate.data_sent += 1
        gate.admit(raw_frame(PING, 0, 0, bytes(8)) + window_update(0, 1), 1.0)
    for _ in range(1_000):
        gate.admit(raw_frame(HEADERS, 5, 1) + window_update(1, 1) * 2, 1.0)
    gate.admit(window_update(0, 1) * 8, 1.0)
    with pytest.raises(FrameFloodError):
        gate.admit(window_update(0, 1), 1.0)
