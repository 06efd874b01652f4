"""Connections to backends over QUIC, and dialling them."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aioquic.tls import SessionTicket

from spooky._core import reasons
from spooky._core.exchange import RESPONSE_FIELDS_MAX_BYTES, RESPONSE_FIELDS_MAX_COUNT
from spooky._core.reasons import H3_NO_ERROR, Reason
from spooky._core.timers import Timer
from spooky.protocol.h3.limits import Limits
from spooky.protocol.quic.parameters import ClientParameters
from spooky.protocol.quic.session import Close, Handshake
from spooky.protocol.quic.windows import STREAM_WINDOW
from spooky.upstream.connection import EXPECTED_STREAMS, PooledConnection
from spooky.upstream.dial import (
    ALPN_HTTP3,
    DialError,
    DialSettings,
    Resolve,
    addresses_of,
    connect_timed_out,
)
from spooky.upstream.http3 import HandshakeError, Http3Connection
from spooky.upstream.sessions import Resumption

if TYPE_CHECKING:
    from spooky.upstream.pool import Pool

IDLE_TIMEOUT_SECONDS: Final = 30.0
"""After which silence a connection ends; it is kept alive for as long as the pool wants it."""

PING_INTERVAL_SECONDS: Final = 5.0
"""A silent connection is asked for a sign of life this often, and dropped at the next. Sooner than
over TCP, where the kernel of a backend tells that it is gone."""

PINGS_PER_IDLE_TIMEOUT: Final = 3
"""If the backend wants a shorter idle timeout, so often within that: one PING may be lost."""

DOUBT_SECONDS: Final = 1.0
"""So long a connection may take to show that it lives, once its host said that nobody listens. That
is no proof, as anybody may have said so."""

FINISH_SECONDS: Final = 10.0
"""So long a backend may take to acknowledge the end of requests that it has answered already,
before a connection that carries no more is closed nevertheless."""


RESPONSE_LIMITS: Final = Limits(RESPONSE_FIELDS_MAX_COUNT, RESPONSE_FIELDS_MAX_BYTES)
"""What a backend may send: heads up to the validator's limits, which no other session is before."""


@dataclass(frozen=True, slots=True)
class Http3Settings:
    """How HTTP/3 connections to backends behave.

    Attributes:
        engine: Name of the QUIC engine; ``None`` for the best there is.
        congestion_control: ``cubic`` or ``reno``.
        limits: What a backend may send.
        stream_window: Body bytes of a stream that may be outstanding until consumed. The connection
            has a window for every stream, as over HTTP/2: they belong to different clients, and
            those who read slowly must not stall the others.
    """

    engine: str | None = None
    congestion_control: str = "cubic"
    limits: Limits = RESPONSE_LIMITS
    stream_window: int = STREAM_WINDOW


class QuicConnection(PooledConnection, Http3Connection):
    """A connection with HTTP/3.

    Arguments:
        pool: Whose it is.
        udp: A socket connected to the backend.
    """

    wake = Http3Connection.wake

    def __init__(self, pool: "Pool", udp: socket.socket) -> None:
        settings, http3 = pool.dial_settings, pool.settings.http3
        self._resumption = Resumption(pool.sessions, pool.runtime.now())
        Http3Connection.__init__(
            self,
            pool.runtime,
            udp,
            _parameters(settings, http3, self._resumption),
            settings.origin.host,
            http3.engine,
            http3.limits,
        )
        PooledConnection.__init__(self, pool)
        self.session = self.http3
        self.expected_streams = EXPECTED_STREAMS
        self._peer = str(udp.getpeername()[0])
        self._received_at_ping = 0
        self._is_pinged = False
        self._doubt_timer: Timer | None = None
        self._finish_timer: Timer | None = None
        pool.runtime.keep(self)

    @property
    def is_open(self) -> bool:
        """Whether it can still be used."""
        return not self.ended

    @property
    def address(self) -> str:
        """The IP address that it leads to."""
        return self._peer

    @property
    def is_barren(self) -> bool:
        """Whether the backend lets it carry not even one request, and did not end it.

        Once it served, credit for more may be under way any time; who needs it now dials.
        """
        return self.served == 0 and super().is_barren

    def _finish(self) -> None:
        """Close once the backend has all of the requests: QUIC drops the rest when it closes."""
        if self.quic.all_acknowledged:
            self._close()
        elif self._finish_timer is None:
            deadline = self.runtime.now() + FINISH_SECONDS
            self._finish_timer = self.runtime.schedule(deadline, self._close)

    def _close(self) -> None:
        self.quic.close(H3_NO_ERROR, "", is_application=True)
        self.wake()

    def close(self) -> None:
        """Let go of the socket."""
        self.runtime.let_go(self)
        Http3Connection.close(self)

    def end(self) -> None:
        """End at once, telling the backend: nobody will be there to do it later."""
        self.shutdown()
        self.flush()
        self.close()

    def on_established(self, handshake: Handshake) -> None:
        """Serve, unless the backend agreed to something else."""
        if handshake.alpn != ALPN_HTTP3:
            self.http3.terminate(reasons.UPSTREAM_ALPN_MISMATCH)
            return
        self._resumption.complete(handshake.resumed, self.runtime.now())
        super().on_established(handshake)
        self._schedule_ping()

    def on_closed(self, close: Close, reason: Reason) -> None:
        """Leave the pool; what the session still has to say is sent."""
        super().on_closed(close, reason)
        self.leave_pool()

    def leave_pool(self) -> None:
        """Serve nobody any more: it is gone."""
        self._forget_doubt()
        if self._finish_timer is not None:
            self._finish_timer.cancel()
            self._finish_timer = None
        super().leave_pool()

    def on_unreachable(self, error: OSError) -> None:
        """Take no requests until the backend shows that it lives."""
        super().on_unreachable(error)
        if self.quic.established and self.is_open and not self.http3.held_back:
            self.http3.held_back = True
            self._received_at_doubt = self.datagrams_received
            self.quic.ping()
            deadline = self.runtime.now() + DOUBT_SECONDS
            self._doubt_timer = self.runtime.schedule(deadline, self._end_doubt)
            self.wake()

    def on_ping_due(self) -> None:
        """Ask for a sign of life if there was none, and drop what was asked in vain."""
        silent = self.datagrams_received == self._received_at_ping
        self._received_at_ping = self.datagrams_received
        if silent and self._is_pinged:
            self.http3.terminate(reasons.UPSTREAM_CONNECTION_LOST)
            return
        self._is_pinged = silent
        if silent:
            self.quic.ping()
            self.wake()
        self._schedule_ping()

    def _schedule_ping(self) -> None:
        seconds = PING_INTERVAL_SECONDS
        if self.quic.idle_timeout:
            seconds = min(seconds, self.quic.idle_timeout / PINGS_PER_IDLE_TIMEOUT)
        self.schedule_ping(seconds)

    def _end_doubt(self) -> None:
        """Believe that the backend is gone, if nothing came from it since."""
        self._doubt_timer = None
        if self.datagrams_received == self._received_at_doubt:
            self.http3.terminate(reasons.UPSTREAM_CONNECTION_LOST)

    def _forget_doubt(self) -> None:
        if self._doubt_timer is not None:
            self._doubt_timer.cancel()
            self._doubt_timer = None


