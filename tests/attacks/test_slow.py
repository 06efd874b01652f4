"""Clients that take their time (rows 3, 5 and 10), all at once against a running proxy."""

import asyncio
import socket
from pathlib import Path

from spooky._core.h3_frames import DATA, HEADERS, encode_frame, encode_varint
from tests.attacks.floods_h2 import CONTINUATION, GET, POST, stream
from tests.attacks.floods_h3 import LOCAL_POST
from tests.attacks.ground import MIB, Ground, attacker_host
from tests.attacks.wires import H2Wire, QuicWire, TcpWire, from_elsewhere
from tests.protocol.h2.peers import raw_frame, window_update
from tests.protocol.h3.peers import headers
from tests.support.proxy import run
from tests.support.waiting import until

ENOUGH = 30
"""Connections or requests of each kind."""

ESTABLISHED = "01"
"""In the system's table of TCP connections (proc(5))."""


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


def connected(port: int, others: set[int]) -> bool:
    """Return whether the system has a connection from a port here to one of others."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = [[int(end.rpartition(":")[2], 16) for end in line.split()[1:3]] for line in lines]
    states = [line.split()[3] for line in lines]
    return any(
        local == port and remote in others and state == ESTABLISHED
        for (local, remote), state in zip(ends, states, strict=True)
    )


async def unread_responses(port: int) -> None:
    """HTTP/1.1: large responses that nobody reads."""
    wires = [await TcpWire.connect(port, "http/1.1") for _ in range(5)]
    for wire in wires:
        await wire.send(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    # Whoever read meanwhile would be no slow reader: that they are cut off is seen elsewhere.
    ports = {wire.writer.get_extra_info("sockname")[1] for wire in wires}
    await until(lambda: not connected(port, ports))
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


PAUSE_SECONDS = 0.2
"""Far shorter than the idle timeout: at five bytes a second, it never passes."""

DRIPPING = 10
"""Requests of each kind."""


async def dripped_bodies(port: int) -> None:
    """HTTP/2: uploads that go on by the byte."""
    wire = await H2Wire.open(port)
    streams = [stream(count) for count in range(DRIPPING)]
    for each in streams:
        await wire.send(wire.headers(each, POST))
    while len(wire.statuses) < DRIPPING:
        await wire.send(b"".join(raw_frame(0, 0, each, b"x") for each in streams))
        await asyncio.sleep(PAUSE_SECONDS)
    assert set(wire.statuses.values()) == {b"408"}
    await wire.close()


async def sipped_responses(port: int) -> None:
    """HTTP/2: windows that open by the byte; for responses that end, and for one that does not."""
    wire = await H2Wire.open(port, {4: 0})
    streams = [stream(count) for count in range(DRIPPING)]
    for count, each in enumerate(streams):
        path = b"/size/100000" if count else b"/endless"
        await wire.send(wire.headers(each, [*GET[:3], (b":path", path)], end=True))
    while len(wire.resets) < DRIPPING and not wire.closed.is_set():
        await wire.send(b"".join(window_update(each, 1) for each in streams))
        await asyncio.sleep(PAUSE_SECONDS)
    assert len(wire.resets) == DRIPPING
    await wire.close()


async def dripped_body(port: int) -> None:
    """HTTP/1.1: a body that goes on by the byte."""
    wire = await TcpWire.connect(port, "http/1.1")
    await wire.send(b"POST /count HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n")
    while not wire.closed.is_set():
        await wire.send(b"0")
        await asyncio.sleep(PAUSE_SECONDS)
    assert wire.received.startswith(b"HTTP/1.1 408")
    await wire.close()


async def dripped_frames(port: int) -> None:
    """HTTP/3: uploads that go on by the byte."""
    with from_elsewhere(port) as on:
        wire = await QuicWire(on).open()
        uploads = [4 * number for number in range(DRIPPING)]
        for each in uploads:
            wire.say(each, headers(LOCAL_POST))
        while not set(uploads) <= wire.ended.keys() | wire.answered:
            for each in uploads:
                wire.say(each, encode_frame(DATA, b"x"))
            await wire.hear(PAUSE_SECONDS)
        await wire.close()


DRIPS = (dripped_bodies, sipped_responses, dripped_body, dripped_frames)


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


def test_who_moves_a_byte_now_and_then_is_cut_off_for_that(proxy: Ground) -> None:
    """Row 10: no idle timeout sees them."""

    async def scenario() -> None:
        counts = {"client_body_slow": 2 * DRIPPING + 1, "client_read_slow": DRIPPING}
        before = {code: await proxy.counted("requests_total", reason=code) for code in counts}
        async with proxy.siege(64 * MIB):
            await asyncio.gather(*(each(proxy.port) for each in DRIPS))
        for code, count in counts.items():
            assert await proxy.counted("requests_total", reason=code) == before[code] + count

    run(scenario)
