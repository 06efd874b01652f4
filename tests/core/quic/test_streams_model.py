"""Streams over a path that loses, doubles and reorders (RFC 9000 sections 2.2, 3, 4 and 13.3)."""

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky._core.quic.errors import QuicError, TransportError
from spooky._core.quic.sent_packet import SentPacket
from tests.core.quic.stream_party import (
    MAX_DATA,
    MAX_STREAMS_UNI,
    RESET_STREAM,
    Parameters,
    Party,
    Recorder,
    frame,
    stream_frame,
)

WINDOW = 2000
CONNECTION_WINDOW = 5000


class Reader(Recorder):
    """An application that keeps what it gets, and consumes it when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.party: Party
        self.received: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.unconsumed: deque[tuple[int, int]] = deque()

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Keep it: nothing comes after the end."""
        assert stream_id not in self.ended
        self.received.setdefault(stream_id, bytearray()).extend(data)
        if fin:
            self.ended.add(stream_id)
        self.unconsumed.append((stream_id, len(data)))

    def consume(self) -> None:
        """Consume the oldest piece."""
        if self.unconsumed:
            self.party.streams.consume(*self.unconsumed.popleft())


class Writer(Recorder):
    """An application that sends streams, each all at once or as far as it is let.

    Attributes:
        apart: Whether it sends the end apart.
    """

    def __init__(self, apart: bool) -> None:
        super().__init__()
        self.apart = apart
        self.party: Party
        self.rest: dict[int, bytes] = {}

    def send(self, stream_id: int, data: bytes) -> None:
        """Send a stream."""
        if self.apart and data:
            # As of a body whose end nobody knew: all of this is held, whatever the windows are.
            assert self.party.streams.send(stream_id, data, False) == len(data)
            data = b""
        accepted = self.party.streams.send(stream_id, data, True)
        self.rest.pop(stream_id, None)
        if accepted < len(data):
            self.rest[stream_id] = data[max(0, accepted) :]
            assert accepted >= 0 or not data

    def on_stream_writable(self, stream_id: int) -> None:
        """Send the rest."""
        self.send(stream_id, self.rest[stream_id])


