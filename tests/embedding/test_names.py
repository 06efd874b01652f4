"""Names of backends in an embedded proxy: known addresses serve at once, and are followed."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import spooky
from tests.embedding.test_embedding import Runner, configuration, run_on
from tests.support.proxy import connect

__all__ = ["run_on"]

HOST = "backend.test"
CONNECT_MS = 10_000
ONE, TWO = "127.0.0.1", "127.0.0.2"


class System:
    """The system's resolver, as a test has it."""

    def __init__(self) -> None:
        self.addresses = [ONE]
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host != HOST:
            return self._real(host, port, *more, **options)
        self.asked += 1
        assert self.answers.wait(60)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, 0, 0, "", (address, port)) for address in self.addresses]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    made = System()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    return made


@contextlib.asynccontextmanager
async def backends() -> AsyncIterator[int]:
    """Serve at both addresses, on one port; each says where it is, and ends who asks for that."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = writer.get_extra_info("sockname")[0].encode()
                ends = b"/close" in head
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%s\r\n%s"
                    % (len(body), b"connection: close\r\n" * ends, body)
                )
                if ends:
                    break
        writer.close()

    first = await asyncio.start_server(serve, ONE, 0)
    port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(serve, TWO, port)
    try:
        yield port
    finally:
        first.close()
        second.close()


def settings_for(directory: Path, port: int, **performance: Any) -> dict[str, Any]:
    settings = configuration(directory)
    settings["upstream"] = {
        "api": {
            "route": {"path_prefix": "/"},
            "protocol": "http1",
            "backends": [{"id": "one", "address": f"http://{HOST}:{port}"}],
        }
    }
    settings["performance"] = {
        "backend_connect_timeout_ms": CONNECT_MS, "backend_timeout_ms": CONNECT_MS, **performance
    }  # fmt: skip
    return settings


def test_new_connections_do_not_wait_for_a_resolver_that_is_silent(
    run_on: Runner, system: System, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            backends() as port,
            spooky.Proxy(settings_for(tmp_path, port, backend_dns_refresh_enabled=False)) as proxy,
        ):
            client = await connect("h1", proxy.port)
            assert bytes((await client.fetch("GET", "/close")).body) == ONE.encode()
            system.answers.clear()
            # What is known is old now, so the system is asked again, and says nothing.
            names = proxy.worker._environment.resolve.__self__  # type: ignore[attr-defined]
            names._names._answers.clear()
            known = names._asked._known
            known.update({key: (when - 60, found) for key, (when, found) in known.items()})
            asked, began = system.asked, time.monotonic()
            for _ in range(3):
                assert bytes((await client.fetch("GET", "/close")).body) == ONE.encode()
            assert time.monotonic() - began < CONNECT_MS / 2_000, "less than the time to connect"
            async with asyncio.timeout(30):
                while system.asked == asked:
                    await asyncio.sleep(0.01)
            system.answers.set()
            await client.close()

    run_on(scenario())


def test_connections_follow_a_name_to_other_addresses(
    run_on: Runner, system: System, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            backends() as port,
            spooky.Proxy(
                settings_for(tmp_path, port, backend_dns_refresh_interval_ms=1_000)
            ) as proxy,
        ):
            client = await connect("h1", proxy.port)
            assert bytes((await client.fetch("GET", "/")).body) == ONE.encode()
            system.addresses = [TWO]
            async with asyncio.timeout(30):
                while bytes((await client.fetch("GET", "/")).body) != TWO.encode():
                    await asyncio.sleep(0.05)
            # A name that does not resolve any more keeps the addresses it had.
            system.addresses = []
            asked = system.asked
            async with asyncio.timeout(30):
                while system.asked < asked + 2:
                    await asyncio.sleep(0.05)
            assert bytes((await client.fetch("GET", "/close")).body) == TWO.encode()
            assert bytes((await client.fetch("GET", "/")).body) == TWO.encode()
            await client.close()

    run_on(scenario())
