"""Clients on independent protocol libraries: h11, h2 and aioquic's own HTTP/3."""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h11
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer, BufferReadError
from aioquic.h3.connection import H3_ALPN, ErrorCode, FrameType, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from aioquic.tls import SessionTicket

Headers = list[tuple[bytes, bytes]]


@dataclass
class Response:
    """What came back."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    informational: list[tuple[int, Headers]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: Headers = field(default_factory=list)
    cut: str | None = None

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)


class ClientStream:
    """One request; subclasses put it on a wire."""

    def __init__(self) -> None:
        self.response = Response()
        self.head_arrived = asyncio.Event()
        self.ended = asyncio.Event()
        self.stopped: int | None = None
        self._pieces: deque[bytes] = deque()
        self._changed = asyncio.Event()

    async def send(self, data: bytes, end: bool = False) -> None:
        raise NotImplementedError

    async def send_trailers(self, trailers: Headers) -> None:
        raise NotImplementedError

    async def cancel(self) -> None:
        raise NotImplementedError

    async def whole(self) -> Response:
        """Return the response when it ended, cut or not."""
        async for _ in self.pieces():
            pass
        return self.response

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                yield piece
                self.consumed(len(piece))
            if self.ended.is_set():
                return
            self._changed.clear()
            await self._changed.wait()

    def consumed(self, count: int) -> None:
        """Credit the proxy for what was read."""

    # --- for subclasses -----------------------------------------------------------------------

    def take_head(self, headers: Headers) -> None:
        status = int(dict(headers)[b":status"])
        plain = [(name, value) for name, value in headers if not name.startswith(b":")]
        if status < 200:
            self.response.informational.append((status, plain))
            return
        self.response.status, self.response.headers = status, plain
        self.head_arrived.set()

    def take_data(self, data: bytes) -> None:
        self.response.body += data
        self._pieces.append(data)
        self._changed.set()

    def finish(self, cut: str | None = None) -> None:
        if self.ended.is_set():
            return
        self.response.cut = cut
        self.head_arrived.set()
        self.ended.set()
        self._changed.set()


class Client:
    """A connection to the proxy."""

    @property
    def ending(self) -> bool:
        """Whether the proxy takes no more requests on the connection, as it said or showed."""
        raise NotImplementedError

    async def open(
        self, method: str, path: str, headers: Headers | None = None, end: bool = True
    ) -> ClientStream:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def fetch(
        self,
        method: str,
        path: str,
        headers: Headers | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Make a request and return its whole response."""
        extra = list(headers or [])
        if body is not None:
            extra.append((b"content-length", b"%d" % len(body)))
        stream = await self.open(method, path, extra, end=body is None)
        if body is not None:
            sending = asyncio.ensure_future(stream.send(body, end=True))
            response = await stream.whole()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            return response
        return await stream.whole()


AUTHORITY = b"localhost"


