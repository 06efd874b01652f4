"""Ends of an HTTP/2 connection for tests: sessions that record, and peers made of raw frames."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import hpack
from hyperframe.frame import Frame

from spooky._core import reasons
from spooky._core.h2 import Session
from spooky._core.h2_gate import PREFACE
from spooky._core.reasons import Reason
from spooky.protocol.h2.client import client_session
from spooky.protocol.h2.engine import EngineName
from spooky.protocol.h2.limits import DEFAULT_LIMITS, Limits
from spooky.protocol.h2.server import ServerSession
from spooky.protocol.stream import Field, Fields, Stream

ENGINES: tuple[EngineName, ...] = ("ngh2", "h2")
ENGINE_PAIRS = [(client, server) for client in ENGINES for server in ENGINES]

GET: list[Field] = [
    (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"example.test"),
    (b":path", b"/"),
]  # fmt: skip
POST: list[Field] = [(b":method", b"POST"), *GET[1:]]
OK: list[Field] = [(b":status", b"200")]

Event = tuple[object, ...]
Hook = Callable[["Recorder", str], None]


@dataclass
class Recorder:
    """A stream handler that writes every upcall down, and sends; ``hook`` may act inside them."""

    hook: Hook | None = None
    consumes: bool = True
    events: list[Event] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    writable: bool = True
    feeder: "Feeder | None" = None
    _stream: Stream | None = None
    _inside_downcall: bool = False

    @property
    def stream(self) -> Stream:
        assert self._stream is not None
        return self._stream

    @stream.setter
    def stream(self, stream: Stream) -> None:
        self._stream = stream

    @contextmanager
    def calling(self) -> Iterator[Stream]:
        """Call the stream, and fail should it call back meanwhile."""
        before, self._inside_downcall = self._inside_downcall, True
        try:
            yield self.stream
        finally:
            self._inside_downcall = before

    # --- what it was told ---

    @property
    def names(self) -> list[object]:
        return [event[0] for event in self.events]

    @property
    def reason(self) -> Reason | None:
        return next((event[1] for event in self.events if event[0] == "reset"), None)  # type: ignore[return-value]

    @property
    def ended(self) -> bool:
        return any(event[-1] is True for event in self.events) or "trailers" in self.names

    def head(self, index: int = 0) -> list[Field]:
        return [event for event in self.events if event[0] == "head"][index][1]  # type: ignore[return-value]

    # --- upcalls ---

    def _note(self, name: str, *what: object) -> None:
        assert not self._inside_downcall, "an upcall nested inside a downcall"
        self.events.append((name, *what))
        if self.hook is not None:
            self.hook(self, name)

    def on_head(self, fields: list[Field], end: bool) -> None:
        assert all(type(each) is tuple for each in fields)
        self._note("head", fields, end)

    def on_informational(self, fields: list[Field]) -> None:
        self._note("informational", fields)

    def on_data(self, data: bytes, end: bool) -> None:
        self.body += data
        if self.consumes and data:
            with self.calling() as stream:
                stream.consume(len(data))
        self._note("data", len(data), end)

    def on_trailers(self, fields: list[Field]) -> None:
        self._note("trailers", fields)

    def on_reset(self, reason: Reason) -> None:
        assert reason is not reasons.COMPLETED, "a reset is no completion"
        self._note("reset", reason)

    def on_stopped(self) -> None:
        self._note("stopped")

    def on_writable(self) -> None:
        self.writable = True
        self._note("writable")
        if self.feeder is not None:
            self.feeder.pump()

    # --- downcalls ---

    def send_head(self, fields: Fields, end: bool = False) -> None:
        with self.calling() as stream:
            stream.send_head(fields, end)

    def send_informational(self, fields: Fields) -> None:
        with self.calling() as stream:
            stream.send_informational(fields)

    def send_data(self, data: bytes, end: bool = False) -> bool:
        with self.calling() as stream:
            self.writable = stream.send_data(data, end)
        return self.writable

    def send_trailers(self, fields: Fields) -> bool:
        with self.calling() as stream:
            self.writable = stream.send_trailers(fields)
        return self.writable

    def reset(self, reason: Reason) -> None:
        with self.calling() as stream:
            stream.reset(reason)

    def stop_receiving(self) -> None:
        with self.calling() as stream:
            stream.stop_receiving()

    def consume(self, count: int) -> None:
        with self.calling() as stream:
            stream.consume(count)


class Feeder:
    """Sends a body in pieces, as fast as it is let."""

    def __init__(
        self,
        recorder: Recorder,
        body: bytes,
        trailers: Fields | None = None,
        piece: int = 16_384,
    ) -> None:
        self.sent = 0
        self._recorder = recorder
        self._body = body
        self._trailers = trailers
        self._piece = piece
        recorder.feeder = self
        self.pump()

    def pump(self) -> None:
        size = len(self._body)
        while self._recorder.writable and self.sent < size:
            piece = self._body[self.sent : self.sent + self._piece]
            self.sent += len(piece)
            last = self.sent == size
            self._recorder.send_data(piece, last and self._trailers is None)
            if last and self._trailers is not None:
                self._recorder.send_trailers(self._trailers)


class Waker:
    """Counts how often output was announced."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


class ServerEnd:
    """A server session whose requests are recorded."""

    def __init__(
        self,
        engine: EngineName,
        *,
        limits: Limits = DEFAULT_LIMITS,
        hook: Hook | None = None,
        consumes: bool = True,
    ) -> None:
        self.requests: list[Recorder] = []
        self.wake = Waker()
        self.hook = hook
        self._consumes = consumes
        self.session = ServerSession(self._on_stream, self.wake, limits=limits, engine=engine)

    def _on_stream(self, stream: Stream) -> Recorder:
        recorder = Recorder(hook=self.hook, consumes=self._consumes)
        recorder.stream = stream
        self.requests.append(recorder)
        return recorder


