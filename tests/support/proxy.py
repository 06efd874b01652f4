"""A proxy in the test's own event loop, in front of a scripted backend."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

import spooky
from tests.certificates import ca, leaf, write
from tests.support.client import Client, Http1Client, Http2Client, Http3Client
from tests.support.origin import Origin
from tests.support.origin_h3 import Http3Origin
from tests.support.tls import plain_context

SCENARIO_SECONDS = 100
INGRESSES = ("h3", "h2", "h1")
UPSTREAMS = ("h3", "h2-tls", "h2c", "h1", "h1-tls")
PROTOCOLS = {"h3": "http3", "h2c": "http2", "h2-tls": "auto", "h1": "auto", "h1-tls": "auto"}


@dataclass
class Setup:
    """A running proxy, its backend, and clients for it.

    Attributes:
        proxy: The proxy.
        origin: The backend.
        ingress: The protocol that :meth:`client` speaks.
    """

    proxy: spooky.Proxy
    origin: Origin | Http3Origin
    ingress: str
    clients: list[Client] = field(default_factory=list)

    async def client(self, ingress: str | None = None) -> Client:
        """Connect a client."""
        client = await connect(ingress or self.ingress, self.proxy.port)
        self.clients.append(client)
        return client


async def connect(ingress: str, port: int) -> Client:
    """Connect a client that trusts whoever answers."""
    if ingress == "h3":
        return await Http3Client.connect(port)
    context = plain_context()
    if ingress == "h2":
        return await Http2Client.connect(port, context)
    return await Http1Client.connect(port, context)


def server_context(directory: Path, protocols: list[str]) -> ssl.SSLContext:
    """Return a context for a backend, with a certificate from the tests' authority."""
    chain, key = write(leaf(["localhost", "127.0.0.1"], ca()), directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(protocols)
    return context


def configuration(directory: Path, address: str, **upstream: Any) -> dict[str, Any]:
    """Return a configuration with one listener and one backend."""
    chain, key = write(leaf(["localhost", "127.0.0.1"], ca()), directory)
    return {
        "version": 1,
        "listen": {"address": "127.0.0.1", "port": 0, "tls": {"cert": str(chain), "key": str(key)}},
        "access_log": {"enabled": False},
        # Generous, as a busy machine is slow; tests of the timeouts set their own.
        "performance": {"backend_connect_timeout_ms": 10_000, "backend_timeout_ms": 10_000},
        "upstream": {
            "backend": {
                "route": {"path_prefix": "/"},
                "backends": [{"id": "one", "address": address}],
                "tls": {"verify_certificates": False},
                **upstream,
            }
        },
    }


def origin_of(directory: Path, upstream: str) -> Origin | Http3Origin:
    """Return a backend that speaks an upstream protocol."""
    if upstream == "h3":
        return Http3Origin(*write(leaf(["localhost", "127.0.0.1"], ca()), directory, "origin"))
    kind = "h2" if upstream.startswith("h2") else "h1"
    if not upstream.endswith("tls"):
        return Origin(kind)
    return Origin(kind, server_context(directory, ["h2"] if kind == "h2" else ["http/1.1"]))


@asynccontextmanager
async def running(
    directory: Path,
    ingress: str,
    upstream: str,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> AsyncIterator[Setup]:
    """Run a proxy between an ingress protocol and an upstream protocol.

    Arguments:
        change: Changes the configuration before it is used.
    """
    async with origin_of(directory, upstream) as origin:
        settings = configuration(directory, origin.address, protocol=PROTOCOLS[upstream])
        if change is not None:
            change(settings)
        proxy = spooky.Proxy(settings)
        await proxy.start()
        setup = Setup(proxy, origin, ingress)
        try:
            yield setup
        finally:
            for client in setup.clients:
                await client.close()
            await proxy.close()
        assert origin.errors == []


def run(scenario: Callable[[], Awaitable[None]], loop: str = "uvloop") -> None:
    """Run a scenario on uvloop or asyncio's own loop, within a bounded time."""
    runner = uvloop.run if loop == "uvloop" else asyncio.run
    runner(_bounded(scenario))


async def _bounded(scenario: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(SCENARIO_SECONDS):
        await scenario()
