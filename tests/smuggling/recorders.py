"""Backends that write down what reaches them, byte by byte."""

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11

from spooky.observe.access_log import FIELD_MAX_BYTES

Fields = list[tuple[bytes, bytes]]


@dataclass
class Seen:
    """A request as a backend understands it.

    Attributes:
        raw: What arrived over HTTP/1.1.
        fields: The head that arrived over HTTP/2.
        error: What is wrong with it; nothing where empty.
    """

    method: bytes = b""
    target: bytes = b""
    host: bytes = b""
    body: bytes = b""
    raw: bytes = b""
    fields: Fields = field(default_factory=list)
    trailers: Fields = field(default_factory=list)
    error: str = ""

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """What the sides must agree about."""
        texts = (
            part.decode("utf-8", "backslashreplace")
            for part in (self.method, self.target, self.host)
        )
        method, target, host = texts
        return method, target, host, len(self.body)

    @property
    def logged(self) -> tuple[str, str, str, int]:
        """The same, as the access log has it: without the query, and cut where that is long."""
        method, target, host, size = self.identity
        return method, target.partition("?")[0][:FIELD_MAX_BYTES], host, size


class Recorder:
    """A backend of one protocol; every request has a connection of its own over HTTP/1.1.

    Attributes:
        seen: What arrived, in order.
        port: Where it listens.
    """

    def __init__(self, protocol: str) -> None:
        self.seen: list[Seen] = []
        self.port = 0
        self._serve = self._serve_h2 if protocol == "h2" else self._serve_h1
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()

    async def _serve_h1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        seen = None
        raw = b""
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    data = await reader.read(65536)
                    raw += data
                    connection.receive_data(data)
                elif isinstance(event, h11.Request):
                    host = dict(event.headers).get(b"host", b"")
                    seen = Seen(event.method, event.target, host)
                elif isinstance(event, h11.Data):
                    assert seen is not None
                    seen.body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    assert seen is not None
                    seen.trailers = list(event.headers)
                    seen.error = "" if not connection.trailing_data[0] else "bytes follow"
                    break
                else:
                    break
        except h11.RemoteProtocolError as error:
            seen = seen or Seen()
            seen.error = str(error)
        except ConnectionError:
            pass
        if seen is not None:
            seen.raw = raw
            self.seen.append(seen)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async def _serve_h2(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = h2.config.H2Configuration(client_side=False, header_encoding=None)
        connection = h2.connection.H2Connection(settings)
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        streams: dict[int, Seen] = {}
        try:
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    self._on_event(connection, streams, event)
                writer.write(connection.data_to_send())
        except h2.exceptions.ProtocolError as error:
            self.seen.append(Seen(error=str(error)))
        except ConnectionError:
            pass
        writer.close()

    def _on_event(
        self,
        connection: h2.connection.H2Connection,
        streams: dict[int, Seen],
        event: h2.events.Event,
    ) -> None:
        match event:
            case h2.events.RequestReceived():
                fields = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
                of = dict(fields)
                seen = Seen(of[b":method"], of.get(b":path", b""), of.get(b":authority", b""))
                seen.fields = fields
                streams[event.stream_id or 0] = seen
            case h2.events.DataReceived():
                streams[event.stream_id or 0].body += event.data or b""
                connection.acknowledge_received_data(
                    event.flow_controlled_length or 0, event.stream_id or 0
                )
            case h2.events.TrailersReceived():
                streams[event.stream_id or 0].trailers = [
                    (bytes(name), bytes(value)) for name, value in event.headers or ()
                ]
            case h2.events.StreamEnded():
                stream_id = event.stream_id or 0
                self.seen.append(streams.pop(stream_id))
                connection.send_headers(stream_id, [(b":status", b"200")], end_stream=True)
            case h2.events.StreamReset():
                streams.pop(event.stream_id or 0, None)