MakeConnection = Callable[[socket.socket], QuicConnection]
"""Makes a connection on a socket that is connected to a backend."""


async def dial_http3(
    settings: DialSettings, resolve: Resolve, make_connection: MakeConnection, seconds: float
) -> QuicConnection:
    """Connect to an origin, at the first of its addresses that answers.

    Arguments:
        seconds: For resolving and the handshake together.

    Raises:
        DialError: It could not be connected; says why.
    """
    origin = settings.origin
    failure = DialError(reasons.NAME_RESOLUTION_FAILED, f"{origin.host} has no address")
    try:
        async with asyncio.timeout(seconds):
            for address in await addresses_of(origin, resolve):
                try:
                    return await _connect(settings, address, make_connection)
                except OSError as error:
                    failure = _failure(settings, address, error)
    except TimeoutError as error:
        raise connect_timed_out(origin, seconds) from error
    raise failure


async def _connect(
    settings: DialSettings, address: str, make_connection: MakeConnection
) -> QuicConnection:
    """Connect to an address.

    Raises:
        OSError: It cannot be connected.
    """
    udp = _udp_socket(address, settings.origin.port)
    try:
        connection = make_connection(udp)
    except BaseException:
        udp.close()
        raise
    try:
        await connection.established
    except BaseException:
        connection.end()
        raise
    return connection


def _udp_socket(address: str, port: int) -> socket.socket:
    """Return a socket that is connected to an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    try:
        udp.setblocking(False)
        # Numeric, so nothing is resolved.
        udp.connect((address, port))
    except OSError:
        udp.close()
        raise
    return udp


def _failure(settings: DialSettings, address: str, error: OSError) -> DialError:
    """Return why an address could not be connected."""
    origin = settings.origin
    if isinstance(error, HandshakeError):
        reason = error.reason
        if reason is reasons.HANDSHAKE_TIMEOUT:
            reason = reasons.CONNECT_TIMEOUT
        return DialError(reason, f"{origin}: {error}")
    if isinstance(error, ConnectionRefusedError):
        return DialError(reasons.CONNECT_REFUSED, f"{origin} at {address} refused")
    return DialError(reasons.CONNECT_FAILED, f"{origin} at {address}: {error}")


def _parameters(
    settings: DialSettings, http3: Http3Settings, resumption: Resumption[SessionTicket]
) -> ClientParameters:
    tls = settings.quic
    if tls is None:
        raise ValueError(f"HTTP/3 to {settings.origin} needs TLS")
    connection_window = http3.limits.max_concurrent_streams * http3.stream_window
    return ClientParameters(
        alpn=(ALPN_HTTP3,),
        verify=False,
        verifier=tls.verifier,
        certificate=tls.certificate,
        ticket=resumption.session,
        on_ticket=resumption.keep,
        idle_timeout=IDLE_TIMEOUT_SECONDS,
        stream_window=http3.stream_window,
        stream_window_max=http3.stream_window,
        connection_window=connection_window,
        connection_window_max=connection_window,
        congestion_control=http3.congestion_control,
    )
