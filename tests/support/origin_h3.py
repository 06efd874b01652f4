"""The HTTP/3 backend, on aioquic's own HTTP/3."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer, serve
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection, HeadersState
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionTerminated,
    QuicEvent,
    StopSendingReceived,
    StreamReset,
)
from aioquic.tls import SessionTicket

from tests.support.origin import PIECE, Gate, behave

UNSENT_MAX = 4 * PIECE
"""aioquic keeps what it cannot send: a behaviour waits when it is more; bytes."""


class Exchange:
    """One request stream."""

    def __init__(self, server: "Http3Server", stream_id: int, event: HeadersReceived) -> None:
        self._server = server
        self._id = stream_id
        pseudo = {name: value for name, value in event.headers if name.startswith(b":")}
        self.method = pseudo[b":method"].decode()
        self.path = pseudo[b":path"].decode()
        skipped = (b":method", b":path", b":scheme")
        self.headers = [(name, value) for name, value in event.headers if name not in skipped]
        self.trailers: list[tuple[bytes, bytes]] = []
        self.has_body = not event.stream_ended
        self.arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.reset = False
        self.unwanted = False

    async def body(self) -> AsyncIterator[bytes]:
        self._server.begin_to_read()
        while (data := await self.arrived.get()) is not None:
            yield data
        if self.reset:
            raise ConnectionResetError

    async def inform(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self.start(status, headers)
        # aioquic takes a second head for trailers.
        self._server.http._stream[self._id].headers_send_state = HeadersState.INITIAL

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._check()
        self._server.http.send_headers(self._id, [(b":status", b"%d" % status), *headers])
        self._server.transmit()

    async def write(self, data: bytes) -> None:
        self._check()
        self._server.http.send_data(self._id, data, False)
        self._server.transmit()
        while self._server.unsent(self._id) > UNSENT_MAX:
            await asyncio.sleep(0.001)
            self._check()

    async def end(self, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        self._check()
        if trailers:
            self._server.http.send_headers(self._id, trailers, True)
        else:
            self._server.http.send_data(self._id, b"", True)
        self._server.transmit()

    async def abort(self) -> None:
        self._server.abort(self._id)
        raise ConnectionAbortedError

    def end_body(self, reset: bool) -> None:
        self.reset = self.reset or reset
        self.arrived.put_nowait(None)

    def _check(self) -> None:
        if self.reset or self.unwanted:
            raise ConnectionResetError


class Http3Server(QuicConnectionProtocol):
    """One connection; it credits what is sent only once somebody reads."""

    http: H3Connection
    origin: "Http3Origin"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        quic: Any = self._quic
        self._reads = False
        for name in ("_write_connection_limits", "_write_stream_limits"):
            setattr(quic, name, self._unless_idle(getattr(quic, name)))
        self.http = H3Connection(self._quic)
        self._exchanges: dict[int, Exchange] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def _unless_idle(self, write: Any) -> Any:
        def credit(**arguments: Any) -> None:
            if self._reads:
                write(**arguments)

        return credit

    def fall_silent(self) -> None:
        """Hear and say nothing any more."""
        self.datagram_received = lambda *_: None  # type: ignore[method-assign]
        self.transmit = lambda: None  # type: ignore[method-assign]

    def begin_to_read(self) -> None:
        self._reads = True
        self.transmit()

    def unsent(self, stream_id: int) -> int:
        stream = self._quic._streams.get(stream_id)
        return len(stream.sender._buffer) if stream is not None else 0

    def abort(self, stream_id: int) -> None:
        self._quic.reset_stream(stream_id, ErrorCode.H3_INTERNAL_ERROR)
        self._quic.stop_stream(stream_id, ErrorCode.H3_INTERNAL_ERROR)
        self.transmit()

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case StreamReset() if event.stream_id in self._exchanges:
                self._exchanges[event.stream_id].end_body(reset=True)
            case StopSendingReceived() if event.stream_id in self._exchanges:
                self._exchanges[event.stream_id].unwanted = True
            case ConnectionTerminated():
                for exchange in self._exchanges.values():
                    exchange.end_body(reset=True)
                self._loop.call_soon(self._end)
        for h3_event in self.http.handle_event(event):
            self._on_http(h3_event)

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _on_http(self, event: H3Event) -> None:
        exchange = self._exchanges.get(getattr(event, "stream_id", -1))
        match event:
            case HeadersReceived() if exchange is None:
                exchange = Exchange(self, event.stream_id, event)
                self._exchanges[event.stream_id] = exchange
                task = self._loop.create_task(self._behave(exchange))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case HeadersReceived():
                exchange.trailers = event.headers
            case DataReceived():
                exchange.arrived.put_nowait(event.data)
        if exchange is not None and getattr(event, "stream_ended", False):
            exchange.end_body(reset=False)

    async def _behave(self, exchange: Exchange) -> None:
        try:
            await behave(exchange, self.origin.gate)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as error:
            self.origin.errors.append(error)


class Http3Origin:
    """A backend on a free loopback port; see ``origin.Origin``.

    Arguments:
        certificate: PEM file of its chain.
        key: PEM file of its key.
        port: Where it listens; 0 for a free port.
    """

    protocol = "h3"

    def __init__(self, certificate: Path, key: Path, port: int = 0) -> None:
        self._port = port
        self.gate = Gate()
        self.errors: list[BaseException] = []
        self.servers: list[Http3Server] = []
        self.streams_max = 128
        # Each is good for one connection.
        self._tickets: dict[bytes, SessionTicket] = {}
        self.find_session: Callable[[bytes], SessionTicket | None] = lambda ticket: (
            self._tickets.pop(ticket, None)
        )
        self.configuration = QuicConfiguration(
            is_client=False, alpn_protocols=H3_ALPN, max_data=16 * PIECE, max_stream_data=4 * PIECE
        )
        self.configuration.load_cert_chain(certificate, key)
        self._server: QuicServer

    @property
    def connections(self) -> int:
        return len(self.servers)

    @property
    def port(self) -> int:
        port: int = self._server._transport.get_extra_info("sockname")[1]
        return port

    @property
    def address(self) -> str:
        """The backend address for a configuration."""
        return f"https://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "Http3Origin":
        self._server = await serve(
            "127.0.0.1",
            self._port,
            configuration=self.configuration,
            create_protocol=self._make,
            session_ticket_fetcher=self.find_session,
            session_ticket_handler=lambda ticket: self._tickets.update({ticket.ticket: ticket}),
        )
        return self

    @property
    def resumed(self) -> list[bool]:
        """For each connection whether its TLS session began with an earlier one."""
        return [server._quic.tls.session_resumed for server in self.servers]

    def close_connections(self) -> None:
        """End every connection."""
        for server in self.servers:
            server.close()

    def vanish(self) -> None:
        """Leave the port without a word."""
        self._server._transport.abort()

    async def __aexit__(self, *exc: object) -> None:
        tasks = [task for server in self.servers for task in server._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(ConnectionError):
            self._server.close()

    def _make(self, *arguments: Any, **options: Any) -> Http3Server:
        server = Http3Server(*arguments, **options)
        server.origin = self
        # Each one that ends makes room for one.
        limit: Any = server._quic._local_max_streams_bidi  # type: ignore[attr-defined]
        limit.value = limit.sent = self.streams_max
        self.servers.append(server)
        return server
