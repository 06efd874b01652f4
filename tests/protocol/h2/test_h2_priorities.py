"""Responses on an HTTP/2 connection come in the order their client asks for (RFC 9218)."""

import pytest
from hyperframe.frame import DataFrame, Frame, GoAwayFrame

from spooky.protocol.h2.engine import EngineName
from spooky.protocol.h2.limits import Limits
from tests.protocol.h2.peers import (
    ENGINES,
    GET,
    OK,
    ClientEnd,
    Feeder,
    RawPeer,
    ServerEnd,
    of_type,
    parse_frames,
    pipe,
    raw_client,
    raw_frame,
    raw_server,
)

pytestmark = pytest.mark.parametrize("engine", ENGINES)

PROTOCOL_ERROR, FRAME_SIZE_ERROR = 1, 6
INITIAL_WINDOW_SIZE, NO_RFC7540_PRIORITIES = 4, 9
WINDOW = 2**30
SIZE = 700_000


def update(stream_id: int, value: bytes, on_stream: int = 0) -> bytes:
    return raw_frame(0x10, 0, on_stream, stream_id.to_bytes(4, "big") + value)


class Connection:
    """A client with so large windows that only the order matters."""

    def __init__(self, engine: EngineName, limits: Limits | None = None) -> None:
        self.server = ServerEnd(engine, limits=limits or Limits())
        self.peer = raw_client(self.server, {INITIAL_WINDOW_SIZE: WINDOW})
        self.peer.send(raw_frame(8, 0, 0, WINDOW.to_bytes(4, "big")))
        self._next = 1

    def get(self, priority: bytes | None = None) -> None:
        """Make a request."""
        fields = GET if priority is None else [*GET, (b"priority", priority)]
        self.peer.send(self.peer.headers(self._next, fields, end=True))
        self._next += 2

    def answer(self, *priorities: bytes | None, size: int = SIZE) -> None:
        """Begin all responses, the last request's first, with these priorities."""
        for index in reversed(range(len(self.server.requests))):
            named = priorities[index] if priorities else None
            head = OK if named is None else [*OK, (b"priority", named)]
            self.server.requests[index].send_head(head, False)
            Feeder(self.server.requests[index], bytes(size))

    def order(self, taken: int | None = None) -> list[int]:
        """Take what is sent, in so many turns or all; return of which streams there was data."""
        seen = []
        for _ in range(taken or 1000):
            frames = piece_of(self.peer)
            if not frames:
                break
            seen += [frame.stream_id for frame in of_type(frames, DataFrame) if frame.data]
        return seen


def piece_of(peer: RawPeer) -> list[Frame]:
    """Return what one call of the transport takes."""
    return parse_frames(peer.session.transmit())


def ends(seen: list[int]) -> list[int]:
    """Return streams in the order of their last data."""
    return sorted(set(seen), key=lambda stream_id: -seen[::-1].index(stream_id))


def overlap(seen: list[int], first: int, second: int) -> int:
    """Return how much of the second was sent before the end of the first."""
    return seen[: len(seen) - seen[::-1].index(first)].count(second)


def test_the_old_priorities_are_declared_dead(engine: EngineName) -> None:
    """RFC 9218 section 2.1."""
    end = ServerEnd(engine)
    [settings] = [frame for frame in piece_of(RawPeer(end.session)) if hasattr(frame, "settings")]
    assert settings.settings[NO_RFC7540_PRIORITIES] == 1


def test_the_more_urgent_go_first(engine: EngineName) -> None:
    connection = Connection(engine)
    for priority in (b"u=6", b"u=0", b"u=3"):
        connection.get(priority)
    connection.answer()
    seen = connection.order()
    assert ends(seen) == [3, 5, 1]
    # What was sent before the others came stays sent.
    assert overlap(seen, 3, 1) <= 2


def test_of_the_same_urgency_one_comes_after_the_other(engine: EngineName) -> None:
    connection = Connection(engine)
    for _ in range(3):
        connection.get(b"u=2")
    connection.answer()
    seen = connection.order()
    assert ends(seen) == [1, 3, 5]
    assert overlap(seen, 1, 3) <= 2


