"""Hostile clients: they say whatever they are told, frame by frame."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from types import SimpleNamespace
from typing import Any

import hpack
from aioquic.quic.events import (
    ConnectionTerminated,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

from spooky._core.h2_gate import PREFACE
from spooky._core.h3_errors import H3_REQUEST_CANCELLED
from spooky._core.h3_frames import encode_settings, encode_varint
from spooky.protocol.stream import Field
from tests.attacks.ground import attacker_host
from tests.edge.test_stateless import RawClient, Wire, wire
from tests.protocol.h2.peers import raw_frame, settings
from tests.protocol.quic import forge
from tests.support.tls import plain_context

ANSWER_SECONDS = 60.0
BATCH = 20
"""Frames written before the attacker looks whether it was cut off."""


class TcpWire:
    """A TLS connection from an address of its own.

    Attributes:
        received: All that came.
        closed: Set when the proxy has closed it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.received = bytearray()
        self.closed = asyncio.Event()
        self._reader = reader
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, port: int, protocol: str, host: str | None = None) -> "TcpWire":
        return cls(
            *await asyncio.open_connection(
                "127.0.0.1",
                port,
                ssl=plain_context(protocol),
                server_hostname="localhost",
                local_addr=(host or attacker_host(), 0),
            )
        )

    async def send(self, data: bytes) -> None:
        """Send, unless the proxy has closed the connection."""
        if self.closed.is_set():
            return
        try:
            self.writer.write(data)
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.writer.drain()
        except (ConnectionError, ssl.SSLError):
            self.closed.set()

    async def until_closed(self, seconds: float = ANSWER_SECONDS) -> None:
        async with asyncio.timeout(seconds):
            await self.closed.wait()

    async def until(self, seen: Callable[[], bool], seconds: float = ANSWER_SECONDS) -> None:
        """Wait for something to come."""
        async with asyncio.timeout(seconds):
            while not seen():
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        self._task.cancel()
        self.writer.transport.abort()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(65536):
                self.received += data
                self.take(data)
        except (ConnectionError, ssl.SSLError):
            pass
        self.closed.set()

    def take(self, data: bytes) -> None:
        """Look at what came."""


class H2Wire(TcpWire):
    """A connection of HTTP/2.

    Attributes:
        frames: What came.
        encoder: Of the heads that are sent.
        statuses: Of the responses that came, by stream.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.frames: list[Frame] = []
        self.encoder = hpack.Encoder()
        self.statuses: dict[int, bytes] = {}
        self._decoder = hpack.Decoder()
        self._tail = bytearray()

    @classmethod
    async def open(cls, port: int, values: dict[int, int] | None = None) -> "H2Wire":
        """Connect, and say the preface."""
        connection = await cls.connect(port, "h2")
        assert isinstance(connection, H2Wire)
        await connection.send(PREFACE + settings(values) + settings(ack=True))
        return connection

    def headers(
        self, stream_id: int, fields: Iterable[Field], end: bool = False, final: bool = True
    ) -> bytes:
        """Return a head in one frame."""
        return raw_frame(1, end | 4 * final, stream_id, self.encoder.encode(list(fields)))

    @property
    def code(self) -> int | None:
        """The error that the proxy closed with; ``None`` if it did not say GOAWAY."""
        codes = [frame.error_code for frame in self.of_type(GoAwayFrame)]
        return codes[-1] if codes else None

    @property
    def resets(self) -> dict[int, int]:
        """The streams that were reset, and with which error."""
        return {frame.stream_id: frame.error_code for frame in self.of_type(RstStreamFrame)}

    def of_type(self, kind: type[Frame]) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def flood(self, make: Callable[["H2Wire", int], bytes], most: int) -> int:
        """Send what is made until the proxy has had enough; return how often that was."""
        for count in range(1, most + 1):
            await self.send(make(self, count))
            if count % BATCH == 0:
                await asyncio.sleep(0)
            if self.closed.is_set() or self.code:
                return count
        return most

    def take(self, data: bytes) -> None:
        self._tail += data
        while len(self._tail) >= 9:
            view = memoryview(bytes(self._tail))
            frame, length = Frame.parse_frame_header(view[:9])
            if len(view) < 9 + length:
                return
            frame.parse_body(view[9 : 9 + length])
            self.frames.append(frame)
            if isinstance(frame, HeadersFrame):
                fields = dict(self._decoder.decode(frame.data, raw=True))
                self.statuses[frame.stream_id] = fields.get(b":status", b"")
            del self._tail[: 9 + length]


async def arriving(on: Wire, seconds: float) -> AsyncIterator[bytes]:
    """Yield what comes, until nothing has come for a time.

    Not by a reading that is cancelled: one that is, at the wrong moment, has read what is lost.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    await asyncio.sleep(0)
    while True:
        try:
            yield on._udp.recv(2_000)
            deadline = clock() + seconds
        except BlockingIOError:
            if clock() >= deadline:
                return
            await asyncio.sleep(0.002)


