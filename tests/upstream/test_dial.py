"""Connections of plain TCP to backends, from the dial to their end, on the loops there are."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop

from spooky._core.carrier import Carrier
from spooky.runtime import Runtime
from spooky.runtime.byte_transport import CarriedProtocol
from spooky.upstream.dial import DialError, DialSettings, dial
from spooky.upstream.origin import Origin

SECONDS = 10.0

LOOPS: list[Any] = [asyncio.SelectorEventLoop, uvloop.Loop]

on_each_loop = pytest.mark.parametrize("loop_class", LOOPS, ids=["asyncio", "uvloop"])


async def as_it_is(host: str, port: int) -> list[str]:
    return [host]


class Told(CarriedProtocol):
    """A connection whose session takes all, and notes how much it is and how it ends."""

    want_read, closed = True, False

    def __init__(self, runtime: Runtime) -> None:
        self.carrier = Carrier(runtime)
        self.received = 0
        self.lost: asyncio.Future[Exception | None] = runtime.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.carrier.carry(transport, self, self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.carrier.let_go()
        self.lost.set_result(exc)

    def receive(self, data: bytes, now: float) -> None:
        self.received += len(data)

    def transmit(self) -> bytes:
        return b""

    def on_progress(self) -> None: ...


async def connect(runtime: Runtime, host: str, port: int) -> Told:
    told = Told(runtime)
    settings = DialSettings(Origin("http", host, port), "http1", None)
    await dial(settings, as_it_is, runtime, lambda: told, SECONDS)
    return told


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, int]]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        yield server, server.getsockname()[1]


def run(loop_class: Any, scenario: Any) -> None:
    loop = loop_class()
    try:
        loop.run_until_complete(asyncio.wait_for(scenario(Runtime(loop)), SECONDS))
    finally:
        loop.close()


@on_each_loop
@pytest.mark.parametrize("size", [10, 10_000, 3_000_000], ids=["alone", "more", "many reads"])
def test_a_reset_right_behind_what_comes_ends_a_connection(loop_class: Any, size: int) -> None:
    async def scenario(runtime: Runtime) -> None:
        with listening() as (server, port):
            # What is accepted, and what is connected, has room for all.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            told = await connect(runtime, "127.0.0.1", port)
            own = told.transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            peer = server.accept()[0]
            peer.setblocking(False)
            sent = peer.send(bytes(size))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            assert isinstance(await told.lost, ConnectionResetError)
            assert told.received <= sent

    run(loop_class, scenario)


@on_each_loop
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::1%1"])
def test_an_address_is_connected_to_without_being_looked_up(loop_class: Any, host: str) -> None:
    """A lookup takes a thread of the loop's pool, which a slow one may hold for long."""

    class Loop(loop_class):  # type: ignore[misc]
        def getaddrinfo(self, *arguments: Any, **named: Any) -> Any:
            raise AssertionError("looked up")

    async def scenario(runtime: Runtime) -> None:
        with listening(host.partition("%")[0]) as (server, port):
            told = await connect(runtime, host, port)
            server.accept()[0].close()
            assert await told.lost is None

    run(Loop, scenario)


@on_each_loop
def test_an_address_that_refuses_says_so(loop_class: Any) -> None:
    async def scenario(runtime: Runtime) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            with pytest.raises(DialError, match=r"connect_refused: .* refused"):
                await connect(runtime, "127.0.0.1", held.getsockname()[1])

    run(loop_class, scenario)


@on_each_loop
def test_a_protocol_that_breaks_at_once_keeps_no_socket(loop_class: Any) -> None:
    class Broken(Told):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise LookupError

    async def scenario(runtime: Runtime) -> None:
        with listening() as (_, port):
            broken = Broken(runtime)
            settings = DialSettings(Origin("http", "127.0.0.1", port), "http1", None)
            with pytest.raises(LookupError):
                await dial(settings, as_it_is, runtime, lambda: broken, SECONDS)
            assert await broken.lost is None
            await asyncio.sleep(0)
            assert broken.transport.get_extra_info("socket").fileno() == -1

    run(loop_class, scenario)


@on_each_loop
def test_a_dial_that_takes_too_long_keeps_no_socket(
    loop_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []

    class Kept(socket.socket):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

    async def scenario(runtime: Runtime) -> None:
        # Nobody accepts, and there is room for one that waits.
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                monkeypatch.setattr(socket, "socket", Kept)
                settings = DialSettings(Origin("http", "127.0.0.1", port), "http1", None)
                with pytest.raises(DialError, match="connect_timeout"):
                    await dial(settings, as_it_is, runtime, lambda: Told(runtime), 0.05)
                assert [each.fileno() for each in made] == [-1]

    run(loop_class, scenario)
