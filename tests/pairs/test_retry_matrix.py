"""What is tried again by default, over real sockets: each way to fail, by protocol and method.

Of two backends one fails each request in one way, and the other echoes. What may be tried again
succeeds whichever of them comes first, with its body whole; what may not fails at the first.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import h2.config
import h2.connection
import h2.events
import pytest
from h2.errors import ErrorCodes

from tests.support.client import Response
from tests.support.proxy import Setup, run, running

REQUESTS = 4
"""By turns; so half of them come to the failing backend first."""

BODY = b"some content"


class Failing:
    """A backend that fails each request in one way.

    Attributes:
        asked: How many requests came.
    """

    def __init__(self, how: "Way") -> None:
        self._how = how
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Fail what comes on a connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._how.fail(self, reader, writer)
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Serve until the block ends; yields the address."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if self._how.is_down:
            server.close()
            await server.wait_closed()
            yield address
            return
        try:
            yield address
        finally:
            server.close()


Fail = Callable[[Failing, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Way(NamedTuple):
    """A way to fail.

    Attributes:
        name: What it is called.
        protocol: Of the backends.
        fail: Does it.
        get: Whether a GET is tried again.
        post: Whether a POST is.
        is_down: Whether nobody listens.
    """

    name: str
    protocol: str
    fail: Fail
    get: bool
    post: bool
    is_down: bool = False


async def never(*_: object) -> None:
    """Nobody comes here."""


# --- HTTP/1.1 ---------------------------------------------------------------------------------
def http1(answer: bytes, *, resets: bool = False, again: bool = False) -> Fail:
    """Answer each request with these bytes, and end the connection unless there is another."""

    async def fail(
        backend: Failing, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                await reader.readexactly(len(BODY))
            backend.asked += 1
            writer.write(answer)
            await writer.drain()
            if resets:
                await asyncio.sleep(0.05)
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
            if not again:
                return

    return fail


UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nno\n"
CUT = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nthe beginning"


# --- HTTP/2 -----------------------------------------------------------------------------------
Act = Callable[[h2.connection.H2Connection, int], bool]
"""Fails a stream; returns whether the connection goes on."""


def http2(act: Act) -> Fail:
    """Fail each request in a way, once it is whole."""

    async def fail(
        backend: Failing, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        goes_on = True
        while goes_on:
            writer.write(connection.data_to_send())
            await writer.drain()
            data = await reader.read(65536)
            if not data:
                return
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    backend.asked += 1
                    goes_on = act(connection, event.stream_id) and goes_on
        writer.write(connection.data_to_send())
        await writer.drain()
        await asyncio.sleep(0.05)

    return fail


def reset(code: ErrorCodes) -> Act:
    def act(connection: h2.connection.H2Connection, stream: int) -> bool:
        connection.reset_stream(stream, code)
        return True

    return act


def goaway(is_processed: bool) -> Act:
    def act(connection: h2.connection.H2Connection, stream: int) -> bool:
        connection.close_connection(ErrorCodes.NO_ERROR, None, stream if is_processed else 0)
        return False

    return act


def unavailable(connection: h2.connection.H2Connection, stream: int) -> bool:
    connection.send_headers(stream, [(b":status", b"503")], end_stream=True)
    return True


def cut(connection: h2.connection.H2Connection, stream: int) -> bool:
    connection.send_headers(stream, [(b":status", b"200"), (b"content-length", b"1000")])
    connection.send_data(stream, b"the beginning")
    connection.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
    return True


WAYS = [
    Way("refuses connections", "http1", never, True, True, is_down=True),
    Way("closes before the head", "http1", http1(b""), True, False),
    Way("resets before the head", "http1", http1(b"", resets=True), True, False),
    Way("closes within the head", "http1", http1(b"HTTP/1.1 200 OK\r\ncont"), True, False),
    Way("answers 503", "http1", http1(UNAVAILABLE, again=True), True, False),
    Way("closes after the beginning", "http1", http1(CUT), False, False),
    Way("resets after the beginning", "http1", http1(CUT, resets=True), False, False),
    Way("refuses connections", "http2", never, True, True, is_down=True),
    Way("refuses streams", "http2", http2(reset(ErrorCodes.REFUSED_STREAM)), True, True),
    Way("resets streams", "http2", http2(reset(ErrorCodes.INTERNAL_ERROR)), True, False),
    Way("cancels streams", "http2", http2(reset(ErrorCodes.CANCEL)), True, False),
    Way("goes away without them", "http2", http2(goaway(False)), True, True),
    Way("goes away with them", "http2", http2(goaway(True)), True, False),
    Way("answers 503", "http2", http2(unavailable), True, False),
    Way("resets after the beginning", "http2", http2(cut), False, False),
]


def beside(address: str, protocol: str) -> Callable[[dict[str, Any]], None]:
    """Have requests go to another backend too, whatever it does."""

    def change(settings: dict[str, Any]) -> None:
        upstream = settings["upstream"]["backend"]
        upstream["protocol"] = protocol
        upstream["backends"].append({"id": "failing", "address": address})
        upstream["outlier_detection"] = {"enabled": False}
        settings["resilience"] = {"circuit_breaker": {"enabled": False}}

    return change


def is_whole(response: Response, method: str) -> bool:
    """Return whether this is what the good backend answers."""
    wanted = BODY if method == "POST" else b""
    return (response.status, response.cut, bytes(response.body)) == (200, None, wanted)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.protocol} {way.name}")
def test_what_is_tried_again_and_what_is_not(tmp_path: Path, way: Way, method: str) -> None:
    failing = Failing(way)

    async def ask(setup: Setup) -> list[Response]:
        client = await setup.client()
        body = BODY if method == "POST" else None
        return [await client.fetch(method, "/echo", body=body) for _ in range(REQUESTS)]

    async def scenario() -> None:
        kind = "h1" if way.protocol == "http1" else "h2c"
        async with (
            failing.listening() as address,
            running(tmp_path, "h2", kind, beside(address, way.protocol)) as setup,
        ):
            responses = await ask(setup)
        good = [response for response in responses if is_whole(response, method)]
        if way.get if method == "GET" else way.post:
            assert len(good) == REQUESTS
            # Each came there once at most, and then went to the other.
            assert way.is_down or 0 < failing.asked <= REQUESTS
        else:
            # Those that came to it first failed, each at the one try.
            assert len(good) == REQUESTS // 2
            assert failing.asked == REQUESTS // 2

    run(scenario)
