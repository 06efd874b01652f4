"""The HTTP/2 backend, on h2."""

import asyncio
from collections.abc import AsyncIterator

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from tests.support.origin import Gate, behave


class Exchange:
    """One stream of an h2 connection."""

    def __init__(self, server: "Http2Server", stream_id: int, event: h2.events.RequestReceived):
        self._server = server
        self._id = stream_id
        fields = [(bytes(name), bytes(value)) for name, value in event.headers or []]
        pseudo = {name: value for name, value in fields if name.startswith(b":")}
        self.method = pseudo[b":method"].decode()
        self.path = pseudo[b":path"].decode()
        self.headers = [(n, v) for n, v in fields if n not in (b":method", b":path", b":scheme")]
        self.trailers: list[tuple[bytes, bytes]] = []
        self.has_body = event.stream_ended is None
        self.arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.window = asyncio.Event()
        self.reset = False

    async def body(self) -> AsyncIterator[bytes]:
        while (data := await self.arrived.get()) is not None:
            yield data
            self._server.acknowledge(self._id, len(data))
        if self.reset:
            raise ConnectionResetError

    async def inform(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self.start(status, headers)

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._check()
        self._server.h2.send_headers(self._id, [(b":status", b"%d" % status), *headers])
        await self._server.flush()

    async def write(self, data: bytes) -> None:
        while data:
            self._check()
            self.window.clear()
            room = min(
                self._server.h2.local_flow_control_window(self._id),
                self._server.h2.max_outbound_frame_size,
            )
            if room <= 0:
                await self.window.wait()
                continue
            self._server.h2.send_data(self._id, data[:room])
            data = data[room:]
            await self._server.flush()

    async def end(self, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        self._check()
        if trailers:
            self._server.h2.send_headers(self._id, trailers, end_stream=True)
        else:
            self._server.h2.end_stream(self._id)
        await self._server.flush()

    async def abort(self) -> None:
        self._server.h2.reset_stream(self._id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        await self._server.flush()
        raise ConnectionAbortedError

    def end_body(self, reset: bool) -> None:
        self.reset = self.reset or reset
        self.arrived.put_nowait(None)
        self.window.set()

    def _check(self) -> None:
        if self.reset:
            raise ConnectionResetError


class Http2Server:
    """One connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: Gate
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._gate = gate
        self._exchanges: dict[int, Exchange] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None)
        )

    async def run(self) -> None:
        self.h2.initiate_connection()
        await self.flush()
        try:
            while data := await self._reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._on_event(event)
                await self.flush()
        finally:
            for exchange in self._exchanges.values():
                exchange.end_body(reset=True)
            await asyncio.sleep(0)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self._writer.write(data)
        await self._writer.drain()

    def acknowledge(self, stream_id: int, count: int) -> None:
        if count:
            try:
                self.h2.acknowledge_received_data(count, stream_id)
            except h2.exceptions.StreamClosedError:
                return
            self._writer.write(self.h2.data_to_send())

    def _on_event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                exchange = Exchange(self, event.stream_id, event)
                self._exchanges[event.stream_id] = exchange
                task = asyncio.get_running_loop().create_task(self._behave(exchange))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case h2.events.DataReceived():
                self._exchanges[event.stream_id].arrived.put_nowait(event.data)
                padding = event.flow_controlled_length - len(event.data)
                self.acknowledge(event.stream_id, padding)
            case h2.events.TrailersReceived():
                self._exchanges[event.stream_id].trailers = [
                    (bytes(name), bytes(value)) for name, value in event.headers
                ]
            case h2.events.StreamEnded():
                self._exchanges[event.stream_id].end_body(reset=False)
            case h2.events.StreamReset():
                if event.stream_id in self._exchanges:
                    self._exchanges[event.stream_id].end_body(reset=True)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for exchange in self._exchanges.values():
                    exchange.window.set()

    async def _behave(self, exchange: Exchange) -> None:
        try:
            await behave(exchange, self._gate)
        except (ConnectionError, h2.exceptions.ProtocolError):
            pass


async def serve_h2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: Gate) -> None:
    """Serve a connection until it closes."""
    await Http2Server(reader, writer, gate).run()
