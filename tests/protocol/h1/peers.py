"""Ends of an HTTP/1.1 connection for tests: they record what they are told and do as asked."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from spooky._core.reasons import Reason
from spooky.protocol.h1.client import ClientSession
from spooky.protocol.h1.limits import Engine, Limits
from spooky.protocol.h1.server import ServerSession
from spooky.protocol.stream import Field, Stream

ENGINES: tuple[Engine, ...] = ("httptools", "h11")

Event = tuple[object, ...]
Hook = Callable[["Recorder", str], None]


@dataclass
class Recorder:
    """A stream handler that writes down every upcall; ``hook`` may act inside them."""

    hook: Hook | None = None
    consumes: bool = True
    events: list[Event] = field(default_factory=list)
    stream: Stream | None = None
    inside_downcall: bool = False
    complete: bool = False

    def _note(self, name: str, *what: object) -> None:
        assert not self.inside_downcall, "an upcall nested inside a downcall"
        if name in ("head", "data", "trailers"):
            assert not self.complete, "something came after the end"
            self.complete = name == "trailers" or what[-1] is True
        self.events.append((name, *what))
        if self.hook is not None:
            self.hook(self, name)

    def on_head(self, fields: list[Field], end: bool) -> None:
        self._note("head", list(fields), end)

    def on_informational(self, fields: list[Field]) -> None:
        self._note("informational", list(fields))

    def on_data(self, data: bytes, end: bool) -> None:
        if self.consumes and self.stream is not None:
            self.stream.consume(len(data))
        self._note("data", bytes(data), end)

    def on_trailers(self, fields: list[Field]) -> None:
        self._note("trailers", list(fields))

    def on_reset(self, reason: Reason) -> None:
        self._note("reset", reason.code)

    def on_stopped(self) -> None:
        self._note("stopped")

    def on_writable(self) -> None:
        self._note("writable")

    # --- what a test asks of it ---------------------------------------------------------------

    def names(self) -> list[str]:
        return [str(event[0]) for event in self.events]

    def head(self) -> list[Field]:
        heads = [event[1] for event in self.events if event[0] == "head"]
        assert len(heads) == 1
        return heads[0]  # type: ignore[return-value]

    def body(self) -> bytes:
        return b"".join(event[1] for event in self.events if event[0] == "data")  # type: ignore[misc]

    def ended(self) -> bool:
        """Whether the end was delivered."""
        return self.complete

    def reset_code(self) -> str | None:
        codes = [event[1] for event in self.events if event[0] == "reset"]
        assert len(codes) <= 1
        return str(codes[0]) if codes else None


def traced(events: Iterable[Event]) -> list[Event]:
    """Join neighbouring pieces of data: how they were cut does not matter."""
    trace: list[Event] = []
    for event in events:
        last = trace[-1] if trace else ("",)
        if event[0] == last[0] == "data":
            trace[-1] = ("data", last[1] + event[1], event[2])  # type: ignore[operator]
        elif event[0] != "data" or event[1] or event[2]:
            trace.append(event)
    return trace


class Server:
    """A server session, its recorders in the order of their requests, and what it wrote."""

    def __init__(self, hook: Hook | None = None, consumes: bool = True, **limits: object) -> None:
        self.hook = hook
        self.consumes = consumes
        self.wakes = 0
        self.requests: list[Recorder] = []
        self.session = ServerSession(
            self._on_stream,
            self._wake,
            limits=Limits(**limits),  # type: ignore[arg-type]
        )

    def _wake(self) -> None:
        self.wakes += 1

    def _on_stream(self, stream: Stream) -> Recorder:
        recorder = Recorder(self.hook, self.consumes)
        recorder.stream = stream
        self.requests.append(recorder)
        return recorder

    def feed(self, *pieces: bytes, now: float = 0.0) -> "Server":
        for piece in pieces:
            self.session.receive(piece, now)
        return self

    def take(self) -> bytes:
        return take(self.session)

    @property
    def last(self) -> Recorder:
        return self.requests[-1]

    @property
    def stream(self) -> Stream:
        stream = self.last.stream
        assert stream is not None
        return stream


class Client:
    """A client session and what it wrote."""

    def __init__(self, **limits: object) -> None:
        self.wakes = 0
        self.session = ClientSession(self._wake, limits=Limits(**limits))  # type: ignore[arg-type]

    def _wake(self) -> None:
        self.wakes += 1

    def open(self, hook: Hook | None = None, consumes: bool = True) -> Recorder:
        assert self.session.capacity == 1
        recorder = Recorder(hook, consumes)
        recorder.stream = self.session.open(recorder)
        return recorder

    def get(self, method: bytes = b"GET", hook: Hook | None = None) -> Recorder:
        """Send a request without a body and let it out."""
        recorder = self.open(hook)
        assert recorder.stream is not None
        recorder.stream.send_head(request_head(method), True)
        self.take()
        return recorder

    def feed(self, *pieces: bytes) -> "Client":
        for piece in pieces:
            self.session.receive(piece, 0.0)
        return self

    def take(self) -> bytes:
        return take(self.session)


def take(session: ServerSession | ClientSession) -> bytes:
    """Do as a transport does at the end of a turn."""
    written = b""
    while data := session.transmit():
        written += data
    return written


def request_head(method: bytes = b"GET", *fields: Field, path: bytes = b"/") -> list[Field]:
    return [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", b"example.com"),
        (b":path", path),
        *fields,
    ]


def response_head(status: bytes = b"200", *fields: Field) -> list[Field]:
    return [(b":status", status), *fields]


def answer_ok(recorder: Recorder, name: str) -> None:
    """Hook: answer 200 with a body as soon as the request is complete."""
    if recorder.ended() and name != "reset":
        stream = recorder.stream
        assert stream is not None
        stream.send_head(response_head(b"200", (b"content-length", b"2")), False)
        stream.send_data(b"ok", True)


def splits(data: bytes, seed: int) -> list[bytes]:
    """Cut data at random, the same for the same seed."""
    generator = random.Random(seed)
    most = generator.choice((1, 3, 16, 200, 70_000))
    pieces = []
    position = 0
    while position < len(data):
        size = generator.randint(1, most)
        pieces.append(data[position : position + size])
        position += size
    return pieces