# --- HTTP/1.1 -----------------------------------------------------------------------------------
class Http1Client(Client):
    """One connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.h11 = h11.Connection(h11.CLIENT)
        self.told = False

    @property
    def ending(self) -> bool:
        return self.told or self.reader.at_eof()

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext) -> "Http1Client":
        context.set_alpn_protocols(["http/1.1"])
        return cls(
            *await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost", limit=65536
            )
        )

    async def open(
        self, method: str, path: str, headers: Headers | None = None, end: bool = True
    ) -> ClientStream:
        if self.h11.our_state is h11.DONE:
            self.h11.start_next_cycle()
        fields = [(b"host", AUTHORITY), *(headers or [])]
        names = {name for name, _ in fields}
        if not end and b"content-length" not in names:
            fields.append((b"transfer-encoding", b"chunked"))
        stream = Http1Stream(self)
        await stream.put(h11.Request(method=method, target=path, headers=fields))
        if end:
            await stream.put(h11.EndOfMessage())
        stream.reading = asyncio.ensure_future(stream.read())
        return stream

    async def close(self) -> None:
        self.writer.transport.abort()


class Http1Stream(ClientStream):
    """The request that is under way."""

    def __init__(self, client: Http1Client) -> None:
        super().__init__()
        self._client = client
        self.reading: asyncio.Future[None]

    async def put(self, event: h11.Event) -> None:
        self._client.writer.write(self._client.h11.send(event) or b"")
        await self._client.writer.drain()

    async def send(self, data: bytes, end: bool = False) -> None:
        for start in range(0, len(data), 16384):
            await self.put(h11.Data(data=data[start : start + 16384]))
        if end:
            await self.put(h11.EndOfMessage())

    async def send_trailers(self, trailers: Headers) -> None:
        await self.put(h11.EndOfMessage(headers=trailers))

    async def cancel(self) -> None:
        self._client.writer.transport.abort()

    async def read(self) -> None:
        connection = self._client.h11
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await self._client.reader.read(65536))
                elif isinstance(event, h11.InformationalResponse | h11.Response):
                    self.take_head([(b":status", b"%d" % event.status_code), *event.headers])
                elif isinstance(event, h11.Data):
                    self.take_data(bytes(event.data))
                    # Reading on only when the test has taken it is how HTTP/1.1 pushes back.
                    while self._pieces and not self.ended.is_set():
                        await asyncio.sleep(0.001)
                elif isinstance(event, h11.EndOfMessage):
                    self._client.told = self.response.header(b"connection") == b"close"
                    self.response.trailers = list(event.headers)
                    return self.finish()
                else:
                    return self.finish("connection closed")
        except (h11.RemoteProtocolError, ConnectionError, ssl.SSLError) as error:
            return self.finish(f"connection closed: {error}")


class GoawayTolerantConnection(h2.connection.H2Connection):
    """h2, which else takes GOAWAY for the end of streams that go on (RFC 9113 section 6.8)."""

    def _receive_goaway_frame(self, frame: Any) -> Any:
        event = h2.events.ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


# --- HTTP/2 -------------------------------------------------------------------------------------
class Http2Client(Client):
    """One connection; many streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.h2 = GoawayTolerantConnection(h2.config.H2Configuration(header_encoding=None))
        self.h2.initiate_connection()
        self.goaway: h2.events.ConnectionTerminated | None = None
        self.waiting: set[Http2Stream] = set()
        self._streams: dict[int, Http2Stream] = {}
        self._reading = asyncio.ensure_future(self._read())

    @property
    def ending(self) -> bool:
        return self.goaway is not None or self._reading.done()

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext) -> "Http2Client":
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost", limit=65536
        )
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        client = cls(reader, writer)
        client.flush()
        return client

    async def open(
        self, method: str, path: str, headers: Headers | None = None, end: bool = True
    ) -> ClientStream:
        stream_id = self.h2.get_next_available_stream_id()
        stream = self._streams[stream_id] = Http2Stream(self, stream_id)
        self.h2.send_headers(stream_id, request_head(method, path, headers), end_stream=end)
        self.flush()
        return stream

    async def close(self) -> None:
        self.writer.transport.abort()
        self._reading.cancel()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.writer.transport.is_closing():
            self.writer.write(data)

    async def _read(self) -> None:
        try:
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._on_event(event)
                self.flush()
        except (ConnectionError, ssl.SSLError):
            pass
        for stream in self._streams.values():
            stream.finish("connection closed")

    def _on_event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event
        # Those alone: a client of hours has had tens of thousands.
        for stream in self.waiting:
            stream.window.set()
        stream = self._streams.get(getattr(event, "stream_id", 0) or 0)
        if stream is None:
            return
        match event:
            case h2.events.ResponseReceived() | h2.events.InformationalResponseReceived():
                stream.take_head([(bytes(name), bytes(value)) for name, value in event.headers])
            case h2.events.DataReceived():
                padding = event.flow_controlled_length - len(event.data)
                if padding:
                    self.h2.acknowledge_received_data(padding, event.stream_id)
                stream.take_data(event.data)
            case h2.events.TrailersReceived():
                stream.response.trailers = [(bytes(n), bytes(v)) for n, v in event.headers]
            case h2.events.StreamEnded():
                stream.finish()
            case h2.events.StreamReset():
                stream.stopped = event.error_code
                stream.finish(f"RST_STREAM {int(event.error_code)}")


