"""QUIC in memory, handlers that hold the stream contract, and frames made by hand."""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from pylsqpack import Encoder

from spooky._core.h3_client import ClientSession
from spooky._core.h3_frames import DATA, HEADERS, encode_settings, parse_frame_header
from spooky._core.h3_session import Session
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky._core.reasons import Reason
from spooky.protocol.h3.limits import Limits
from spooky.protocol.h3.server import ServerSession
from spooky.protocol.quic.session import Close, Datagram, Handshake, QuicHandler, Transmit
from spooky.protocol.stream import Field, Stream

HANDSHAKE = Handshake(
    version=1, alpn="h3", server_name="x.test", resumed=False, client_certificate=None
)

GET = [
    (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"x.test"), (b":path", b"/"),
]  # fmt: skip
POST = [(b":method", b"POST"), *GET[1:]]
OK = [(b":status", b"200")]

# The client's streams: its first request and, as the tests open them, its unidirectional ones.
REQUEST = 0
CONTROL, ENCODER, DECODER, OTHER = 2, 6, 10, 14
# The server's.
SERVER_CONTROL, SERVER_OTHER = 3, 7

PEER_CLOSED = Close(0x100, is_application=True, phrase="", by_peer=True, timed_out=False)


def block(fields: list[Field]) -> bytes:
    """Encode a field section with an encoder that is not the session's."""
    return Encoder().encode(0, fields)[1]


def headers(fields: list[Field]) -> bytes:
    return encode_frame(HEADERS, block(fields))


def data(payload: bytes) -> bytes:
    return encode_frame(DATA, payload)


def control(settings: dict[int, int] | None = None) -> bytes:
    """Return how a control stream begins."""
    return encode_varint(0x00) + encode_settings(settings or {})


class FakeQuic:
    """A QUIC session without packets.

    Attributes:
        sent: What was accepted on each stream.
        taken: How much of that a :class:`Link` moved on.
        ended: Streams whose end was accepted.
        resets: Streams that were reset, with the code.
        stops: Streams whose peer was asked to stop, with the code.
        credited: Bytes consumed, by stream.
        closed: Code and phrase, once closed.
        room: Bytes a stream takes before it is read by the link; ``None`` for any number.
        streams_left: Streams that may be opened: bidirectional, unidirectional.
        all_acknowledged: Whether the peer has everything; a test says.
        refused: Streams that took less than they were offered.
        priorities: Urgency of streams, and whether they are incremental.
        peer_stream_limit: How many requests a client may make; a test says.
    """

    handler: QuicHandler

    def __init__(self, is_client: bool) -> None:
        self.is_client = is_client
        self.established = False
        self.terminated = False
        self.all_acknowledged = True
        self.peer = ("192.0.2.1", 443)
        self.sent: dict[int, bytearray] = {}
        self.taken: dict[int, int] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.credited: dict[int, int] = {}
        self.delivered: dict[int, int] = {}
        self.closed: tuple[int, str] | None = None
        self.room: int | None = None
        self.streams_left = {False: 1_000_000, True: 3}
        self.refused: set[int] = set()
        self.priorities: dict[int, tuple[int, bool]] = {}
        self.peer_stream_limit = 1_000_000
        self._next = {False: 0 if is_client else 1, True: 2 if is_client else 3}

    # --- the session's calls ------------------------------------------------------------------

    def open_stream(self, unidirectional: bool) -> int | None:
        assert self.closed is None
        if not self.streams_left[unidirectional]:
            return None
        self.streams_left[unidirectional] -= 1
        stream_id = self._next[unidirectional]
        self._next[unidirectional] += 4
        return stream_id

    def send(self, stream_id: int, data: bytes, fin: bool) -> int:
        assert self.closed is None
        assert type(data) is bytes
        assert data or fin, "an empty send says nothing"
        assert stream_id not in self.ended, "nothing follows the end"
        assert stream_id not in self.resets, "nothing follows a reset"
        buffer = self.sent.setdefault(stream_id, bytearray())
        accepted = len(data)
        if self.room is not None:
            waiting = len(buffer) - self.taken.get(stream_id, 0)
            accepted = min(accepted, max(0, self.room - waiting))
        buffer += data[:accepted]
        if accepted < len(data):
            self.refused.add(stream_id)
        elif fin:
            self.ended.add(stream_id)
        return accepted

    def consume(self, stream_id: int, count: int) -> None:
        assert count >= 0
        total = self.credited.get(stream_id, 0) + count
        assert total <= self.delivered.get(stream_id, 0), "credited more than was delivered"
        self.credited[stream_id] = total

    def reset(self, stream_id: int, error_code: int) -> None:
        assert self.closed is None
        assert stream_id not in self.resets, "reset twice"
        self.resets[stream_id] = error_code

    def stop_sending(self, stream_id: int, error_code: int) -> None:
        assert self.closed is None
        assert stream_id not in self.stops, "stopped twice"
        self.stops[stream_id] = error_code

    def set_priority(self, stream_id: int, urgency: int, incremental: bool) -> None:
        assert self.closed is None
        self.priorities[stream_id] = (urgency, incremental)

    def close(self, error_code: int, phrase: str, is_application: bool) -> None:
        assert is_application
        assert self.closed is None, "closed twice"
        self.closed = (error_code, phrase)

    def ping(self) -> None: ...

    def receive(self, batch: Any, now: float) -> None:
        raise AssertionError("no packets here", batch, now, Datagram)

    def deadline(self) -> float | None:
        return None

    def expire(self, now: float) -> None: ...

    def flush(self, now: float) -> list[Transmit]:
        return []

    # --- what a test does in the peer's place ---------------------------------------------------

    def deliver(self, stream_id: int, data: bytes, fin: bool = False) -> None:
        self.delivered[stream_id] = self.delivered.get(stream_id, 0) + len(data)
        self.handler.on_stream_data(stream_id, data, fin)

    def outstanding(self, stream_id: int) -> int:
        """Return how many delivered bytes were not credited."""
        return self.delivered.get(stream_id, 0) - self.credited.get(stream_id, 0)

    def frames(self, stream_id: int) -> list[tuple[int, bytes]]:
        """Return the frames that were sent on a stream."""
        sent = bytes(self.sent.get(stream_id, b""))
        position = 1 if stream_id & 2 else 0  # the type of a unidirectional stream
        frames = []
        while position < len(sent):
            header = parse_frame_header(sent, position)
            assert header is not None
            kind, length, position = header
            frames.append((kind, sent[position : position + length]))
            position += length
        return frames


