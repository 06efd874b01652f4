"""Floods and bombs of HTTP/3 (rows 1 to 11, 24 to 27) against a running proxy."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from spooky._core import h3_errors as errors
from spooky._core import reasons
from spooky._core.h3_frames import HEADERS, encode_frame, encode_varint
from spooky.protocol.h3.limits import Limits
from tests.attacks.floods_h3 import (
    CONTROL,
    ENCODER,
    FLOODS,
    GREASE,
    LOCAL_GET,
    LOCAL_POST,
    OTHER,
)
from tests.attacks.ground import MIB, Ground
from tests.attacks.wires import QuicWire, from_elsewhere
from tests.edge.test_stateless import Wire
from tests.protocol.h3.peers import GET, POST, Server, block, control, data, headers, make_server
from tests.protocol.h3.test_h3_limits import POLICY
from tests.support.proxy import run

in_rows = pytest.mark.parametrize(
    "name", [pytest.param(name, id=f"row {flood.row}: {name}") for name, flood in FLOODS.items()]
)


@in_rows
def test_a_flood_ends_its_connection_and_nothing_else(proxy: Ground, name: str) -> None:
    flood = FLOODS[name]

    async def scenario() -> None:
        async with proxy.siege() as siege:
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                flood.first(wire)
                await wire.flood(flood.act, flood.most)
                assert await wire.until_closed() == flood.code
            assert siege.memory < 16 * MIB

    run(scenario)


class Inside:
    """Says floods to a session, as the wire does."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.deliver = server.quic.deliver

    def give_up(self, stream_id: int) -> None:
        self._server.session.on_stream_reset(stream_id, errors.H3_REQUEST_CANCELLED)


def repeat(name: str, limits: Limits) -> tuple[Server, int]:
    """Say a flood to a session; return it, and how much of it it took."""
    flood = FLOODS[name]
    server = make_server(limits)
    inside = Inside(server)
    server.quic.deliver(CONTROL, control())
    flood.first(inside)
    for count in range(flood.most):
        flood.act(inside, count)
        if server.quic.closed is not None:
            return server, count
    return server, flood.most


@in_rows
def test_without_its_limit_a_flood_is_taken(name: str) -> None:
    stopped, _ = repeat(name, Limits())
    assert stopped.session._close_reason is reasons.CLIENT_EXCESSIVE_LOAD
    taken, count = repeat(name, FLOODS[name].limits)
    assert taken.quic.closed is None
    assert count == FLOODS[name].most


def bomb() -> bytes:
    """Return a head of 600 KB in 16 KB (row 4); the proxy has no table that it could use."""
    return encode_frame(HEADERS, block([*GET, *[POLICY] * 8_000]))


def test_a_bomb_of_references_is_answered_431(proxy: Ground) -> None:
    async def scenario() -> None:
        async with proxy.siege() as siege:
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                for number in range(50):
                    wire.say(4 * number, bomb(), True)
                    await wire.hear()
                await wire.until(lambda: wire.answered >= {4 * n for n in range(50)})
                assert wire.closed is None
                await wire.close()
            assert siege.memory < 16 * MIB

    run(scenario)


def test_without_limits_a_bomb_is_unpacked() -> None:
    def deliver(limits: Limits) -> Server:
        server = make_server(limits)
        server.quic.deliver(0, bomb(), fin=True)
        return server

    many = Limits(max_headers_count=10_000)
    assert deliver(many).request.reset is reasons.FIELDS_TOO_LARGE
    endless = Limits(max_headers_count=10_000, max_headers_bytes=10**6)
    assert len(deliver(endless).request.head) > 8_000


def blocked(wire: QuicWire) -> None:
    """A head that needs an entry of a table that there is not (row 24)."""
    wire.say(0, encode_frame(HEADERS, b"\x02\x00\x80"), True)


def insertion(wire: QuicWire) -> None:
    """An entry for that table (row 25)."""
    wire.say(ENCODER, b"\x02\x3f\xe1\x1f" + b"\xc0\x01x")


def endless_literal(wire: QuicWire) -> None:
    """A literal of 2^60 bytes."""
    wire.say(ENCODER, b"\x02\x5f" + b"\xff" * 8 + b"\x0f")


def second_encoder(wire: QuicWire) -> None:
    wire.say(ENCODER, b"\x02")
    wire.say(OTHER, b"\x02")


def second_control(wire: QuicWire) -> None:
    wire.say(OTHER, control())


def ended_control(wire: QuicWire) -> None:
    wire.say(CONTROL, b"", True)


def huge_settings(wire: QuicWire) -> None:
    """Row 6: SETTINGS whose length is absurd."""
    wire.quic.send_stream_data(OTHER, b"", False)
    wire.say(CONTROL, b"\x04" + encode_varint(2**40))


def far_byte(wire: QuicWire) -> None:
    """Row 11: beyond what the window allows."""
    wire.force(b"\x0e" + encode_varint(0) + encode_varint(2**40) + encode_varint(1) + b"x")