class Http2Stream(ClientStream):
    """One stream."""

    def __init__(self, client: Http2Client, stream_id: int) -> None:
        super().__init__()
        self._client = client
        self._id = stream_id
        self.window = asyncio.Event()

    async def send(self, data: bytes, end: bool = False) -> None:
        connection = self._client.h2
        rest = memoryview(data)
        while rest and self.stopped is None:
            self.window.clear()
            room = min(
                connection.local_flow_control_window(self._id), connection.max_outbound_frame_size
            )
            if room <= 0:
                self._client.waiting.add(self)
                try:
                    await self.window.wait()
                finally:
                    self._client.waiting.discard(self)
                continue
            connection.send_data(self._id, bytes(rest[:room]))
            rest = rest[room:]
            self._client.flush()
            await self._client.writer.drain()
        if end and self.stopped is None:
            connection.end_stream(self._id)
            self._client.flush()

    async def send_trailers(self, trailers: Headers) -> None:
        self._client.h2.send_headers(self._id, trailers, end_stream=True)
        self._client.flush()

    async def cancel(self) -> None:
        self._client.h2.reset_stream(self._id, h2.errors.ErrorCodes.CANCEL)
        self._client.flush()

    def consumed(self, count: int) -> None:
        if count and self.stopped is None:
            self._client.h2.acknowledge_received_data(count, self._id)
            self._client.flush()


SERVER_CONTROL = 3
"""The stream that our server opens first."""


def frames(control: bytes) -> list[int]:
    """Return the types of the frames that a control stream brought."""
    types, buffer = [], Buffer(data=control)
    with contextlib.suppress(BufferReadError):
        buffer.pull_uint_var()
        while not buffer.eof():
            kind = buffer.pull_uint_var()
            buffer.pull_bytes(buffer.pull_uint_var())
            types.append(kind)
    return types