class QuicWire:
    """A QUIC connection of aioquic, past which frames can be said too.

    Attributes:
        quic: The connection.
        events: What it heard.
        received_bytes: How many came.
    """

    def __init__(self, on: Wire) -> None:
        self.on = on
        self.client = RawClient()
        self.quic = self.client.quic
        self.events: list[QuicEvent] = []
        self.received_bytes = 0

    async def open(self, http3: bool = True) -> "QuicWire":
        """Shake hands, and say the settings of HTTP/3."""
        await self.client.handshake(self.on, self.client.begin(self.on))
        if http3:
            self.say(2, encode_varint(0x00) + encode_settings({}))
        await self.hear()
        return self

    # --- what it says -------------------------------------------------------------------------

    def say(self, stream_id: int, data: bytes, fin: bool = False) -> None:
        """Send bytes of a stream, as far as the proxy lets it."""
        self.quic.send_stream_data(stream_id, data, fin)
        self.flush()

    # As a session in memory calls it.
    deliver = say

    def give_up(self, stream_id: int) -> None:
        """Reset a request."""
        self.quic.reset_stream(stream_id, H3_REQUEST_CANCELLED)
        self.flush()

    def force(self, *frames: bytes) -> None:
        """Send a packet with these frames, whatever the proxy allows."""
        speaker = SimpleNamespace(client=SimpleNamespace(_quic=self.quic))
        self.on.send(forge.packet(speaker, b"".join(frames)))  # type: ignore[arg-type]

    def flush(self) -> None:
        self.on.send(*self.client.pending())

    # --- what it hears ------------------------------------------------------------------------

    async def hear(self, seconds: float = 0.0) -> None:
        """Take what has come, and what comes within some time."""
        async for datagram in arriving(self.on, seconds):
            self.received_bytes += len(datagram)
            self.on.send(*self.client.take(datagram, self.on))
            self._note()
            if self.closed is not None:
                return
        self.quic.handle_timer(self.client.now)
        self.flush()
        self._note()

    async def until(self, seen: Callable[[], Any], seconds: float = ANSWER_SECONDS) -> None:
        """Hear until something is so; nothing more comes once the connection is closed."""
        async with asyncio.timeout(seconds):
            while not seen():
                assert self.closed is None, self.quic._close_event
                await self.hear(0.02)

    async def until_closed(self) -> int:
        """Return the error that the proxy closes with."""
        await self.until(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed

    @property
    def closed(self) -> int | None:
        """The error that the proxy closed with; ``None`` if it has not."""
        event = self.quic._close_event
        return None if event is None else event.error_code

    def of_type(self, kind: type[QuicEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ended(self) -> dict[int, int]:
        """The streams that the proxy gave up, either way, and with which error."""
        return {
            event.stream_id: event.error_code
            for event in self.events
            if isinstance(event, StreamReset | StopSendingReceived)
        }

    @property
    def answered(self) -> set[int]:
        """The streams on which something came."""
        return {event.stream_id for event in self.of_type(StreamDataReceived)}

    def answer(self, stream_id: int) -> bytes:
        """Return what came of a stream."""
        return b"".join(
            event.data for event in self.of_type(StreamDataReceived) if event.stream_id == stream_id
        )

    @property
    def _may_open(self) -> bool:
        quic = self.quic
        return quic._local_next_stream_id_bidi // 4 + 1 < quic._remote_max_streams_bidi

    async def flood(self, act: Callable[["QuicWire", int], None], most: int) -> int:
        """Do something until the proxy has had enough; return how often that was."""
        for count in range(most):
            # A flood beyond the limit of streams would be another one.
            while self.closed is None and not self._may_open:
                await self.hear(0.02)
            act(self, count)
            if count % BATCH == BATCH - 1:
                await self.hear()
            if self.closed is not None:
                return count
        await self.hear(0.2)
        return most

    async def close(self) -> None:
        if self.closed is None and not self.of_type(ConnectionTerminated):
            self.quic.close()
            self.flush()
            await asyncio.sleep(0)

    def _note(self) -> None:
        while (event := self.quic.next_event()) is not None:
            self.events.append(event)


def from_elsewhere(port: int, host: str | None = None) -> Any:
    """Open a UDP socket to the proxy from an address of its own."""
    return wire(port, host or attacker_host())
