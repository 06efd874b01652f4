"""Scripted backends on independent protocol libraries: h11, h2, aioquic; never our own sessions.

A behaviour is chosen by the request's path; it is the same whatever the protocol.
"""

import asyncio
import contextlib
import json
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from typing import Protocol

PIECE = 16 * 1024


class OriginExchange(Protocol):
    """One request at a backend, as a behaviour sees it."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    trailers: list[tuple[bytes, bytes]]
    has_body: bool

    def body(self) -> AsyncIterator[bytes]: ...

    async def inform(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...

    async def write(self, data: bytes) -> None: ...

    async def end(self, trailers: list[tuple[bytes, bytes]] | None = None) -> None: ...

    async def abort(self) -> None:
        """Cut the exchange: RST_STREAM, or a closed connection."""


def pattern(size: int) -> bytes:
    """Return bytes whose every part tells where it belongs."""
    block = b"".join(b"%07d\n" % number for number in range(1024))
    return (block * (size // len(block) + 1))[:size]


class Gate:
    """Lets a test decide when a behaviour goes on."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.reached = asyncio.Event()
        self.ended_by: list[str] = []
        self.requests: Counter[str] = Counter()
        self.sent_bytes = 0


DRIP_BYTES = 1000
DRIP_SECONDS = 0.05


