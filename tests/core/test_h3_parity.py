"""The compiled HTTP/3 kernels and their twins do the same for every input.

One source makes both, so what is looked for is what C types change: ranges, truth, bounds.
"""

import random
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylsqpack import Encoder

from spooky import _core
from spooky._core import h3 as compiled
from spooky._core import h3_budget, h3_session, h3_unidirectional, reasons
from spooky._core import h3_fields as compiled_fields
from spooky._core import h3_frames as compiled_frames
from spooky._core import h3_server as compiled_server
from spooky._core import h3_wire as compiled_wire
from spooky._core import sections as compiled_sections
from spooky._core.h3_budget import Budget
from spooky._core.h3_errors import ProtocolError
from spooky._core.pure import h3 as pure
from spooky._core.pure import h3_fields as pure_fields
from spooky._core.pure import h3_frames as pure_frames
from spooky._core.pure import h3_wire as pure_wire
from spooky._core.pure import sections as pure_sections
from spooky._core.reasons import Reason
from spooky.protocol.h3.limits import Limits
from spooky.protocol.quic.session import Close, Handshake
from tests.core.test_qpack import BLOCKS, FIELDS, encode
from tests.support.twins import twins

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

COMPILED_SERVER = {
    "h3": compiled,
    "h3_budget": h3_budget,
    "h3_unidirectional": h3_unidirectional,
    "h3_session": h3_session,
    "h3_server": compiled_server,
}
PURE_SERVER = twins(*COMPILED_SERVER)

LIMITS = Limits(
    max_headers_count=8,
    max_headers_bytes=120,
    max_useless_frames=3,
    max_useless_bytes=90,
    max_unidirectional_streams=5,
    max_aborted_requests=3,
)
ROLE = pure.Role(
    0x100,
    reasons.CONTENT_LENGTH_MISMATCH,
    reasons.UPSTREAM_PROTOCOL_ERROR,
    reasons.UPSTREAM_FIELDS_TOO_LARGE,
    reasons.TOO_MANY_FIELDS,
    reasons.FIELDS_TOO_LARGE,
)
HEAD = [(b":status", b"200"), (b"content-length", b"5"), (b"x-long", b"y" * 70)]