def far_stream(wire: QuicWire) -> None:
    """Row 9: more streams than advertised."""
    wire.force(b"\x0a" + encode_varint(4 * 5_000) + encode_varint(1) + b"\0")


def body_of_no_request(wire: QuicWire) -> None:
    wire.say(0, data(b"x"))


def cut_frame(wire: QuicWire) -> None:
    """Row 27: a stream that ends within DATA (CVE-2026-90678)."""
    wire.say(0, headers(LOCAL_POST) + b"\0" + encode_varint(1_000) + b"short", True)


def push(wire: QuicWire) -> None:
    wire.say(OTHER, b"\x01\x00")


FLOW_CONTROL_ERROR, STREAM_LIMIT_ERROR = 0x3, 0x4
QPACK_FAILED, ENCODER_FAILED = 0x200, 0x201
ERRORS: dict[Callable[[QuicWire], None], set[int]] = {
    blocked: {QPACK_FAILED},
    insertion: {ENCODER_FAILED},
    endless_literal: {ENCODER_FAILED},
    second_encoder: {errors.H3_STREAM_CREATION_ERROR},
    second_control: {errors.H3_STREAM_CREATION_ERROR},
    ended_control: {errors.H3_CLOSED_CRITICAL_STREAM},
    huge_settings: {errors.H3_EXCESSIVE_LOAD, errors.H3_FRAME_UNEXPECTED},
    far_byte: {FLOW_CONTROL_ERROR},
    far_stream: {STREAM_LIMIT_ERROR},
    body_of_no_request: {errors.H3_FRAME_UNEXPECTED},
    cut_frame: {errors.H3_FRAME_ERROR},
    push: {errors.H3_STREAM_CREATION_ERROR},
}


def test_what_breaks_a_rule_ends_its_connection_with_the_error_for_it(proxy: Ground) -> None:
    """Rows 6, 9, 11, 24, 25 and 27, one connection each."""

    async def scenario() -> None:
        async with proxy.siege() as siege:
            for act, codes in ERRORS.items():
                with from_elsewhere(proxy.port) as on:
                    wire = await QuicWire(on).open()
                    act(wire)
                    assert await wire.until_closed() in codes, act.__name__
            assert siege.memory < 16 * MIB

    run(scenario)


def test_bytes_at_the_edge_of_windows_hold_nothing(proxy: Ground) -> None:
    """Row 11: one byte at the end of each of many windows (CVE-2026-44433)."""

    async def begin(on: Wire) -> QuicWire:
        wire = await QuicWire(on).open()
        edge = wire.quic._remote_max_stream_data_bidi_remote - 1
        for number in range(3):
            stream = encode_varint(4 * number) + encode_varint(edge)
            wire.force(b"\x0e" + stream + encode_varint(1) + b"x")
            await wire.hear()
        return wire

    async def ask(wire: QuicWire) -> None:
        await wire.hear(0.05)
        assert wire.closed is None
        # What else it has to say is served: its windows are as large as before.
        wire.say(16, headers(LOCAL_GET), True)
        await wire.until(lambda: 16 in wire.answered)

    async def scenario() -> None:
        async with proxy.siege() as siege:
            with contextlib.ExitStack() as stack:
                sources = [stack.enter_context(from_elsewhere(proxy.port)) for _ in range(20)]
                # Side by side: one that waited for all the others would be idle for too long.
                wires = await asyncio.gather(*map(begin, sources))
                await asyncio.gather(*map(ask, wires))
                for wire in wires:
                    await wire.close()
            assert siege.memory < 8 * MIB

    run(scenario)


def test_a_body_that_is_cut_off_ends_the_backends_connection(proxy: Ground) -> None:
    """Row 27: the backend gets no end that the client did not send, and no second request."""

    async def scenario() -> None:
        async with proxy.siege():
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                path = (b":path", b"/wait")
                head = [*POST[:2], (b":authority", b"localhost"), path]
                ended = len(proxy.proxy.origin.gate.ended_by)
                wire.say(0, headers([*head, (b"content-length", b"100")]) + data(b"some"))
                await wire.hear(0.1)
                wire.say(0, b"", True)
                await wire.until(lambda: 0 in wire.ended)
                assert wire.ended[0] == errors.H3_MESSAGE_ERROR
                gate = proxy.proxy.origin.gate
                await wire.until(lambda: len(gate.ended_by) > ended)
                await wire.close()

    run(scenario)


def test_unknown_streams_are_told_to_stop(proxy: Ground) -> None:
    """Row 26: a stream of an unknown type is not read on."""

    async def scenario() -> None:
        async with proxy.siege():
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                wire.say(OTHER, encode_varint(GREASE) + bytes(5_000))
                await wire.until(lambda: OTHER in wire.ended)
                assert wire.ended[OTHER] == errors.H3_STREAM_CREATION_ERROR
                await wire.close()

    run(scenario)
