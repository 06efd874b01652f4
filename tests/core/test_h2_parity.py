"""The compiled HTTP/2 kernels and their twins do the same for every input.

One source makes both, so what is looked for is what C types change: ranges, truth, bounds.
"""

import random
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import h2_client as compiled
from spooky._core import h2_gate as compiled_gate
from spooky._core import reasons
from spooky.protocol.h2.limits import Limits
from tests.support.twins import twins

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

LIMITS = Limits(
    max_continuations=2,
    max_settings=2,
    peer_resets=(2, 1),
    settings_frames=(2, 1),
    control_frames=(2, 1),
    provoked_resets=(2, 1),
    empty_data_frames=(1, 1),
    max_informational=1,
    max_concurrent_streams=3,
)


PURE = twins("h2_gate", "h2_stream", "h2_sender", "h2", "h2_client")


# --- frames -----------------------------------------------------------------------------------

FRAMES = st.builds(
    lambda kind, flags, stream_id, length: (
        length.to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big")
        + bytes(min(length, 40))
    ),
    st.integers(0, 10) | st.integers(0, 255),
    st.integers(0, 255),
    st.sampled_from([0, 1, 3, 0x7FFFFFFF, 0x80000003, 0xFFFFFFFF]),
    st.integers(0, 40) | st.sampled_from([16_384, 16_385, 0xFFFFFF]),
)  # fmt: skip


def gate_log(kernel: ModuleType, wire: bytes, seed: int, preface: int) -> list[Any]:
    """Return what a gate says to bytes in pieces."""
    gate = kernel.FrameGate(LIMITS, preface)
    cuts = sorted(random.Random(seed).choices(range(len(wire) + 1), k=seed % 5))
    log: list[Any] = []
    now = 0.0
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        now += seed % 3 * 0.4
        gate.data_sent += seed % 2
        try:
            log.append((gate.admit(wire[start:end], now), set(gate.resets), gate.data_sent))
        except Exception as error:
            log.append((type(error).__name__, str(error)))
            break
    return log


@given(
    st.lists(FRAMES | st.binary(max_size=12), max_size=8).map(b"".join),
    st.integers(0, 999),
    st.sampled_from([0, 24]),
)
def test_whole_frames(wire: bytes, seed: int, preface: int) -> None:
    assert gate_log(compiled_gate, wire, seed, preface) == gate_log(
        PURE["h2_gate"], wire, seed, preface
    )


# --- sessions ---------------------------------------------------------------------------------


@dataclass
class Head:
    stream_id: int
    headers: list[tuple[bytes, bytes]]
    end_stream: bool


class Response(Head):
    pass


class Informational(Head):
    pass


class Trailers(Head):
    pass


@dataclass
class Data:
    stream_id: int
    data: bytes
    end_stream: bool


@dataclass
class Reset:
    stream_id: int
    error_code: int


@dataclass
class Closed:
    stream_id: int
    error_code: int


@dataclass
class Settings:
    settings: dict[int, int]


@dataclass
class GoAway:
    last_stream_id: int
    error_code: int


@dataclass
class Gone:
    error_code: int


@dataclass
class Pong:
    opaque_data: bytes


class EngineError(Exception):
    pass


class OverloadError(EngineError):
    pass


class Engine:
    """Notes every call, and says what it was told to."""

    EVENTS: ClassVar[dict[str, type]] = {
        "ResponseReceived": Response,
        "InformationalResponseReceived": Informational,
        "TrailersReceived": Trailers,
        "DataReceived": Data,
        "StreamReset": Reset,
        "StreamClosed": Closed,
        "SettingsReceived": Settings,
        "PingAcknowledged": Pong,
        "GoAwayReceived": GoAway,
        "ConnectionClosed": Gone,
    }
    ERRORS = (EngineError,)
    OVERLOAD_ERRORS = (OverloadError,)

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.happened: list[Any] = []
        self.can_send_request = True
        self.remote_window_size = 70_000
        self.stream_window = 70_000
        self.want_write = False
        self.fails: type[Exception] | None = None
        self.next_id = 1

    def stream_remote_window_size(self, stream_id: int) -> int:
        if stream_id > 5:
            raise EngineError
        return self.stream_window

    def receive_data(self, data: bytes) -> None:
        self._note("receive_data", data)

    def events(self) -> list[Any]:
        happened, self.happened = self.happened, []
        return happened

    def data_to_send(self) -> bytes:
        self._note("data_to_send")
        return b"output"

    def send_request(self, headers: Any, *, end_stream: bool) -> int:
        self._note("send_request", headers, end_stream)
        if not self.can_send_request:
            raise EngineError
        self.next_id += 2
        return self.next_id - 2

    def send_data(self, stream_id: int, data: bytes, *, end_stream: bool) -> None:
        self._note("send_data", stream_id, data, end_stream)

    def _note(self, name: str, *arguments: Any) -> None:
        self.log.append((name, *arguments))
        if self.fails is not None:
            raise self.fails

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._note(name, *arguments)