class Recorder:
    """A stream handler that fails when the contract of ``protocol/stream.py`` is broken."""

    def __init__(self, consume: bool = True) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.stream: Stream | None = None
        self.body = bytearray()
        self.head: list[Field] | None = None
        self.trailers: list[Field] | None = None
        self.ended = False
        self.reset: Reason | None = None
        self.stopped = False
        self.writable = 0
        self.informational: list[list[Field]] = []
        self.consume = consume
        self.calling = False

    def _upcall(self, *event: Any) -> None:
        assert not self.calling, "an upcall within a downcall"
        assert self.reset is None, "nothing follows on_reset"
        self.events.append(event)

    def on_head(self, fields: list[Field], end: bool) -> None:
        self._upcall("head", end)
        assert self.head is None
        self.head = fields
        self.ended = end

    def on_informational(self, fields: list[Field]) -> None:
        self._upcall("informational")
        assert self.head is None
        self.informational.append(fields)

    def on_data(self, data: bytes, end: bool) -> None:
        self._upcall("data", len(data), end)
        assert type(data) is bytes
        assert data or end
        assert self.head is not None
        assert not self.ended
        self.body += data
        self.ended = end
        if self.consume and self.stream is not None:
            self.stream.consume(len(data))

    def on_trailers(self, fields: list[Field]) -> None:
        self._upcall("trailers")
        assert self.head is not None
        assert not self.ended
        self.trailers = fields
        self.ended = True

    def on_reset(self, reason: Reason) -> None:
        self._upcall("reset", reason)
        self.reset = reason

    def on_stopped(self) -> None:
        self._upcall("stopped")
        self.stopped = True

    def on_writable(self) -> None:
        self._upcall("writable")
        self.writable += 1


class Owner:
    """The owner of a connection; counts what it is told."""

    def __init__(self) -> None:
        self.established: Handshake | None = None
        self.closed: tuple[Close, Reason] | None = None
        self.connection_ids: set[bytes] = set()
        self.wakes = 0

    def on_established(self, handshake: Handshake) -> None:
        self.established = handshake

    def on_connection_id_issued(self, connection_id: bytes) -> None:
        self.connection_ids.add(connection_id)

    def on_connection_id_retired(self, connection_id: bytes) -> None:
        self.connection_ids.remove(connection_id)

    def on_closed(self, close: Close, reason: Reason) -> None:
        assert self.closed is None
        self.closed = (close, reason)

    def wake(self) -> None:
        self.wakes += 1


@dataclass
class Server:
    """A server session over a fake QUIC, and the handlers of its requests."""

    quic: FakeQuic
    session: ServerSession
    owner: Owner
    requests: list[Recorder] = field(default_factory=list)

    @property
    def request(self) -> Recorder:
        assert len(self.requests) == 1
        return self.requests[0]

    def stream(self, index: int = 0) -> Stream:
        stream = self.requests[index].stream
        assert stream is not None
        return stream


