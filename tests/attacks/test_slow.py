"""Clients that take their time (rows 3, 5 and 10), all at once against a running proxy."""

import asyncio
import socket

from spooky._core.h3_frames import HEADERS, encode_varint
from tests.attacks.floods_h2 import CONTINUATION, GET, POST, stream
from tests.attacks.floods_h3 import LOCAL_POST
from tests.attacks.ground import MIB, Ground, attacker_host
from tests.attacks.wires import H2Wire, QuicWire, TcpWire, from_elsewhere
from tests.protocol.h2.peers import raw_frame
from tests.protocol.h3.peers import headers
from tests.support.proxy import run

ENOUGH = 30
"""Connections or requests of each kind."""


async def head_without_end(port: int) -> None:
    """HTTP/2: a head whose CONTINUATION does not come."""
    wire = await H2Wire.open(port)
    await wire.send(wire.headers(1, GET, final=False) + raw_frame(CONTINUATION, 0, 1))
    await wire.until_closed()
    await wire.close()


async def dripping_bodies(port: int) -> None:
    """HTTP/2: uploads that do not go on; each is answered with 408."""
    wire = await H2Wire.open(port)
    for count in range(ENOUGH):
        await wire.send(wire.headers(stream(count), POST))
    await wire.until(lambda: len(wire.statuses) == ENOUGH)
    assert set(wire.statuses.values()) == {b"408"}
    await wire.close()


async def uncollected_bombs(port: int) -> None:
    """HTTP/2: large heads, and responses that may not leave (CVE-2026-10725)."""
    wire = await H2Wire.open(port, {4: 0})
    for count in range(ENOUGH):
        head = [
            *GET[:3], (b":path", b"/size/1000000"), (b"x-%d" % count, b"y" * 3_000),
            *[(b"cookie", b"a=%d" % n) for n in range(50)],
        ]  # fmt: skip
        await wire.send(wire.headers(stream(count), head, end=True))
    await wire.until(lambda: len(wire.resets) == ENOUGH or wire.closed.is_set())
    await wire.close()


async def slow_heads(port: int) -> None:
    """HTTP/1.1: heads that come by the byte (slowloris)."""
    wires = [await TcpWire.connect(port, "http/1.1") for _ in range(ENOUGH)]
    for piece in (b"GET / HTT", b"P/1.1\r\n", b"host: localhost\r\n", b"x"):
        for wire in wires:
            await wire.send(piece)
        await asyncio.sleep(0.05)
    for wire in wires:
        await wire.until_closed()
        await wire.close()


async def slow_body(port: int) -> None:
    """HTTP/1.1: a body that does not go on."""
    wire = await TcpWire.connect(port, "http/1.1")
    await wire.send(b"POST /count HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n0")
    await wire.until_closed()
    assert wire.received.startswith(b"HTTP/1.1 408")
    await wire.close()


async def stalled_handshakes(port: int) -> None:
    """TLS: connections that say nothing, and one that says half a hello."""
    loop = asyncio.get_running_loop()
    connections = []
    for number in range(ENOUGH):
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((attacker_host(), 0))
        await loop.sock_connect(connection, ("127.0.0.1", port))
        if number % 2:
            await loop.sock_sendall(connection, b"\x16\x03\x01\x02\x00\x01")
        connections.append(connection)
    for connection in connections:
        async with asyncio.timeout(30):
            try:
                assert await loop.sock_recv(connection, 10) == b""
            except ConnectionError:
                pass
        connection.close()


async def unread_responses(port: int) -> None:
    """HTTP/1.1: large responses that nobody reads."""
    wires = [await TcpWire.connect(port, "http/1.1") for _ in range(5)]
    for wire in wires:
        await wire.send(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(6)
    for wire in wires:
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await wire.until_closed()
        await wire.close()


async def half_of_a_frame(port: int) -> None:
    """HTTP/3: heads and bodies that stop in their middle; the connection is kept alive."""
    with from_elsewhere(port) as on:
        wire = await QuicWire(on).open()
        for number in range(ENOUGH):
            if number % 2:
                wire.say(4 * number, headers(LOCAL_POST))
            else:
                wire.say(4 * number, encode_varint(HEADERS) + encode_varint(5_000) + b"\0\0")
        uploads = {4 * number for number in range(ENOUGH) if number % 2}
        await wire.until(lambda: uploads <= wire.ended.keys() | wire.answered)
        await wire.close()


SLOW = (
    head_without_end, dripping_bodies, uncollected_bombs, slow_heads, slow_body,
    stalled_handshakes, unread_responses, half_of_a_frame,
)  # fmt: skip


def test_who_takes_his_time_is_cut_off_and_holds_up_nobody(proxy: Ground) -> None:
    async def scenario() -> None:
        async with proxy.siege(64 * MIB) as siege:
            await asyncio.gather(*(each(proxy.port) for each in SLOW))
            assert siege.memory < 64 * MIB

    run(scenario)