KINDS = st.sampled_from([0, 1, 2, 4, 5, 7, 0x21, 0x40, 0x4000, 0xF0700]) | st.integers(0, 2**62 - 1)
# Bytes and settings that are likely to mean something.
FRAMES = st.builds(compiled_wire.encode_frame, KINDS, st.binary(max_size=70))
PAYLOADS = st.lists(st.integers(0, 2**62 - 1).map(compiled_wire.encode_varint)).map(b"".join)
NUMBERS = st.integers(0, 30) | st.integers(10**17, 10**20)


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call returns, or what is wrong."""
    try:
        return call(*arguments)
    except ProtocolError as error:
        return error.code, error.phrase
    except (OverflowError, ValueError) as error:
        return type(error)


@given(PAYLOADS | st.binary(max_size=40), st.integers(0, 45))
def test_integers_headers_and_settings(data: bytes, position: int) -> None:
    for name in ("read_varint", "parse_frame_header"):
        read, twin = getattr(compiled_frames, name), getattr(pure_frames, name)
        assert outcome(read, data, position) == outcome(twin, data, position)
    for name in ("parse_settings", "parse_single_varint"):
        parse, twin = getattr(compiled_frames, name), getattr(pure_frames, name)
        assert outcome(parse, data) == outcome(twin, data)


@given(st.integers(0, 2**62 - 1), st.binary(max_size=70))
def test_what_is_encoded(value: int, payload: bytes) -> None:
    assert compiled_wire.encode_varint(value) == pure_wire.encode_varint(value)
    assert compiled_wire.encode_frame(value, payload) == pure_wire.encode_frame(value, payload)
    settings_of = {value: len(payload)}
    assert compiled_frames.encode_settings(settings_of) == pure_frames.encode_settings(settings_of)


@given(BLOCKS | FIELDS.map(encode), st.integers(0, 12), st.integers(0, 300))
def test_field_sections(block: bytes, count: int, size: int) -> None:
    arguments = block, count, size
    decoded = outcome(compiled_sections.decode_fields, *arguments)
    assert decoded == outcome(pure_sections.decode_fields, *arguments)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"content-length", b"priority", b"x"]),
            NUMBERS.map(b"%d".__mod__) | st.binary(max_size=8),
        ),
        max_size=4,
    )
)
def test_what_is_asked_of_fields(fields: list[tuple[bytes, bytes]]) -> None:
    assert compiled_fields.declared_length(fields) == pure_fields.declared_length(fields)
    assert compiled_fields.section_size(fields) == pure_fields.section_size(fields)
    assert compiled_sections.encode_fields(fields) == pure_sections.encode_fields(tuple(fields))
    for name in (b"priority", b"x", b"absent"):
        assert compiled_fields.field_value(fields, name) == pure_fields.field_value(fields, name)


def frame_reader(kernel: ModuleType) -> Any:
    """Return a reader that gathers every other type of frame, and notes all it sees."""

    class Reader(kernel.FrameReader):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.log: list[tuple[Any, ...]] = []

        def _begin_frame(self, kind: int, length: int) -> bool:
            self.log.append(("begin", kind, length))
            self._stopped = kind == 0x40
            return kind % 2 == 1

        def _take_frame(self, kind: int, payload: bytes, at_end: bool) -> None:
            self.log.append(("frame", kind, payload, at_end))

        def _take_piece(self, kind: int, piece: bytes, at_end: bool) -> None:
            self.log.append(("piece", kind, piece, at_end))

    return Reader()


def pieces(wire: bytes, seed: int) -> list[bytes]:
    """Cut bytes anywhere."""
    cuts = sorted(random.Random(seed).choices(range(len(wire) + 1), k=seed % 5))
    return [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]


@given(st.lists(FRAMES | st.binary(max_size=12), max_size=5).map(b"".join), st.integers(0, 999))
def test_frames_in_pieces(wire: bytes, seed: int) -> None:
    readers = [frame_reader(kernel) for kernel in (compiled_frames, pure_frames)]
    for reader in readers:
        for piece in pieces(wire, seed):
            reader.read(piece)
    assert readers[0].log == readers[1].log
    assert readers[0].ends_within_frame == readers[1].ends_within_frame


@given(st.lists(st.integers(0, 20), max_size=30))
def test_seen_streams(numbers: list[int]) -> None:
    seen, twin = compiled.SeenStreams(2), pure.SeenStreams(2)
    for number in numbers:
        assert seen.is_new(2 + 4 * number) == twin.is_new(2 + 4 * number)
        assert (seen.next_id, seen._gaps) == (twin.next_id, twin._gaps)


class Log:
    """A QUIC session and a handler that note every call; QUIC accepts so many bytes a call."""

    handler: Any = None
    all_acknowledged = False

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.room = 1 << 30
        self.opens: int | None = 3

    def open_stream(self, unidirectional: bool) -> int | None:
        self.calls.append(("open", unidirectional))
        return self.opens

    def send(self, stream_id: int, data: bytes, fin: bool) -> int:
        accepted = min(len(data), self.room)
        self.calls.append(("send", stream_id, data[:accepted], fin and accepted == len(data)))
        return accepted

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: self.calls.append((name, *arguments, *named.items()))


def request_stream(kernel: ModuleType, log: Log) -> Any:
    """Return a stream of a kernel with the least of a role."""

    class Connection(kernel.Connection):  # type: ignore[name-defined, misc]
        def reject_push_promise(self) -> None:
            raise ProtocolError(0x105, "a push")

    class Stream(kernel.RequestStream):  # type: ignore[name-defined, misc]
        def peer_stopped(self) -> None:
            self._sending = False

        def fail(self, reason: Reason, error_code: int) -> None:
            self._abort(error_code).on_reset(reason)

        def _take_head(self, fields: list[Any], end: bool) -> None:
            self._content_length = compiled_fields.declared_length(fields)
            self._deliver_head(fields, end)

        def _refuse_head(self, reason: Reason) -> None:
            self.fail(reason, 0x107)

        def _end_without_head(self) -> None:
            self.fail(reasons.CLIENT_PROTOCOL_ERROR, 0x10D)

        def _reset_reason(self, error_code: int) -> Reason:
            return reasons.CLIENT_RESET

        def _reset_code(self, reason: Reason) -> int:
            return reason.h3_error

    connection = Connection(log, ROLE, LIMITS, Budget(LIMITS), lambda: log.calls.append(("wake",)))
    stream = connection._requests[0] = Stream(connection, 0, log)
    return stream


class Priorities:
    """Notes what is said about priorities."""

    signalled = True

    def __init__(self, log: Log) -> None:
        self._log = log
        self.early: dict[int, Any] = {}

    def begin(self, stream: Any, value: bytes | None) -> None:
        self._log.calls.append(("begin", stream.signals, value))

    def override(self, stream: Any, value: bytes) -> None:
        self._log.calls.append(("override", value))


def server_session(kernels: dict[str, ModuleType], log: Log) -> Any:
    """Return a session with the least of a server's role."""

    class Connection(kernels["h3_server"].ServerConnection):  # type: ignore[name-defined, misc]
        is_client = False
        ROLE = ROLE
        LOST = reasons.CLIENT_CONNECTION_LOST
        PROTOCOL_ERROR = reasons.CLIENT_PROTOCOL_ERROR

        def reject_push_promise(self) -> None:
            raise ProtocolError(0x105, "a push")

        def take_max_push_id(self, push_id: int) -> None:
            log.calls.append(("max push id", push_id))

        def take_priority_update(self, stream_id: int, value: bytes) -> None:
            log.calls.append(("priority update", stream_id, value))

        def _goaway_id(self) -> int:
            return 1 << 60

        def _push_stream_error(self) -> ProtocolError:
            return ProtocolError(0x103, "a push stream")

        def _handshake_reason(self, close: Close) -> Reason:
            return reasons.HANDSHAKE_FAILED

        def _reason_for(self, error: ProtocolError) -> Reason:
            log.calls.append(("reason for", error.code, error.phrase))
            return reasons.CLIENT_PROTOCOL_ERROR

    def on_stream(stream: Any) -> Log:
        log.calls.append(("on_stream",))
        return log

    connection = Connection(log, log, LIMITS, on_stream)
    connection.priorities = Priorities(log)
    return connection