class Handler:
    """Notes every upcall."""

    def __init__(self, name: int, log: list[Any]) -> None:
        self._name = name
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._log.append((self._name, name, *arguments))


FIELDS = [(b":status", b"200"), (b"x", b"y")]
SWITCHING = [(b":status", b"101")]
IDS = st.sampled_from([1, 3, 5, 7])
CODES = st.sampled_from([0, 1, 2, 7, 8, 11])
HAPPENED = st.one_of(
    st.builds(Response, IDS, st.just(FIELDS), st.booleans()),
    st.builds(Informational, IDS, st.sampled_from([FIELDS, SWITCHING]), st.just(False)),
    st.builds(Trailers, IDS, st.just(FIELDS), st.just(True)),
    st.builds(Data, IDS, st.sampled_from([b"", b"x" * 10]), st.booleans()),
    st.builds(Reset, IDS, CODES),
    st.builds(Closed, IDS, CODES),
    st.builds(Settings, st.sampled_from([{}, {3: 1}, {3: 2**32 - 1}])),
    st.builds(GoAway, IDS, CODES),
    st.builds(Gone, CODES),
    st.just(Pong(b"12345678")),
)  # fmt: skip
PIECES = st.sampled_from([0, 5, 16_384, 16_385, 300_000])
STREAM_CALLS = st.one_of(
    st.tuples(st.just("send_head"), st.just(FIELDS), st.booleans()),
    st.tuples(st.just("send_data"), PIECES.map(bytes), st.booleans()),
    st.tuples(st.just("send_trailers"), st.sampled_from([(), FIELDS])),
    st.tuples(st.just("consume"), st.integers(0, 20)),
    st.just(("stop_receiving",)),
    st.tuples(st.just("reset"), st.just(reasons.CLIENT_RESET)),
    st.tuples(st.just("prioritize"), st.just((1, False))),
)
SESSION_CALLS = st.one_of(
    st.just(("transmit",)),
    st.tuples(st.just("set_transport_writable"), st.booleans()),
    st.sampled_from([("receive_eof",), ("shutdown",), ("ping", b"spooky--")]),
    st.tuples(st.sampled_from(["terminate", "connection_lost"]), st.just(reasons.DRAINING)),
)
STEPS = st.one_of(
    st.just(("open",)),
    st.tuples(st.just("stream"), st.integers(0, 3), STREAM_CALLS),
    st.tuples(st.just("session"), SESSION_CALLS),
    st.tuples(st.just("happens"), st.lists(HAPPENED, min_size=1, max_size=3)),
    st.tuples(
        st.just("engine"),
        st.sampled_from(["remote_window_size", "stream_window"]),
        st.sampled_from([-5, 0, 10, 70_000, 1 << 30]),
    ),
    st.tuples(st.just("engine"), st.just("can_send_request"), st.booleans()),
    st.tuples(st.just("engine"), st.just("fails"), st.sampled_from([EngineError, OverloadError])),
    st.tuples(st.just("ordered"), st.booleans()),
)


def converse(kernel: ModuleType, steps: list[Any]) -> list[Any]:
    """Take the steps with a session of a kernel; return everything that came of it."""
    log: list[Any] = []
    engine = Engine(log)
    session = kernel.ClientSession(lambda: log.append("wake"), LIMITS, engine)
    streams: list[Any] = []
    now = 0.0
    for kind, *arguments in steps:
        now += 0.25
        if kind == "open":
            if session.capacity:
                streams.append(session.open(Handler(len(streams), log)))
        elif kind == "stream":
            index, (name, *values) = arguments
            if index < len(streams):
                log.append((name, getattr(streams[index], name)(*values)))
        elif kind == "session":
            ((name, *values),) = arguments
            log.append((name, getattr(session, name)(*values)))
        elif kind == "happens":
            engine.happened += arguments[0]
            session.receive(b"", now)
        elif kind == "ordered":
            session._sender.ordered = arguments[0]
        else:
            setattr(engine, *arguments)
        log.append((session.closed, session.close_reason, session.active_streams, session.capacity))
    for stream in streams:
        told = SimpleNamespace(**{name: getattr(stream, name) for name in STATE})
        log.append(told)
    return log


STATE = (
    "id", "over", "local_ended", "remote_ended", "unwanted", "unconsumed", "informational",
    "head_received", "backlog_bytes", "offset", "turn", "urgency", "incremental",
)  # fmt: skip


@settings(max_examples=1000)
@given(st.lists(STEPS, max_size=30))
def test_sessions(steps: list[Any]) -> None:
    steps = [("open",), ("stream", 0, ("send_head", FIELDS, False)), *steps]
    assert converse(compiled, steps) == converse(PURE["h2_client"], steps)
