"""The HTTP/1.1 backend, on h11."""

import asyncio
from collections.abc import AsyncIterator

import h11

from tests.support.origin import Gate, behave


class Exchange:
    """One request on an h11 connection."""

    def __init__(
        self,
        connection: h11.Connection,
        request: h11.Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self.method = request.method.decode()
        self.path = request.target.decode()
        self.headers = list(request.headers)
        self.trailers: list[tuple[bytes, bytes]] = []
        names = dict(request.headers)
        self.has_body = b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
        self._ended = False

    async def body(self) -> AsyncIterator[bytes]:
        while not self._ended:
            event = await next_event(self._connection, self._reader, self._writer)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.trailers = list(event.headers)
                self._ended = True
            else:
                raise ConnectionResetError(f"unexpected {event!r}")

    async def inform(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send(h11.InformationalResponse(status_code=status, headers=headers))

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send(h11.Response(status_code=status, headers=headers, reason=b""))

    async def write(self, data: bytes) -> None:
        # To HEAD there is none to send: h11 would end the connection behind a whole response, and
        # whatever the pool sends on it in that moment would be lost.
        if self.method != "HEAD":
            await self._send(h11.Data(data=data))

    async def end(self, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        await self._send(h11.EndOfMessage(headers=trailers or []))

    async def abort(self) -> None:
        self._writer.transport.abort()
        raise ConnectionAbortedError

    async def _send(self, event: h11.Event) -> None:
        data = self._connection.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()
        if self._writer.transport.is_closing():
            raise ConnectionResetError


async def next_event(
    connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> h11.Event:
    """Return what the client sent next."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                writer.write(
                    connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                )
            data = await reader.read(65536)
            if not data:
                raise ConnectionResetError
            connection.receive_data(data)
            continue
        if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError
        return event


async def serve_h1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: Gate) -> None:
    """Serve requests until the connection cannot be used again."""
    connection = h11.Connection(h11.SERVER)
    while True:
        request = await next_event(connection, reader, writer)
        assert isinstance(request, h11.Request)
        exchange = Exchange(connection, request, reader, writer)
        await behave(exchange, gate)
        if connection.our_state is not h11.DONE:
            writer.close()
            await writer.wait_closed()
            return
        if connection.their_state is not h11.DONE:
            async for _ in exchange.body():
                pass
        connection.start_next_cycle()
