"""Who is connected when an address is left to another program gets an answer."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from msgspec import structs

from spooky.config.control_api import Auth, BearerToken, ControlApi
from spooky.config.observability import Metrics, Observability
from spooky.config.schema import Configuration
from spooky.control import leaving
from spooky.control.access import RemoteAccess
from spooky.control.admin_credentials import AdminCredentials
from spooky.control.admin_endpoint import AdminEndpoint
from spooky.control.admin_listener import AdminListener
from spooky.control.audit import AuditLog
from spooky.control.change import NextGeneration
from spooky.control.control_socket import ControlSocket
from spooky.control.metrics_endpoint import MetricsEndpoint
from spooky.control.metrics_server import MetricsServer
from spooky.control.roles import DeniedError
from spooky.observe.counters import Counters
from tests.certificates import shared_server, write
from tests.support.ports import free_port
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
            leaves = asyncio.ensure_future(listener.leave(0.0))
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
        leaves = asyncio.ensure_future(server.leave(0.0))
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
        await server.leave(0.0)
        for reader, writer in (kept, silent):
            assert await reader.read() == b""
            writer.close()

    run(scenario)


# --- through changes --------------------------------------------------------------------------
@dataclass(frozen=True)
class FakeCandidate:
    """As much of one as endpoints look at."""

    configuration: Configuration
    credentials: AdminCredentials


def with_metrics(metrics: Metrics) -> NextGeneration:
    configuration = Configuration(upstream={}, observability=Observability(metrics=metrics))
    candidate: Any = FakeCandidate(configuration, AdminCredentials())
    return NextGeneration(2, candidate, rolling=False)


def waiting(address: tuple[str, int], count: int = 3) -> list[socket.socket]:
    """Return connections that nobody has accepted: the loop does not turn meanwhile."""
    return [socket.create_connection(address) for _ in range(count)]


async def status_of(client: socket.socket, **tls: Any) -> int:
    """Ask on a connection that is there; return the status."""
    client.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=client, **tls)
    head = await answer_first(reader, writer)
    writer.close()
    return int(head[9:12])


@pytest.mark.parametrize("to", ["0.0.0.0", "elsewhere", "nowhere"])
def test_scrapes_that_wait_where_metrics_were_are_answered(to: str) -> None:
    async def scenario() -> None:
        endpoint = MetricsEndpoint(Counters().segment, tuple)
        port, elsewhere = free_port(), free_port()
        before = Metrics(enabled=True, port=port)
        after = {
            "0.0.0.0": Metrics(enabled=True, address="0.0.0.0", allow_non_loopback=True, port=port),
            "elsewhere": Metrics(enabled=True, port=elsewhere),
            "nowhere": Metrics(),
        }[to]
        await endpoint.start(before)
        step = await endpoint.prepare(with_metrics(after))
        clients = waiting(("127.0.0.1", port))
        step.check()
        step.commit()
        if to != "0.0.0.0":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
        for client in clients:
            assert await status_of(client) == 200
        # And back, while those who were let in there may still come.
        step = await endpoint.prepare(with_metrics(before))
        clients = waiting(("127.0.0.1", port)) if to == "0.0.0.0" else []
        step.check()
        step.commit()
        clients += waiting(("127.0.0.1", port))
        for client in clients:
            assert await status_of(client) == 200
        await endpoint.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))

    run(scenario)


class FakeApi:
    """Answers everybody who may read."""

    busy: frozenset[Any] = frozenset()

    def application(self, access: RemoteAccess, _: object) -> web.Application:
        async def answer(request: web.Request) -> web.Response:
            try:
                return web.Response(text=access.identify(request).role)
            except DeniedError as error:
                return web.Response(status=error.status)

        made = web.Application()
        made.router.add_get("/metrics", answer)
        return made


ANYBODY = ControlApi(enabled=True)
KNOWN = ControlApi(
    enabled=True, auth=Auth(bearer_tokens=(BearerToken(actor_id="x", token_file="x"),))
)
NOBODY = ControlApi()
EVERYWHERE = "0.0.0.0"


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (ANYBODY, structs.replace(ANYBODY, address=EVERYWHERE), 200),
        (ANYBODY, structs.replace(KNOWN, address=EVERYWHERE), 401),
        (ANYBODY, NOBODY, 200),
        # Nobody is in force then whom a caller without a name could be.
        (KNOWN, NOBODY, 401),
    ],
)
def test_callers_that_wait_where_the_control_api_was_are_answered(
    tmp_path: Path, before: ControlApi, after: ControlApi, status: int
) -> None:
    paths = write(shared_server(), tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.certificate, paths.key)

    def candidate(settings: ControlApi, port: int) -> Any:
        credentials = AdminCredentials(context=context if settings.enabled else None)
        settings = structs.replace(settings, port=port)
        return FakeCandidate(
            Configuration(upstream={}, observability=Observability(control_api=settings)),
            credentials,
        )

    async def scenario() -> None:
        port, api = free_port(), cast(Any, FakeApi())
        endpoint = AdminEndpoint(api, AuditLog(), lambda: 1)
        await endpoint.start(candidate(before, port))
        step = await endpoint.prepare(NextGeneration(2, candidate(after, port), rolling=False))
        clients = waiting(("127.0.0.1", port))
        step.check()
        step.commit()
        for client in clients:
            assert await status_of(client, ssl=plain_context(), server_hostname="") == status
        # And back, while those who were let in there may still come.
        step = await endpoint.prepare(NextGeneration(3, candidate(before, port), rolling=False))
        step.check()
        step.commit()
        (client,) = waiting(("127.0.0.1", port), 1)
        expected = 401 if before is KNOWN else 200
        assert await status_of(client, ssl=plain_context(), server_hostname="") == expected
        await endpoint.close()

    run(scenario)