class ClientEnd:
    """A client session whose responses are recorded."""

    def __init__(self, engine: EngineName, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.wake = Waker()
        self.session = client_session(self.wake, limits=limits, engine=engine)

    def open(self, hook: Hook | None = None, consumes: bool = True) -> Recorder:
        recorder = Recorder(hook=hook, consumes=consumes)
        recorder.stream = self.session.open(recorder)
        return recorder

    def request(
        self,
        fields: Fields = GET,
        end: bool = True,
        hook: Hook | None = None,
        consumes: bool = True,
    ) -> Recorder:
        recorder = self.open(hook, consumes)
        recorder.send_head(fields, end)
        return recorder


class Pipe:
    """A client and a server session joined by a network that cuts at random.

    Attributes:
        in_flight: What is on its way to the session that is the key.
    """

    def __init__(self, client: ClientEnd, server: ServerEnd, seed: int = 0) -> None:
        self.client = client
        self.server = server
        self.now = 1_000.0
        self._random = random.Random(seed)
        self._peers: dict[Session, Session] = {
            client.session: server.session,
            server.session: client.session,
        }
        self.in_flight: dict[Session, bytearray] = {
            client.session: bytearray(),
            server.session: bytearray(),
        }

    def step(self) -> bool:
        """Move something in both directions; false if nothing moved."""
        moved = False
        for session, peer in self._peers.items():
            while data := session.transmit():
                self.in_flight[peer] += data
        for session, waiting in self.in_flight.items():
            if waiting:
                size = self._random.choice((1, 9, 10, 100, 1_000, 16_384, 65_536, 262_144))
                piece = bytes(waiting[:size])
                del waiting[:size]
                self.now += 0.000_1
                session.receive(piece, self.now)
                moved = True
        return moved

    def run(self) -> None:
        """Move until nothing does."""
        for _ in range(200_000):
            if not self.step():
                return
        raise AssertionError("the connection never comes to rest")


def pipe(
    client: EngineName,
    server: EngineName,
    *,
    seed: int = 0,
    hook: Hook | None = None,
    consumes: bool = True,
    client_limits: Limits = DEFAULT_LIMITS,
    server_limits: Limits = DEFAULT_LIMITS,
) -> Pipe:
    """Return two sessions that know each other's settings."""
    joined = Pipe(
        ClientEnd(client, limits=client_limits),
        ServerEnd(server, limits=server_limits, hook=hook, consumes=consumes),
        seed,
    )
    joined.run()
    return joined


# --- raw frames -----------------------------------------------------------------------------------


def parse_frames(data: bytes) -> list[Frame]:
    """Return the frames of a whole number of them."""
    frames = []
    view = memoryview(data)
    while view:
        frame, length = Frame.parse_frame_header(view[:9])
        assert len(view) >= 9 + length, "a frame is cut"
        frame.parse_body(view[9 : 9 + length])
        frames.append(frame)
        view = view[9 + length :]
    return frames


def of_type(frames: Iterable[Frame], kind: type[Frame]) -> list[Frame]:
    return [frame for frame in frames if isinstance(frame, kind)]


def raw_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return any frame at all."""
    header = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big")
    return header + payload


def settings(values: dict[int, int] | None = None, ack: bool = False) -> bytes:
    entries = (values or {}).items()
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in entries)
    return raw_frame(4, int(ack), 0, payload)


def data(stream_id: int, content: bytes = b"", end: bool = False, padding: int = 0) -> bytes:
    if not padding:
        return raw_frame(0, int(end), stream_id, content)
    return raw_frame(0, end | 8, stream_id, bytes((padding,)) + content + bytes(padding))


def rst_stream(stream_id: int, code: int = 8) -> bytes:
    return raw_frame(3, 0, stream_id, code.to_bytes(4, "big"))


def window_update(stream_id: int, increment: int) -> bytes:
    return raw_frame(8, 0, stream_id, increment.to_bytes(4, "big"))


def goaway(last_stream_id: int, code: int = 0) -> bytes:
    return raw_frame(7, 0, 0, last_stream_id.to_bytes(4, "big") + code.to_bytes(4, "big"))


class RawPeer:
    """The other end of a session, one frame at a time."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.now = 1_000.0
        self.encoder = hpack.Encoder()

    def headers(
        self, stream_id: int, fields: Iterable[Field], end: bool = False, final: bool = True
    ) -> bytes:
        return raw_frame(1, end | 4 * final, stream_id, self.encoder.encode(list(fields)))

    def send(self, *frames: bytes) -> None:
        """Have the session receive frames at once."""
        self.session.receive(b"".join(frames), self.now)

    def take(self) -> list[Frame]:
        """Return what the session sends."""
        output = bytearray()
        while piece := self.session.transmit():
            output += piece
        if output.startswith(PREFACE):
            del output[: len(PREFACE)]
        return parse_frames(bytes(output))


def raw_client(server: ServerEnd, values: dict[int, int] | None = None) -> RawPeer:
    """Return a client that shook hands with a server session."""
    peer = RawPeer(server.session)
    peer.send(PREFACE, settings(values), settings(ack=True))
    peer.take()
    return peer


def raw_server(client: ClientEnd, values: dict[int, int] | None = None) -> RawPeer:
    """Return a server that shook hands with a client session."""
    peer = RawPeer(client.session)
    peer.take()
    peer.send(settings(values), settings(ack=True))
    peer.take()
    return peer
