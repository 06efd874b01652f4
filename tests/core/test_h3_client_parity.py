"""The compiled client session of HTTP/3 and its twin do the same for every input.

One source makes both, so what is looked for is what C types change: ranges, truth, overriding.
"""

from functools import partial
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import h3, h3_budget, h3_client, h3_session, h3_unidirectional, reasons
from spooky._core.h3_frames import encode_settings
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky.protocol.quic.session import Close
from tests.core.test_h3_parity import (
    CALLS,
    FRAMES,
    HANDSHAKE,
    HEAD,
    INSTRUCTIONS,
    LIMITS,
    MESSAGES,
    Log,
    converse,
    outcome,
    wire_of,
)
from tests.support.twins import twins

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

COMPILED = {
    "h3": h3,
    "h3_budget": h3_budget,
    "h3_unidirectional": h3_unidirectional,
    "h3_session": h3_session,
    "h3_client": h3_client,
}
PURE = twins(*COMPILED)

REQUESTS = [
    [(b":method", method), (b":scheme", b"https"), (b":path", b"/"), (b"x-long", b"y" * 40)]
    for method in (b"GET", b"HEAD", b"")
]
ANSWERS = st.one_of(
    MESSAGES,
    *[
        st.just(wire_of([(b":status", status)], *more))
        for status in (b"100", b"101", b"103", b"1", b"204", b"304", b"500")
        for more in ((), (wire_of(HEAD[:2], b"\0\5hello"),))
    ],
    st.just(wire_of([(b"x", b"1"), (b":status", b"103")])),
    st.just(wire_of([(b":status", b"103")]) * 4 + wire_of(HEAD)),
    st.just(wire_of(HEAD[:2], b"\0\6hello!")),
    st.just(wire_of([], b"\0\1!")),
)


class ClientLog(Log):
    """A log whose QUIC session opens streams of a client."""

    def __init__(self) -> None:
        super().__init__()
        self.opens = 0

    def open_stream(self, unidirectional: bool) -> int | None:
        return 2 if unidirectional and self.opens is not None else super().open_stream(False)


def session_of(kernels: dict[str, ModuleType], log: Log) -> Any:
    """Return a session on which nothing happened."""
    return kernels["h3_client"].ClientSession(log, LIMITS, log)


def request_of(kernels: dict[str, ModuleType], request: int, log: Log) -> Any:
    """Return a request that was sent."""
    session = session_of(kernels, log)
    session.on_handshake(HANDSHAKE)
    stream = session.open(log)
    if request < len(REQUESTS):
        stream.send_head(REQUESTS[request], request == 0)
    return stream


@settings(max_examples=600)
@given(
    st.integers(0, len(REQUESTS)),
    ANSWERS,
    st.integers(0, 999),
    st.lists(
        CALLS
        | st.sampled_from(
            [
                ("fail", reasons.UPSTREAM_RESET, 0x102),
                ("send_informational", HEAD),
                *[("peer_reset", code) for code in (0x10B, 0x110, 2**62 - 1)],
                ("reset", reasons.CLIENT_RESET),
            ]
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_requests(
    request: int, message: bytes, seed: int, calls: list[tuple[Any, ...]], end: bool
) -> None:
    compiled, pure = (
        converse(partial(request_of, kernels, request), message, seed, calls, end, ClientLog())
        for kernels in (COMPILED, PURE)
    )
    assert compiled == pure


CLOSES = st.builds(
    Close,
    st.sampled_from([0, 1, 0x100, 0x110, 0x12A, 0x130, 0x178, 2**62 - 1]),
    st.booleans(),
    st.just(""),
    st.booleans(),
    st.booleans(),
)
CONTROL = st.one_of(
    st.just(encode_settings({6: 50})),
    st.sampled_from([0, 4, 8, 1, 2**62 - 4]).map(
        lambda identifier: encode_frame(7, encode_varint(identifier))
    ),
    st.sampled_from([b"\4\0", b"\7\1\0", b"\7\1\4", b"\x0d\1\4", b"\x80\x0f\7\0\4\4u=1"]),
    FRAMES,
)
STEPS = st.one_of(
    st.tuples(
        st.just("on_stream_data"),
        st.sampled_from([3, 7, 11, 15, 19, 23]),
        st.builds(
            lambda kind, frames: kind + b"".join(frames),
            st.sampled_from([b"\0", b"\1", b"\2", b"\x21", b""]),
            st.lists(CONTROL),
        ),
        st.booleans(),
    ),
    st.tuples(st.just("on_stream_data"), st.sampled_from([7, 11]), INSTRUCTIONS, st.booleans()),
    st.tuples(st.just("on_stream_data"), st.sampled_from([0, 4, 1, 8]), ANSWERS, st.booleans()),
    st.tuples(
        st.sampled_from(["on_stream_reset", "on_stop_sending"]),
        st.sampled_from([0, 1, 3, 4, 7]),
        st.sampled_from([0x10B, 0x10C, 2**62 - 1]),
    ),
    st.tuples(st.just("on_stream_writable"), st.sampled_from([0, 2, 4])),
    st.tuples(st.just("take_goaway"), st.sampled_from([0, 4, 5, 2**62 - 4])),
    st.tuples(st.just("on_handshake"), st.just(HANDSHAKE)),
    st.sampled_from([("on_streams_available",), ("shutdown",), ("settle",), ("on_early_data",)]),
    st.tuples(st.just("terminate"), st.just(reasons.REMOVED)),
    st.tuples(st.just("on_closed"), CLOSES),
    st.tuples(st.just("room"), st.sampled_from([0, 1, 1 << 30])),
    st.tuples(st.just("opens"), st.sampled_from([None, 0, 4, 8, 2**62 - 4])),
    st.tuples(st.just("open"), st.integers(0, len(REQUESTS) - 1)),
    st.tuples(st.just("held_back"), st.booleans()),
)


def live(kernels: dict[str, ModuleType], steps: list[tuple[Any, ...]]) -> list[Any]:
    """Have a session live through steps; return everything that came of it."""
    log = ClientLog()
    session = session_of(kernels, log)
    for name, *arguments in steps:
        if name in ("room", "opens"):
            setattr(log, name, arguments[0])
        elif name == "held_back":
            session.held_back = arguments[0]
        elif name == "open":
            if session.capacity:
                session.open(log).send_head(REQUESTS[arguments[0]], False)
            else:
                with pytest.raises(RuntimeError):
                    session.open(log)
        else:
            log.calls.append((name, outcome(getattr(session, name), *arguments)))
        state = session.capacity, session.reusable, session.drained, session.active_streams
        log.calls.append(("state", *state))
    return [*log.calls, session.budget.glitches, session.budget.requests]


@settings(max_examples=400)
@given(st.lists(STEPS, max_size=12).map(lambda steps: [("on_handshake", HANDSHAKE), *steps]))
def test_sessions(steps: list[tuple[Any, ...]]) -> None:
    assert live(COMPILED, steps) == live(PURE, steps)