def server_stream(kernels: dict[str, ModuleType], log: Log) -> Any:
    """Return a client's request."""

    connection = server_session(kernels, log)
    stream = kernels["h3_server"].ServerStream(connection, 0, "early")
    connection._requests[0] = stream
    return stream


def wire_of(fields: list[tuple[bytes, bytes]], *more: bytes) -> bytes:
    """Return a HEADERS frame and what follows it."""
    return compiled_wire.encode_frame(1, Encoder().encode(0, fields)[1]) + b"".join(more)


MESSAGES = st.one_of(
    st.just(wire_of(HEAD[:2], b"\0\5hello")),
    st.just(wire_of(HEAD[:1], b"\0\2hi\0\0", wire_of(HEAD[2:]))),
    st.lists(FRAMES, max_size=3).map(lambda frames: wire_of(HEAD[:1], *frames)),
    st.lists(FRAMES | st.binary(max_size=9), max_size=3).map(b"".join),
)
CALLS = st.one_of(
    st.tuples(st.just("send_head"), st.just(HEAD), st.booleans()),
    st.tuples(st.just("send_data"), st.binary(max_size=70).map(lambda b: b * 300), st.booleans()),
    st.tuples(st.just("send_trailers"), st.just(HEAD[2:])),
    st.tuples(st.just("consume"), st.integers(-1, 9)),
    st.sampled_from([("stop_receiving",), ("writable",), ("peer_stopped",), ("detach",)]),
    st.tuples(st.just("peer_reset"), st.just(0x10C)),
    st.tuples(st.just("reset"), st.just(reasons.CLIENT_RESET)),
    st.tuples(st.just("room"), st.sampled_from([0, 5, 1000, 1 << 30])),
    st.tuples(st.just("largest"), st.sampled_from([None, 50, 5000])),
)


def converse(
    make: Callable[[Log], Any],
    message: bytes,
    seed: int,
    calls: list[tuple[Any, ...]],
    end: bool,
    log: Log | None = None,
) -> list[Any]:
    """Deliver a message in pieces between calls; return everything that came of it."""
    log = log or Log()
    stream = make(log)
    steps: list[tuple[Any, ...]] = [("receive", piece, False) for piece in pieces(message, seed)]
    if end:
        steps[-1] = ("receive", steps[-1][1], True)
    for index, call in enumerate(calls):
        steps.insert(seed * (index + 1) % (len(steps) + 1), call)
    for name, *arguments in steps:
        if name == "room":
            log.room = arguments[0]
        elif name == "largest":
            stream._connection.peer_max_field_section_size = arguments[0]
        elif name != "receive" or stream._connection.active_streams:
            result = outcome(getattr(stream, name), *arguments)
            log.calls.append((name, "returned", result is log if name == "detach" else result))
    stream._connection.settle()
    return [*log.calls, stream._connection.active_streams]


@settings(max_examples=1000)
@given(MESSAGES, st.integers(0, 999), st.lists(CALLS, max_size=6), st.booleans())
def test_request_streams(
    message: bytes, seed: int, calls: list[tuple[Any, ...]], end: bool
) -> None:
    arguments = message, seed, calls, end
    assert converse(partial(request_stream, compiled), *arguments) == converse(
        partial(request_stream, pure), *arguments
    )


