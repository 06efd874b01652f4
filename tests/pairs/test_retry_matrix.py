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
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection, encode_frame
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from h2.errors import ErrorCodes

from tests.certificates import ca, leaf, write
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
    async def listening(self, directory: Path) -> AsyncIterator[str]:
        """Serve until the block ends; yields the address."""
        if self._how.protocol == "http3":
            async with listening_h3(self, directory, self._how) as address:
                yield address
            return
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
FailHttp3 = Callable[["FailingHttp3", int], None]


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
    fail: Fail | FailHttp3
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


# --- HTTP/3 -----------------------------------------------------------------------------------
class FailingHttp3(QuicConnectionProtocol):
    """A connection of a backend that fails each request in a way, once it is whole."""

    backend: Failing
    fail: FailHttp3

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)

    def quic_event_received(self, event: QuicEvent) -> None:
        for each in self.http.handle_event(event):
            if getattr(each, "stream_ended", False):
                self.backend.asked += 1
                self.fail(self, each.stream_id)
        self.transmit()

    def say(self, stream: int, fields: list[tuple[bytes, bytes]], end: bool) -> None:
        self.http.send_headers(stream, fields, end)


@contextlib.asynccontextmanager
async def listening_h3(backend: Failing, directory: Path, way: Way) -> AsyncIterator[str]:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(*write(leaf(["localhost"], ca()), directory, "failing"))

    def make(*arguments: Any, **options: Any) -> FailingHttp3:
        connection = FailingHttp3(*arguments, **options)
        connection.backend, connection.fail = backend, way.fail
        return connection

    server: Any = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=make)
    address = f"https://127.0.0.1:{server._transport.get_extra_info('sockname')[1]}"
    if way.is_down:
        server.close()
        await asyncio.sleep(0)
    yield address
    if not way.is_down:
        server.close()


def reset_h3(code: int) -> FailHttp3:
    def fail(connection: FailingHttp3, stream: int) -> None:
        connection._quic.reset_stream(stream, code)

    return fail


def goaway_h3(is_processed: bool) -> FailHttp3:
    def fail(connection: FailingHttp3, stream: int) -> None:
        first_unserved = encode_uint_var(stream + 4 if is_processed else 0)
        control = connection.http._local_control_stream_id
        connection._quic.send_stream_data(control, encode_frame(0x7, first_unserved))
        if is_processed:
            connection.transmit()
            connection.close(ErrorCode.H3_NO_ERROR)

    return fail


def close_h3(connection: FailingHttp3, stream: int) -> None:
    connection.close(ErrorCode.H3_INTERNAL_ERROR)


def unavailable_h3(connection: FailingHttp3, stream: int) -> None:
    connection.say(stream, [(b":status", b"503")], True)


def cut_h3(connection: FailingHttp3, stream: int) -> None:
    connection.say(stream, [(b":status", b"200"), (b"content-length", b"1000")], False)
    connection.http.send_data(stream, b"the beginning", False)
    connection.transmit()
    connection._quic.reset_stream(stream, ErrorCode.H3_INTERNAL_ERROR)


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
    Way("refuses connections", "http3", never, True, True, is_down=True),
    Way("rejects requests", "http3", reset_h3(ErrorCode.H3_REQUEST_REJECTED), True, True),
    Way("resets streams", "http3", reset_h3(ErrorCode.H3_INTERNAL_ERROR), True, False),
    Way("cancels streams", "http3", reset_h3(ErrorCode.H3_REQUEST_CANCELLED), True, False),
    Way("wants another version", "http3", reset_h3(ErrorCode.H3_VERSION_FALLBACK), False, False),
    Way("goes away without them", "http3", goaway_h3(False), True, True),
    Way("goes away with them", "http3", goaway_h3(True), True, False),
    Way("closes connections", "http3", close_h3, True, False),
    Way("answers 503", "http3", unavailable_h3, True, False),
    Way("resets after the beginning", "http3", cut_h3, False, False),
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
        kind = {"http1": "h1", "http2": "h2c", "http3": "h3"}[way.protocol]
        async with (
            failing.listening(tmp_path) as address,
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