async def behave(exchange: OriginExchange, gate: Gate) -> None:
    """Answer one request as its path says."""
    path = exchange.path.partition("?")[0]
    gate.requests[path] += 1
    match path.strip("/").split("/"):
        case ["echo"]:
            await _echo(exchange)
        case ["size", size]:
            data = pattern(int(size))
            await exchange.start(200, [(b"content-length", b"%d" % len(data))])
            await _write_pieces(exchange, data)
            await exchange.end()
        case ["unknown-length", size]:
            await exchange.start(200, [(b"content-type", b"application/octet-stream")])
            await _write_pieces(exchange, pattern(int(size)))
            await exchange.end()
        case ["count"]:
            total = 0
            async for data in exchange.body():
                total += len(data)
            await _json(exchange, {"bytes": total})
        case ["inspect"]:
            await _inspect(exchange)
        case ["trailers"]:
            await exchange.start(200, [(b"trailer", b"grpc-status")])
            await exchange.write(b"body")
            await exchange.end([(b"grpc-status", b"0")])
        case ["status", status]:
            await exchange.start(int(status), [(b"x-status", status.encode())])
            await exchange.end()
        case ["head-length"]:
            await exchange.start(200, [(b"content-length", b"12345")])
            if exchange.method != "HEAD":
                await exchange.write(pattern(12345))
            await exchange.end()
        case ["not-modified"]:
            # RFC 9110 section 15.4.5: the length that a 200 would have had.
            await exchange.start(304, [(b"content-length", b"12345"), (b"etag", b'"one"')])
            await exchange.end()
        case ["early-hints"]:
            await exchange.inform(102, [])
            await exchange.inform(103, [(b"link", b"</style.css>; rel=preload")])
            await exchange.start(200, [(b"content-length", b"2")])
            await exchange.write(b"ok")
            await exchange.end()
        case ["events"]:
            # One event, then nothing until the test lets it go on: the first must not be held.
            await exchange.start(200, [(b"content-type", b"text/event-stream")])
            await exchange.write(b"data: first\n\n")
            await gate.opened.wait()
            await exchange.write(b"data: second\n\n")
            await exchange.end()
        case ["download", size]:
            # Some of it all the time, and the rest when the test lets it go on.
            rest = memoryview(pattern(int(size)))
            await exchange.start(200, [(b"content-length", size.encode())])
            while not gate.opened.is_set() and len(rest) > DRIP_BYTES:
                await exchange.write(bytes(rest[:DRIP_BYTES]))
                rest = rest[DRIP_BYTES:]
                await asyncio.sleep(DRIP_SECONDS)
            await gate.opened.wait()
            await _write_pieces(exchange, bytes(rest))
            await exchange.end()
        case ["head-then-nothing"]:
            await exchange.start(200, [(b"content-length", b"10")])
            await gate.opened.wait()
        case ["early-response"]:
            await exchange.start(403, [(b"content-length", b"7")])
            await exchange.write(b"refused")
            await exchange.end()
        case ["reset-before-head"]:
            await exchange.abort()
        case ["cut-short", size]:
            await exchange.start(200, [(b"content-length", size.encode())])
            await exchange.write(pattern(int(size) // 2))
            await asyncio.sleep(0.05)
            await exchange.abort()
        case ["cut-short-unknown"]:
            await exchange.start(200, [])
            await exchange.write(b"some of it")
            await asyncio.sleep(0.05)
            await exchange.abort()
        case ["wait"]:
            gate.reached.set()
            try:
                async for _ in exchange.body():
                    pass
                await gate.opened.wait()
                await exchange.start(200, [(b"content-length", b"0")])
                await exchange.end()
            except (ConnectionError, asyncio.CancelledError) as error:
                gate.ended_by.append(type(error).__name__)
                raise
        case ["endless"]:
            await exchange.start(200, [])
            gate.reached.set()
            try:
                while True:
                    await exchange.write(b"x" * PIECE)
                    gate.sent_bytes += PIECE
                    await asyncio.sleep(0)
            except (ConnectionError, asyncio.CancelledError) as error:
                gate.ended_by.append(type(error).__name__)
                raise
        case ["no-read"]:
            gate.reached.set()
            await gate.opened.wait()
            await _count(exchange)
        case _:
            await exchange.start(404, [(b"content-length", b"0")])
            await exchange.end()


async def _count(exchange: OriginExchange) -> None:
    total = 0
    async for data in exchange.body():
        total += len(data)
    await _json(exchange, {"bytes": total})


async def _echo(exchange: OriginExchange) -> None:
    """Send every piece back as it comes: a stream in both directions."""
    length = dict(exchange.headers).get(b"content-length")
    await exchange.start(200, [(b"content-length", length)] if length is not None else [])
    async for data in exchange.body():
        await exchange.write(data)
    await exchange.end()


async def _inspect(exchange: OriginExchange) -> None:
    body = b"".join([data async for data in exchange.body()])
    await _json(
        exchange,
        {
            "method": exchange.method,
            "path": exchange.path,
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in exchange.headers
            ],
            "trailers": [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in exchange.trailers
            ],
            "has_body": exchange.has_body,
            "body": body.decode("latin-1"),
        },
    )


async def _json(exchange: OriginExchange, value: object) -> None:
    data = json.dumps(value).encode()
    await exchange.start(200, [(b"content-length", b"%d" % len(data))])
    await exchange.write(data)
    await exchange.end()


async def _write_pieces(exchange: OriginExchange, data: bytes) -> None:
    for start in range(0, len(data), PIECE):
        await exchange.write(data[start : start + PIECE])


class Origin:
    """A backend on a free loopback port.

    Arguments:
        protocol: ``h1`` or ``h2``; for HTTP/3 see ``origin_h3.py``.
        tls: Server context, or ``None`` for cleartext.
    """

    def __init__(self, protocol: str, tls: ssl.SSLContext | None = None) -> None:
        self.protocol = protocol
        self.gate = Gate()
        self.connections = 0
        # For each connection with TLS whether its session began with an earlier one.
        self.resumed: list[bool] = []
        self._tls = tls
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.errors: list[BaseException] = []

    @property
    def address(self) -> str:
        """The backend address for a configuration."""
        port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"

    async def __aenter__(self) -> "Origin":
        listening = socket.socket()
        # The kernel would take many megabytes for a backend that does not read.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PIECE)
        listening.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(
            self._serve, sock=listening, ssl=self._tls, limit=PIECE
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop_listening(self) -> None:
        """Refuse connections from now on."""
        self._server.close()

    def close_connections(self) -> None:
        """Close every connection, as a backend does with idle ones."""
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from tests.support.origin_h1 import serve_h1
        from tests.support.origin_h2 import serve_h2

        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        if self._tls is not None:
            self.resumed.append(writer.get_extra_info("ssl_object").session_reused)
        serve = serve_h1 if self.protocol == "h1" else serve_h2
        try:
            await serve(reader, writer, self.gate)
        except (ConnectionError, asyncio.CancelledError, ssl.SSLError):
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            with contextlib.suppress(ConnectionError):
                writer.transport.abort()
