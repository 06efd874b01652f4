"""An upstream connection of :mod:`benchmarks.proxied` with HTTP/3, and the backend behind it.

Both ends are real, handshake included; what is between them is a list instead of sockets.
"""

import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, cast

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.protocol.h3.limits import Limits
from spooky.protocol.h3.server import ServerSession
from spooky.protocol.quic.engines import chosen_engine
from spooky.protocol.quic.packet import ConnectionIds, parse_header
from spooky.protocol.quic.session import Address, Close, Handshake, QuicSession, ReceivedDatagram
from spooky.protocol.stream import Field, Stream
from spooky.runtime import Runtime
from spooky.upstream.pool import Pool
from spooky.upstream.quic import QuicConnection
from tests.protocol.quic.support import server_parameters

PROXY: Final = ("127.0.0.1", 40_000)
BACKEND: Final = ("127.0.0.1", 9)
"""Where the proxy's socket is connected to; nothing is sent there."""

HANDSHAKE_TURNS: Final = 20
"""More than a handshake takes."""


class Datagrams:
    """The UDP socket of the upstream connection; keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[ReceivedDatagram] = []
        self.arrived: list[ReceivedDatagram] = []

    def receive(self, count: int) -> list[ReceivedDatagram]:
        batch = self.arrived[:count]
        del self.arrived[:count]
        return batch

    def send(self, payload: bytes, segment_size: int, destination: Address | None, ecn: int) -> int:
        self.sent += cut(payload, segment_size, PROXY, ecn)
        return len(payload)

    def release(self) -> None:
        pass


class Answer:
    """Takes a request, and answers it at its end."""

    def __init__(self, stream: Stream, head: list[Field], body: bytes) -> None:
        self._stream = stream
        self._head = head
        self._body = body

    def on_head(self, fields: list[Field], end: bool) -> None:
        if end:
            self._answer()

    def on_data(self, data: bytes, end: bool) -> None:
        self._stream.consume(len(data))
        if end:
            self._answer()

    def on_informational(self, fields: list[Field]) -> None: ...

    def on_trailers(self, fields: list[Field]) -> None: ...

    def on_writable(self) -> None: ...

    def on_stopped(self) -> None: ...

    def on_reset(self, reason: Reason) -> None:
        raise AssertionError(f"reset: {reason.code}")

    def _answer(self) -> None:
        self._stream.send_head(self._head, False)
        self._stream.send_data(self._body, True)


class Backend:
    """An HTTP/3 server whose responses are all alike."""

    def __init__(self, head: list[Field], body: bytes) -> None:
        self._head = head
        self._body = body
        self._quic: QuicSession | None = None
        self._http3: ServerSession | None = None

    def answer(self, batch: list[ReceivedDatagram]) -> list[ReceivedDatagram]:
        """Take the proxy's datagrams, and return the backend's."""
        now = time.monotonic()
        if self._quic is None:
            if not batch:
                return []
            self._begin(batch[0][0], now)
        quic, http3 = self._quic, self._http3
        assert quic is not None
        assert http3 is not None
        quic.receive(batch, now)
        deadline = quic.deadline()
        if deadline is not None and deadline <= now:
            quic.expire(now)
        http3.settle()
        return [
            datagram
            for run in quic.flush(now)
            for datagram in cut(run.payload, run.segment_size, BACKEND, run.ecn)
        ]

    def _begin(self, first: bytes, now: float) -> None:
        header = parse_header(first)
        assert header is not None
        self._quic = chosen_engine(None).server_session(
            server_parameters(), header, PROXY, now, ConnectionIds(0).make
        )
        self._http3 = ServerSession(self._quic, self._on_stream, Limits(), self)

    def _on_stream(self, stream: Stream) -> Answer:
        return Answer(stream, self._head, self._body)

    # --- the session's owner ------------------------------------------------------------------

    def on_established(self, handshake: Handshake) -> None: ...

    def on_connection_id_issued(self, connection_id: bytes) -> None: ...

    def on_connection_id_retired(self, connection_id: bytes) -> None: ...

    def on_closed(self, close: Close, reason: Reason) -> None:
        assert reason is reasons.COMPLETED, (close, reason)

    def wake(self) -> None: ...


Stage = Callable[[str], AbstractContextManager[None]]
"""What counts the time of a named stage."""


class Http3Upstream:
    """A connection of a pool to a backend of its own.

    Arguments:
        pool: Whose it is.
        head: Of each response.
        body: Of each response.
        turn: Has the proxy flush what it has to say.
    """

    def __init__(
        self, pool: Pool, head: list[Field], body: bytes, turn: Callable[[], None]
    ) -> None:
        self._backend = Backend(head, body)
        self._datagrams = Datagrams()
        self._runtime = cast(Runtime, pool.runtime)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.connect(BACKEND)
            self._connection = QuicConnection(pool, udp)
            self._connection._udp = cast(Any, self._datagrams)
            for _ in range(HANDSHAKE_TURNS):
                turn()
                self.exchange(lambda name: nullcontext())
        assert self._connection.quic.established
        pool.on_room(self._connection)

    def exchange(self, stage: Stage) -> None:
        """Have the backend answer what was sent, and receive that."""
        sent, self._datagrams.sent = self._datagrams.sent, []
        arrived = self._datagrams.arrived = self._backend.answer(sent)
        with stage("response"):
            while arrived:
                self._connection._on_readable()
            self._fire_timer()

    def _fire_timer(self) -> None:
        timer = self._connection._timer
        if timer is not None and timer.deadline <= self._runtime.now():
            timer.cancel()
            self._connection()


def cut(payload: bytes, size: int, source: Address, ecn: int) -> list[ReceivedDatagram]:
    """Return the datagrams of a run, as they are received."""
    return [(payload[at : at + size], source, ecn) for at in range(0, len(payload), size)]