def make_server(limits: Limits | None = None, established: bool = True) -> Server:
    quic = FakeQuic(is_client=False)
    owner = Owner()
    requests: list[Recorder] = []

    def on_stream(stream: Stream) -> Recorder:
        recorder = Recorder()
        recorder.stream = stream
        requests.append(recorder)
        return recorder

    session = ServerSession(quic, on_stream, limits or Limits(), owner)
    if established:
        session.on_handshake(HANDSHAKE)
    return Server(quic, session, owner, requests)


@dataclass
class Client:
    """A client session over a fake QUIC."""

    quic: FakeQuic
    session: ClientSession
    owner: Owner

    def request(self, fields: list[Field] = GET, end: bool = True) -> Recorder:
        recorder = Recorder()
        recorder.stream = self.session.open(recorder)
        recorder.stream.send_head(fields, end)
        return recorder


def make_client(
    limits: Limits | None = None,
    established: bool = True,
    session_class: type[ClientSession] = ClientSession,
) -> Client:
    quic = FakeQuic(is_client=True)
    owner = Owner()
    session = session_class(quic, limits or Limits(), owner)
    if established:
        session.on_handshake(HANDSHAKE)
    return Client(quic, session, owner)


class Link:
    """Joins a client and a server: moves bytes in random pieces, within windows.

    Arguments:
        window: Bytes that a receiver lets be outstanding on a stream.
        seed: Of the order and the sizes in which bytes move.
    """

    def __init__(self, client: Client, server: Server, window: int, seed: int) -> None:
        self.window = window
        self.random = random.Random(seed)
        self._ends = ((client.quic, client.session), (server.quic, server.session))
        self._finished: set[tuple[bool, int]] = set()
        self._moved_resets: set[tuple[bool, int]] = set()
        self._moved_stops: set[tuple[bool, int]] = set()

    def run(self) -> None:
        """Move everything until nothing moves any more."""
        while self._step():
            pass

    def _step(self) -> bool:
        moved = False
        for (source, _), (sink, session) in (self._ends, self._ends[::-1]):
            actions = deque(self._actions(source, sink))
            self.random.shuffle(actions)
            for kind, stream_id in actions:
                moved |= self._act(kind, stream_id, source, sink)
                session.settle()
        return moved

    def _actions(self, source: FakeQuic, sink: FakeQuic) -> list[tuple[str, int]]:
        return [
            *(("data", key) for key in source.sent),
            *(("reset", key) for key in source.resets),
            *(("stop", key) for key in source.stops),
        ]

    def _act(self, kind: str, stream_id: int, source: FakeQuic, sink: FakeQuic) -> bool:
        key = (source.is_client, stream_id)
        if kind == "stop":
            if key in self._moved_stops:
                return False
            self._moved_stops.add(key)
            other = (sink.is_client, stream_id)
            if other not in self._finished and stream_id not in sink.resets:
                # RFC 9000 section 3.5: answered by a reset.
                if sink.closed is None:
                    sink.resets[stream_id] = source.stops[stream_id]
                sink.handler.on_stop_sending(stream_id, source.stops[stream_id])
            return True
        if key in self._finished:
            return False
        if kind == "reset" or stream_id in source.resets:
            self._finished.add(key)
            if stream_id not in sink.stops:
                sink.handler.on_stream_reset(stream_id, source.resets[stream_id])
            return True
        return self._move_data(stream_id, source, sink)

    def _move_data(self, stream_id: int, source: FakeQuic, sink: FakeQuic) -> bool:
        buffer = source.sent[stream_id]
        taken = source.taken.get(stream_id, 0)
        dropping = stream_id in sink.stops
        credit = len(buffer) if dropping else self.window - sink.outstanding(stream_id)
        size = min(len(buffer) - taken, credit)
        if size > 1:
            size = self.random.choice((1, size, self.random.randint(1, size)))
        size = max(size, 0)
        at_end = stream_id in source.ended and taken + size == len(buffer)
        if not size and not at_end:
            return False
        source.taken[stream_id] = taken + size
        if at_end:
            self._finished.add((source.is_client, stream_id))
        if not dropping:
            sink.deliver(stream_id, bytes(buffer[taken : taken + size]), at_end)
        if stream_id in source.refused:
            source.refused.discard(stream_id)
            source.handler.on_stream_writable(stream_id)
        return True


def join(
    seed: int = 1,
    window: int = 65_536,
    room: int | None = None,
    client_limits: Limits | None = None,
    server_limits: Limits | None = None,
) -> tuple[Client, Server, Link]:
    """Return a client and a server that talk to each other."""
    client, server = make_client(client_limits), make_server(server_limits)
    client.quic.room = server.quic.room = room
    link = Link(client, server, window, seed)
    link.run()
    return client, server, link


def assert_clean(*sessions: Session) -> None:
    """No stream is left, and every byte was credited."""
    for session in sessions:
        assert session.active_streams == 0
        quic = session.quic
        assert isinstance(quic, FakeQuic)
        for stream_id in quic.delivered:
            assert quic.outstanding(stream_id) == 0, stream_id
