"""Where a response that ends with the connection ends, and where it was cut."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import spooky
from tests.support.client import Response
from tests.support.proxy import INGRESSES, configuration, connect, run, server_context

SIZES = (9, 200_000)
"""Less than one TLS record, and more than all windows hold at once."""

End = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def close_with_notify(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def close_without_notify(writer: asyncio.StreamWriter) -> None:
    """End the TCP connection in order, and say nothing in TLS."""
    await writer.drain()
    async with asyncio.timeout(30):
        while writer.transport.get_write_buffer_size():
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    writer.transport.abort()


@asynccontextmanager
async def backend(directory: Path, tls: bool, size: int, end: End) -> AsyncIterator[str]:
    """Run a backend whose body ends with the connection (RFC 9112 section 6.3 item 8)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * size)
        await end(writer)

    context = server_context(directory, ["http/1.1"]) if tls else None
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        server.close()


def fetch(
    directory: Path, ingress: str, tls: bool, size: int, end: End, loop: str = "uvloop"
) -> Response:
    """Return what a client of the proxy gets from such a backend."""
    responses: list[Response] = []

    async def scenario() -> None:
        async with (
            backend(directory, tls, size, end) as address,
            spooky.Proxy(configuration(directory, address, protocol="http1")) as proxy,
        ):
            client = await connect(ingress, proxy.port)
            responses.append(await client.fetch("GET", "/"))
            await client.close()

    run(scenario, loop)
    return responses[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
@pytest.mark.parametrize("ingress", INGRESSES)
def test_the_end_of_a_connection_ends_a_body_without_length(
    tmp_path: Path, ingress: str, tls: bool, size: int
) -> None:
    response = fetch(tmp_path, ingress, tls, size, close_with_notify)
    assert (response.status, response.cut, len(response.body)) == (200, None, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_tls_that_ends_without_close_notify_was_cut(
    tmp_path: Path, loop: str, ingress: str, size: int
) -> None:
    """RFC 9112 section 9.8, RFC 8446 section 6.1: truncation by whoever can reach the wire.

    asyncio's own loop calls it the end of the connection; uvloop, a lost one.
    """
    response = fetch(tmp_path, ingress, True, size, close_without_notify, loop)
    assert response.cut is not None