@pytest.mark.parametrize("priority", [b"u=4, i", None])
def test_incremental_ones_and_those_without_a_signal_share(
    engine: EngineName, priority: bytes | None
) -> None:
    connection = Connection(engine)
    for _ in range(3):
        connection.get(priority)
    connection.answer()
    seen = connection.order()
    counts = [seen[: len(seen) // 2].count(stream_id) for stream_id in (1, 3, 5)]
    assert max(counts) - min(counts) <= 2


def test_an_update_in_the_middle_changes_the_order(engine: EngineName) -> None:
    connection = Connection(engine)
    for _ in range(2):
        connection.get(b"u=3")
    connection.answer()
    connection.order(1)
    connection.peer.send(update(3, b"u=1"))
    assert ends(connection.order()) == [3, 1]


def test_an_update_ahead_of_its_request_outweighs_the_field(engine: EngineName) -> None:
    connection = Connection(engine)
    connection.peer.send(update(3, b"u=7"), update(3, b"u=0"))
    connection.get(b"u=1")
    connection.get(b"u=5")
    connection.answer()
    assert ends(connection.order()) == [3, 1]


def test_a_response_overrides_its_request(engine: EngineName) -> None:
    """RFC 9218 section 8."""
    connection = Connection(engine)
    connection.get(b"u=3")
    connection.get(b"u=3")
    connection.answer(None, b"u=1")
    assert ends(connection.order()) == [3, 1]


def test_bad_values_are_ignored(engine: EngineName) -> None:
    connection = Connection(engine)
    connection.get(b"u=9, i=2")
    connection.get(b"u=2,")
    connection.peer.send(update(3, b"\xff"))
    connection.answer()
    assert ends(connection.order()) == [1, 3]


def test_a_late_urgent_response_passes_many_that_wait(engine: EngineName) -> None:
    connection = Connection(engine)
    for _ in range(8):
        connection.get(b"u=6, i")
    connection.answer()
    connection.order(1)
    connection.get(b"u=0")
    urgent = connection.server.requests[-1]
    urgent.send_head(OK, False)
    Feeder(urgent, bytes(SIZE))
    seen = connection.order()
    assert ends(seen)[0] == 17
    assert sum(overlap(seen, 17, stream_id) for stream_id in range(1, 17, 2)) <= 16


def codes(peer: RawPeer) -> list[int]:
    return [frame.error_code for frame in of_type(peer.take(), GoAwayFrame)]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (update(1, b"u=1", on_stream=1), PROTOCOL_ERROR),
        (update(0, b"u=1"), PROTOCOL_ERROR),
        (update(2, b"u=1"), PROTOCOL_ERROR),
        (raw_frame(0x10, 0, 0, b"\0\0\1"), FRAME_SIZE_ERROR),
    ],
)
def test_frames_that_are_wrong(engine: EngineName, frame: bytes, code: int) -> None:
    """RFC 9218 section 7.1."""
    connection = Connection(engine)
    connection.peer.send(frame)
    assert codes(connection.peer) == [code]


def test_an_update_from_a_server(engine: EngineName) -> None:
    client = ClientEnd(engine)
    server = raw_server(client)
    client.request()
    server.take()
    server.send(update(1, b"u=1"))
    assert codes(server) == [PROTOCOL_ERROR]


def test_what_is_kept_for_streams_to_come_is_bounded(engine: EngineName) -> None:
    """RFC 9218 section 7.1: it counts as the streams that are open."""
    connection = Connection(engine, Limits(max_concurrent_streams=10))
    for stream_id in range(1, 21, 2):
        connection.peer.send(update(stream_id, b"u=1"), update(stream_id, b"u=2"))
    assert not connection.server.session.closed
    connection.peer.send(update(21, b"u=1"))
    assert codes(connection.peer) == [PROTOCOL_ERROR]


def test_streams_that_were_passed_over_leave_nothing_behind(engine: EngineName) -> None:
    connection = Connection(engine, Limits(max_concurrent_streams=10))
    connection.peer.send(*(update(stream_id, b"u=1") for stream_id in range(1, 19, 2)))
    connection.peer.send(connection.peer.headers(19, GET, end=True))
    connection.peer.send(update(1, b"u=1"), update(17, b"u=1"))
    assert connection.server.session._priorities.early == {}
    assert not connection.server.session.closed


@pytest.mark.parametrize("seed", range(3))
def test_bodies_stay_whole_under_priorities(engine: EngineName, seed: int) -> None:
    joined = pipe(engine, engine, seed=seed)
    requests = [
        joined.client.request([*GET, (b"priority", b"u=%d" % (index % 4))]) for index in range(6)
    ]
    joined.run()
    bodies = [bytes((65 + index,)) * 300_000 for index in range(6)]
    for recorder, body in zip(joined.server.requests, bodies, strict=True):
        recorder.send_head(OK, False)
        Feeder(recorder, body)
    joined.run()
    assert [bytes(request.body) for request in requests] == bodies
