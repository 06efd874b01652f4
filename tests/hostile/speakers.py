"""Carrying out hostile conversations against a running proxy."""

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from spooky.protocol.quic.engines import ENGINES, Engine
from spooky.protocol.quic.parameters import ClientParameters
from spooky.protocol.quic.session import Close, Datagram, Handshake, QuicSession
from tests.hostile.conversations import Conversation, Step
from tests.protocol.quic.forge import Initials
from tests.support.tls import plain_context

CONNECT_SECONDS: Final = 10.0
HEARING_SECONDS: Final = 0.05
"""How long a client that goes in order listens before it does."""

PATIENCE_SECONDS: Final = 1.0
"""How long one listens that waits for all there is to hear."""

RESET: Final = struct.pack("ii", 1, 0)
"""Linger for no time: closing resets the connection (SO_LINGER)."""

ENGINE: Final[Engine] = ENGINES.get("native", ENGINES["aioquic"])


class CutOffError(Exception):
    """The proxy has had enough, as it may at any time."""


async def speak(conversation: Conversation, port: int, host: str) -> str:
    """Carry out a conversation; return what it came to: ``said`` or ``cut off``.

    Arguments:
        port: The proxy's.
        host: The address to come from.

    Raises:
        TimeoutError: The proxy lets nobody in.
        ConnectionRefusedError: It is not there.
    """
    speaker = _SPEAKERS[conversation.protocol]
    try:
        await speaker(conversation, port, host)
    except CutOffError:
        return "cut off"
    return "said"


async def _pause(step: Step) -> None:
    await asyncio.sleep(step.number / 1000)


# --- HTTP/1.1 and HTTP/2 --------------------------------------------------------------------------


_CONTEXTS: Final = {"h1": plain_context("http/1.1"), "h2": plain_context("h2")}


async def _over_tcp(conversation: Conversation, port: int, host: str) -> None:
    """Say the steps on a TLS connection."""
    async with asyncio.timeout(CONNECT_SECONDS):
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=_CONTEXTS[conversation.protocol],
                server_hostname="localhost", local_addr=(host, 0),
            )  # fmt: skip
        except (ConnectionResetError, ssl.SSLError) as error:
            raise CutOffError from error
    try:
        for step in conversation.steps:
            if step.act == "pause":
                await _pause(step)
                continue
            writer.write(step.data)
            # Not drained: who does not read has to be borne as well.
            if writer.is_closing():
                raise CutOffError
        await _leave_tcp(conversation.ending, reader, writer)
    except (ConnectionError, ssl.SSLError) as error:
        raise CutOffError from error
    finally:
        writer.transport.abort()


async def _leave_tcp(
    ending: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if ending == "reset":
        connection = writer.get_extra_info("socket")
        if connection is None:
            raise CutOffError
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return
    if ending == "vanish":
        return
    seconds = PATIENCE_SECONDS if ending == "wait" else HEARING_SECONDS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await reader.read(65_536):
                pass
    writer.close()


# --- HTTP/3 ---------------------------------------------------------------------------------------


class _Client(asyncio.DatagramProtocol):
    """A QUIC connection that consumes what it hears."""

    def __init__(self, port: int) -> None:
        self.server = ("127.0.0.1", port)
        parameters = ClientParameters(verify=False)
        self.session: QuicSession = ENGINE.client_session(
            parameters, self.server, "localhost", time.monotonic()
        )
        self.session.handler = self
        self.established = asyncio.Event()
        self.closed = asyncio.Event()
        self._transport: asyncio.DatagramTransport
        self._timer: asyncio.TimerHandle | None = None

    # --- the socket ---

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.flush()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.session.receive([Datagram(data, self.server)], time.monotonic())
        self.flush()

    def error_received(self, exc: Exception) -> None:
        """Whatever the network says, the conversation goes on."""

    def flush(self) -> None:
        """Send what there is to send, and wait for what is due."""
        now = time.monotonic()
        for transmit in self.session.flush(now):
            size = transmit.segment_size or len(transmit.payload)
            for at in range(0, len(transmit.payload), max(1, size)):
                self._transport.sendto(transmit.payload[at : at + size], self.server)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.session.deadline()
        if deadline is not None and not self._transport.is_closing():
            delay = max(0.0, deadline - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self.session.expire(time.monotonic())
        self.flush()

    def vanish(self) -> None:
        """Be gone without a word."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()

    # --- the session's upcalls ---

    def on_early_data(self) -> None: ...

    def on_handshake(self, handshake: Handshake) -> None:
        self.established.set()

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        self.session.consume(stream_id, len(data))

    def on_stream_reset(self, stream_id: int, error_code: int) -> None: ...

    def on_stop_sending(self, stream_id: int, error_code: int) -> None: ...

    def on_stream_writable(self, stream_id: int) -> None: ...

    def on_streams_available(self) -> None: ...

    def on_connection_id_issued(self, connection_id: bytes) -> None: ...

    def on_connection_id_retired(self, connection_id: bytes) -> None: ...

    def on_closed(self, close: Close) -> None:
        self.closed.set()
        self.established.set()


async def _over_quic(conversation: Conversation, port: int, host: str) -> None:
    """Say the steps on the streams of a connection."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_datagram_endpoint(lambda: _Client(port), local_addr=(host, 0))
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.established.wait()
        opened: dict[int, int | None] = {}
        for step in conversation.steps:
            if client.closed.is_set():
                raise CutOffError
            if step.act == "pause":
                await _pause(step)
                continue
            _take(client.session, step, opened)
            client.flush()
        await _leave_quic(conversation.ending, client)
    finally:
        client.vanish()


def _take(session: QuicSession, step: Step, opened: dict[int, int | None]) -> None:
    """Take a step, on a stream that is opened for it if the proxy allows another."""
    if step.stream not in opened:
        opened[step.stream] = session.open_stream(bool(step.stream & 2))
    stream = opened[step.stream]
    if stream is None:
        return
    match step.act:
        case "reset":
            session.reset(stream, step.number)
        case "stop":
            session.stop_sending(stream, step.number)
        case _:
            if step.data or step.fin:
                session.send(stream, step.data, step.fin)


async def _leave_quic(ending: str, client: _Client) -> None:
    if ending in ("vanish", "reset"):
        return
    seconds = PATIENCE_SECONDS if ending == "wait" else HEARING_SECONDS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await client.closed.wait()
    if not client.closed.is_set():
        client.session.close(0x100, "", is_application=True)
        client.flush()


# --- QUIC without a handshake ---------------------------------------------------------------------


async def _over_udp(conversation: Conversation, port: int, host: str) -> None:
    """Send Initial packets with the frames of each step, or what is no packet."""
    name = conversation.number.to_bytes(8, "big")
    initials = Initials(destination=name, source=name[::-1])
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.bind((host, 0))
        for step in conversation.steps:
            if step.act == "pause":
                await _pause(step)
                continue
            datagram = step.data if step.number else initials(step.data[:1100]).payload
            with contextlib.suppress(BlockingIOError):
                udp.sendto(datagram, ("127.0.0.1", port))


_SPEAKERS: Final[dict[str, Callable[[Conversation, int, str], Coroutine[Any, Any, None]]]] = {
    "h1": _over_tcp,
    "h2": _over_tcp,
    "h3": _over_quic,
    "quic": _over_udp,
}
