"""Who is connected when an address is left to another program gets an answer."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from spooky.config.control_api import ControlApi
from spooky.config.observability import Metrics
from spooky.control import leaving
from spooky.control.admin_credentials import AdminCredentials
from spooky.control.admin_listener import AdminListener
from spooky.control.control_socket import ControlSocket
from spooky.control.metrics_server import MetricsServer
from spooky.observe.counters import Counters
from tests.certificates import shared_server, write
from tests.support.proxy import run
from tests.support.tls import plain_context

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long one waits here is the test's own business."""
    monkeypatch.setattr(leaving, "LEAVE_SECONDS", 60.0)


def application() -> web.Application:
    made = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="yes")

    made.router.add_get("/metrics", answer)
    return made


@contextlib.asynccontextmanager
async def admin(directory: Path) -> AsyncIterator[AdminListener]:
    paths = write(shared_server(), directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.certificate, paths.key)
    listener = AdminListener(
        application(),
        ControlApi(port=0),
        AdminCredentials(context=context),
        lambda _: False,
        lambda *_: None,
    )
    await listener.prepare()
    listener.listen()
    listener.begin()
    try:
        yield listener
    finally:
        await listener.close()


async def connected(address: tuple[str, int]) -> socket.socket:
    """Return a connection that has said nothing yet."""
    client = socket.socket()
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, address)
    return client


async def answer_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask on a connection, and return all that comes until it is closed."""
    writer.write(REQUEST)
    answer = await reader.read()
    writer.close()
    return answer


def test_a_handshake_with_the_control_api_that_began_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with admin(tmp_path) as listener:
            address = listener.address
            silent, asked = await connected(address), await connected(address)
            # Both are accepted before the next one is served.
            _, writer = await asyncio.open_connection(*address, ssl=plain_context())
            writer.transport.abort()
            leaves = asyncio.ensure_future(listener.leave())
            await asyncio.sleep(0)
            with pytest.raises(ConnectionError):
                await connected(address)
            for client in (asked, silent):
                assert not leaves.done()
                streams = await asyncio.open_connection(
                    sock=client, ssl=plain_context(), server_hostname=""
                )
                answer = await answer_on(*streams)
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert b"Connection: close\r\n" in answer
            await leaves

    run(scenario)


def test_a_scrape_that_was_about_to_begin_is_answered() -> None:
    async def scenario() -> None:
        server = MetricsServer(Metrics(port=0), Counters().segment, tuple)
        await server.start()
        address = server.address
        assert address is not None
        streams = [await asyncio.open_connection(*address) for _ in range(2)]
        assert (await answer_first(*streams[0])).startswith(b"HTTP/1.1 200 ")
        leaves = asyncio.ensure_future(server.leave())
        await asyncio.sleep(0)
        for reader, writer in streams:
            assert not leaves.done()
            answer = await answer_on(reader, writer)
            assert b"Connection: close\r\n" in answer
        await leaves

    run(scenario)


async def answer_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask on a connection that is kept, and return the answer's head."""
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    return head


def test_a_command_that_was_about_to_ask_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        control = ControlSocket(tmp_path / "control.sock", application())
        await control.start()
        streams = [await asyncio.open_unix_connection(control.path) for _ in range(2)]
        # They are accepted in turn: the second is, when the third has its answer.
        third: Any = await asyncio.open_unix_connection(control.path)
        assert (await answer_first(*third)).startswith(b"HTTP/1.1 200 ")
        third[1].close()
        leaves = asyncio.ensure_future(control.leave())
        await asyncio.sleep(0)
        for reader, writer in streams:
            assert not leaves.done()
            assert (await answer_first(reader, writer)).startswith(b"HTTP/1.1 200 ")
            writer.close()
        await leaves

    run(scenario)


def test_who_never_asks_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(leaving, "LEAVE_SECONDS", 0.0)
        server = MetricsServer(Metrics(port=0), Counters().segment, tuple)
        await server.start()
        address = server.address
        assert address is not None
        kept, silent = [await asyncio.open_connection(*address) for _ in range(2)]
        await answer_first(*kept)
        await server.leave()
        for reader, writer in (kept, silent):
            assert await reader.read() == b""
            writer.close()

    run(scenario)