SERVER_CALLS = CALLS | st.one_of(
    st.tuples(st.just("send_head"), st.just([*HEAD, (b"priority", b"u=1")]), st.booleans()),
    st.tuples(st.just("prioritize"), st.just((1, False))),
    st.tuples(st.just("reject"), st.just(reasons.DRAINING), st.just(0x10B)),
)


@settings(max_examples=1000)
@given(MESSAGES, st.integers(0, 999), st.lists(SERVER_CALLS, max_size=6), st.booleans())
def test_streams_of_a_server(
    message: bytes, seed: int, calls: list[tuple[Any, ...]], end: bool
) -> None:
    arguments = message, seed, calls, end
    assert converse(partial(server_stream, COMPILED_SERVER), *arguments) == converse(
        partial(server_stream, PURE_SERVER), *arguments
    )


HANDSHAKE = Handshake(1, "h3", None, False, None)
STREAMS = st.sampled_from([0, 2, 4, 6, 10, 14, 18, 22, 26])
# What tells the type of a unidirectional stream, and frames of a control stream.
BEGINNINGS = st.sampled_from([b"\0", b"\1", b"\2", b"\3", b"\x21", b"\x40\0", b"\x40", b""])
CONTROL = st.one_of(
    st.just(compiled_frames.encode_settings({6: 50})),
    st.sampled_from([b"\4\0", b"\7\1\0", b"\7\1\x3c", b"\x0d\1\4", b"\x0d\0", b"\3\1\0"]),
    st.sampled_from([b"\x80\x0f\7\0\4\4u=1", b"\x80\x0f\7\1\1\0", b"\x80\x0f\7\0\0", b"\x21\x32"]),
    st.sampled_from(
        [b" ", b"\x40", b"\x7f\x80\1", b"\x7f" + b"\xff" * 10, b"\x80", b"\4\x80\0\x10\0"]
    ),
    FRAMES,
)
# What comes on QPACK's streams, right and wrong.
INSTRUCTIONS = st.builds(
    lambda kind, instructions: kind + b"".join(instructions),
    st.sampled_from([b"\2", b"\3"]),
    st.lists(
        st.sampled_from([b" ", b"\x40", b"\x7f\x80\1", b"\x7f" + b"\xff" * 10, b"\x80"]),
        max_size=3,
    ),
)
SESSION_STEPS = st.one_of(
    st.tuples(st.just("on_stream_data"), st.sampled_from([6, 10]), INSTRUCTIONS, st.booleans()),
    st.tuples(
        st.just("on_stream_data"),
        STREAMS,
        st.builds(lambda begin, frames: begin + b"".join(frames), BEGINNINGS, st.lists(CONTROL)),
        st.booleans(),
    ),
    st.tuples(st.just("on_stream_data"), STREAMS, CONTROL, st.just(False)),
    st.tuples(st.sampled_from(["on_stream_reset", "on_stop_sending"]), STREAMS, st.just(0x10C)),
    st.tuples(st.just("on_stream_writable"), STREAMS | st.just(3)),
    st.tuples(
        st.sampled_from(["on_connection_id_issued", "on_connection_id_retired"]), st.just(b"")
    ),
    st.tuples(st.just("on_handshake"), st.just(HANDSHAKE)),
    st.sampled_from([("on_early_data",), ("on_streams_available",), ("shutdown",), ("settle",)]),
    st.tuples(st.just("terminate"), st.just(reasons.DRAINING)),
    st.tuples(
        st.just("on_closed"),
        st.builds(Close, st.sampled_from([0, 0x100, 0x102]), *[st.booleans()] * 4),
    ),
    st.tuples(st.just("room"), st.sampled_from([0, 1, 1 << 30])),
    st.tuples(st.just("opens"), st.sampled_from([None, 3])),
    st.tuples(st.just("acknowledged"), st.booleans()),
)


def live(kernels: dict[str, ModuleType], steps: list[tuple[Any, ...]]) -> list[Any]:
    """Have a session live through steps; return everything that came of it."""
    log = Log()
    session = server_session(kernels, log)
    for name, *arguments in steps:
        if name in ("room", "opens"):
            setattr(log, name, arguments[0])
        elif name == "acknowledged":
            log.all_acknowledged = arguments[0]
        else:
            log.calls.append((name, outcome(getattr(session, name), *arguments)))
    budget = session.budget
    return [
        *log.calls,
        session.peer_max_field_section_size,
        session.active_streams,
        (budget.glitches, budget.requests),
    ]


@settings(max_examples=300)
@given(st.lists(SESSION_STEPS, max_size=12))
def test_sessions(steps: list[tuple[Any, ...]]) -> None:
    assert live(COMPILED_SERVER, steps) == live(PURE_SERVER, steps)