class HeadAwareConnection(H3Connection):
    """aioquic's HTTP/3, which does not know that some responses have a length and no body."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.bodiless: set[int] = set()
        # aioquic passes over GOAWAY: what the server's control stream brought, for ours to read.
        self.control = b""

    def _check_content_length(self, stream: Any) -> None:
        if stream.stream_id not in self.bodiless:
            super()._check_content_length(stream)


# --- HTTP/3 -------------------------------------------------------------------------------------
class Http3Protocol(QuicConnectionProtocol):
    """aioquic's client, as it comes.

    Arguments:
        destination: The connection ID of its first packets; empty for a random one.
    """

    http: HeadAwareConnection
    streams: "dict[int, Http3Stream]"
    terminated: ConnectionTerminated | None = None

    def __init__(self, quic: QuicConnection, destination: bytes = b"", **more: Any) -> None:
        super().__init__(quic, **more)
        if destination:
            quic._peer_cid.cid = quic._original_destination_connection_id = destination

    def begin(self) -> None:
        self.http = HeadAwareConnection(self._quic)
        self.streams = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        if not hasattr(self, "http"):
            self.begin()
        if isinstance(event, ConnectionTerminated):
            self.terminated = event
            for stream in self.streams.values():
                stream.finish(f"connection closed: {event.error_code:#x}")
        if isinstance(event, StreamReset) and event.stream_id in self.streams:
            self.streams[event.stream_id].finish(f"RESET_STREAM {event.error_code:#x}")
        if isinstance(event, StreamDataReceived) and event.stream_id == SERVER_CONTROL:
            self.http.control += event.data
        if isinstance(event, StopSendingReceived) and event.stream_id in self.streams:
            self.streams[event.stream_id].stopped = event.error_code
        for http_event in self.http.handle_event(event):
            self._on_http_event(http_event)

    def _on_http_event(self, event: H3Event) -> None:
        stream = self.streams.get(getattr(event, "stream_id", -1))
        if stream is None:
            return
        if isinstance(event, HeadersReceived):
            if stream.response.status:
                stream.response.trailers = event.headers
            else:
                stream.take_head(event.headers)
        elif isinstance(event, DataReceived):
            stream.take_data(event.data)
        if event.stream_ended:
            stream.finish()


class Http3Client(Client):
    """One connection; many streams."""

    def __init__(
        self, port: int, configuration: QuicConfiguration, destination: bytes = b""
    ) -> None:
        self.tickets: list[SessionTicket] = []
        self.tokens: list[bytes] = []
        self._context = connect(
            "127.0.0.1",
            port,
            configuration=configuration,
            create_protocol=partial(Http3Protocol, destination=destination),
            session_ticket_handler=self.tickets.append,
            token_handler=self.tokens.append,
        )
        self.protocol: Http3Protocol

    @classmethod
    async def connect(
        cls, port: int, configuration: QuicConfiguration | None = None, destination: bytes = b""
    ) -> "Http3Client":
        if configuration is None:
            configuration = QuicConfiguration(
                alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name="localhost"
            )
        client = cls(port, configuration, destination)
        client.protocol = await client._context.__aenter__()
        if not hasattr(client.protocol, "http"):
            client.protocol.begin()
        return client

    async def open(
        self, method: str, path: str, headers: Headers | None = None, end: bool = True
    ) -> ClientStream:
        quic = self.protocol._quic
        stream_id = quic.get_next_available_stream_id()
        stream = self.protocol.streams[stream_id] = Http3Stream(self, stream_id)
        if method == "HEAD":
            self.protocol.http.bodiless.add(stream_id)
        self.protocol.http.send_headers(stream_id, request_head(method, path, headers), end)
        self.protocol.transmit()
        return stream

    @property
    def ending(self) -> bool:
        protocol = self.protocol
        return protocol.terminated is not None or FrameType.GOAWAY in frames(protocol.http.control)

    def give_no_credit(self) -> None:
        """Never raise the windows, which aioquic does whether or not anybody reads."""
        quic: Any = self.protocol._quic
        quic._write_stream_limits = quic._write_connection_limits = lambda **_: None

    async def close(self) -> None:
        self.protocol.close()
        await self._context.__aexit__(None, None, None)


class Http3Stream(ClientStream):
    """One stream."""

    def __init__(self, client: Http3Client, stream_id: int) -> None:
        super().__init__()
        self._client = client
        self._id = stream_id

    async def send(self, data: bytes, end: bool = False) -> None:
        protocol = self._client.protocol
        for start in range(0, max(len(data), 1), 65536):
            if self.stopped is not None or self.ended.is_set():
                return
            piece = data[start : start + 65536]
            protocol.http.send_data(self._id, piece, end and start + 65536 >= len(data))
            protocol.transmit()
            # aioquic keeps what it cannot send: hold the test's memory down.
            while (
                self._id in protocol._quic._streams
                and len(protocol._quic._streams[self._id].sender._buffer) > 1024 * 1024
                and self.stopped is None
                and not self.ended.is_set()
            ):
                await asyncio.sleep(0.001)

    async def send_trailers(self, trailers: Headers) -> None:
        self._client.protocol.http.send_headers(self._id, trailers, end_stream=True)
        self._client.protocol.transmit()

    async def cancel(self) -> None:
        quic = self._client.protocol._quic
        quic.reset_stream(self._id, ErrorCode.H3_REQUEST_CANCELLED)
        quic.stop_stream(self._id, ErrorCode.H3_REQUEST_CANCELLED)
        self._client.protocol.transmit()


def request_head(method: str, path: str, headers: Headers | None) -> Headers:
    """Return the head of a request, with its pseudo-headers."""
    return [
        (b":method", method.encode()),
        (b":scheme", b"https"),
        (b":authority", AUTHORITY),
        (b":path", path.encode()),
        *(headers or []),
    ]