class Path:
    """What carries packets from one party to the other, whose acknowledgments come late."""

    def __init__(self, source: Party, target: Party, numbers: random.Random) -> None:
        self._source, self._target, self._numbers = source, target, numbers
        self._flying: list[tuple[bytes, SentPacket]] = []

    def send(self) -> None:
        """Write a packet of any size, if there is anything to write."""
        if self._source.streams.wants_to_write():
            packet = SentPacket()
            payload = self._source.streams.written(self._numbers.randrange(40, 1200), packet)
            self._flying.append((payload, packet))

    def resolve(self, loss: float) -> None:
        """Have any packet in flight arrive, or be lost, or taken for lost though it arrived."""
        if not self._flying:
            return
        payload, packet = self._flying.pop(self._numbers.randrange(len(self._flying)))
        fate = self._numbers.random()
        if fate >= loss / 2:
            self._target.receive_payload(payload)
            self._target.streams.end_batch()
        if fate < loss:
            self._source.streams.lost(packet)
        else:
            self._source.streams.acked(packet)

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight, and nothing to be written."""
        return not self._flying and not self._source.streams.wants_to_write()


@settings(deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.1, 0.5]),
    sizes=st.lists(st.integers(0, 20_000), min_size=1, max_size=5),
    apart=st.booleans(),
)
def test_what_arrives_is_what_was_sent(
    seed: int, loss: float, sizes: list[int], apart: bool
) -> None:
    """Once and in order; and when it is over nothing is held, and no limit was passed."""
    numbers = random.Random(seed)
    own = Parameters(
        stream_window=WINDOW,
        stream_window_max=WINDOW,
        connection_window=CONNECTION_WINDOW,
        connection_window_max=CONNECTION_WINDOW,
    )
    reader = Reader()
    writer = Writer(apart)
    sender = Party(client=True, peer=own, application=writer)
    receiver = Party(parameters=own, application=reader)
    reader.party = receiver
    writer.party = sender
    there, back = Path(sender, receiver, numbers), Path(receiver, sender, numbers)
    contents = {}
    for size in sizes:
        stream_id = sender.streams.open_stream(True)
        assert stream_id is not None
        contents[stream_id] = numbers.randbytes(size)
        writer.send(stream_id, contents[stream_id])
    consumed = 0
    for _ in range(100_000):
        action = numbers.randrange(5)
        if action < 2:
            there.send()
            back.send()
        elif action < 4:
            there.resolve(loss)
            back.resolve(loss)
        else:
            consumed += reader.unconsumed[0][1] if reader.unconsumed else 0
            reader.consume()
        # Credit follows consumption, and nothing else.
        assert receiver.streams.received <= consumed + CONNECTION_WINDOW
        idle = there.idle and back.idle and not reader.unconsumed
        if idle and len(reader.ended) == len(contents):
            break
    else:
        raise AssertionError("it does not come to an end")
    assert {key: bytes(value) for key, value in reader.received.items()} == contents
    assert sender.streams.has_all_acknowledged()
    assert sender.streams.buffered == receiver.streams.gaps == 0
    assert sender.streams.stream_ids == receiver.streams.stream_ids == []
    assert sender.streams.sent == receiver.streams.received == sum(sizes)


def test_a_stream_that_is_over_makes_room_for_another() -> None:
    """RFC 9000 section 4.6: not before its end was told, and once."""
    party = Party(parameters=Parameters(max_streams_uni=2))
    party.receive(stream_frame(2, 0, b"x"), stream_frame(6, 0, b"y"))
    assert party.frames() == []
    party.receive(stream_frame(2, 1, b"", fin=True), stream_frame(2, 1, b"", fin=True))
    party.streams.consume(2, 1)
    assert party.frames() == [(MAX_STREAMS_UNI, 3)]
    party.receive(stream_frame(10, 0, b"", fin=True))
    assert party.frames() == [(MAX_STREAMS_UNI, 4)]


def test_what_a_reset_stream_never_sent_is_credited() -> None:
    """RFC 9000 section 4.5: else resets would use up the connection's window."""
    own = Parameters(stream_window=WINDOW, connection_window=WINDOW, connection_window_max=WINDOW)
    party = Party(parameters=own)
    party.receive(stream_frame(2, 0, b"x"), frame(RESET_STREAM, 2, 7, WINDOW))
    assert (MAX_DATA, 2 * WINDOW) in party.frames()


def test_ranges_that_wait_are_limited_over_all_streams() -> None:
    """Attack 11: each costs memory, and a search."""
    party = Party()
    for index in range(1000):
        party.receive(stream_frame(0, 2 * index + 1, b"x"), stream_frame(4, 2 * index + 1, b"x"))
    assert party.streams.gaps == 2000
    with pytest.raises(QuicError) as caught:
        party.receive(stream_frame(8, 1, b"x"))
    assert caught.value.error_code == TransportError.PROTOCOL_VIOLATION


class TestReentrancy:
    """Upcalls may do anything to any stream, and close."""

    @pytest.mark.parametrize("act", ["reset", "stop_sending", "send", "consume", "shut"])
    @pytest.mark.parametrize("other", [False, True])
    def test_an_upcall_may_do_anything(self, act: str, other: bool) -> None:
        party = Party()
        told: list[int] = []

        def on_stream_data(stream_id: int, data: bytes, fin: bool) -> None:
            told.append(stream_id)
            streams = party.streams
            target = stream_id ^ 4 if other else stream_id
            if act == "shut":
                streams.shut()
            elif act == "consume":
                streams.consume(target, len(data))
            elif act == "send":
                streams.send(target, b"answer", True)
            else:
                getattr(streams, act)(target, 7)

        party.application.on_stream_data = on_stream_data  # type: ignore[method-assign]
        for stream_id in (0, 4):
            assert party.streams.receive_frame(b"\x0a" + bytes((stream_id, 2)) + b"xy")
        party.streams.end_batch()
        silenced = act == "shut" or (act == "stop_sending" and other)
        assert told == ([0] if silenced else [0, 4])
        party.frames()
        party.streams.shut()
        assert party.streams.stream_ids == []
        assert party.streams.buffered == party.streams.gaps == 0
        assert not party.streams.wants_to_write()
