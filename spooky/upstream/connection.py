"""The connections of a pool: what they have in common, and those over TCP."""

import asyncio
import ssl
from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from spooky._core import hand_off, reasons
from spooky._core.timers import Timer
from spooky.protocol.h1.client import ClientSession as Http1Session
from spooky.protocol.h2.client import client_session as http2_session
from spooky.runtime.byte_transport import ByteTransport
from spooky.upstream.dial import ALPN_HTTP2, agreed_protocol
from spooky.upstream.sessions import Resumption

if TYPE_CHECKING:
    from spooky.upstream.pool import Pool

PING_INTERVAL_SECONDS: Final = 10.0
"""A silent HTTP/2 connection is asked for a sign of life this often, and dropped at the next."""

EXPECTED_STREAMS: Final = 100
"""How many requests a connection being dialled is expected to carry once it multiplexes."""


class PooledConnection(hand_off.Connection):
    """One connection of a pool, whatever carries it.

    Attributes:
        pool: Whose it is.
        expected_streams: How many requests one like it can be expected to carry.
    """

    pool: "Pool"

    def __init__(self, pool: "Pool") -> None:
        # By its name: what carries it is initialised apart.
        hand_off.Connection.__init__(self)
        self.pool = pool
        self.expected_streams = 1
        self._idle_since = 0.0
        self._served_at_idle = 0
        self._ping_timer: Timer | None = None
        self._credit_timer: Timer | None = None

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether it can still be used."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The IP address that it leads to; empty if it is gone."""

    @abstractmethod
    def wake(self) -> None:
        """Flush at the end of this turn."""

    def offer_session(self) -> None:
        """Let the pool resume the TLS session of this connection, if there is one for it."""

    @abstractmethod
    def on_ping_due(self) -> None:
        """Ask for a sign of life if there was none, and drop what was asked in vain."""

    @property
    def is_barren(self) -> bool:
        """Whether the backend lets it carry not even one request, and did not end it."""
        session = self.session
        return bool(session.active_streams == 0 and session.reusable and session.capacity == 0)

    def awaits_credit(self) -> bool:
        """Return whether it is barren, and see that it ends if it is for long.

        A backend allows no streams for a short time only (RFC 9113 section 6.5.2): for as long as
        a new connection may take.
        """
        if not self.is_barren:
            return False
        if self._credit_timer is None:
            pool = self.pool
            deadline = pool.runtime.now() + pool.settings.connect_timeout
            self._credit_timer = pool.runtime.schedule(deadline, self._end_if_barren)
        return True

    def _end_if_barren(self) -> None:
        self._credit_timer = None
        if self.is_barren:
            self.session.shutdown()
            self.wake()

    def leave_pool(self) -> None:
        """Serve nobody any more: it is gone."""
        for timer in (self._idle_timer, self._ping_timer, self._credit_timer):
            if timer is not None:
                timer.cancel()
        self._idle_timer = self._ping_timer = self._credit_timer = None
        self.pool.on_closed(self)

    def follow_idle_timeout(self) -> None:
        """Go by an idle timeout that changed."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._schedule_idle()

    def schedule_ping(self, seconds: float) -> None:
        """Have :meth:`on_ping_due` called after some time."""
        runtime = self.pool.runtime
        self._ping_timer = runtime.schedule(runtime.now() + seconds, self.on_ping_due)

    def _schedule_idle(self) -> None:
        deadline = self._idle_since + self.pool.settings.idle_timeout
        self._idle_timer = self.pool.runtime.schedule(deadline, self._on_idle)

    def _begin_idle(self) -> None:
        self._idle_since = self.pool.runtime.now()
        self._served_at_idle = self.served
        self._schedule_idle()

    def _on_idle(self) -> None:
        self._idle_timer = None
        if self.session.active_streams == 0 and self._served_at_idle == self.served:
            self.session.shutdown()
            self.wake()
        elif self.session.active_streams == 0:
            self._begin_idle()


class TcpConnection(PooledConnection, ByteTransport):
    """A connection with HTTP/1.1 or HTTP/2, over TLS or without.

    Arguments:
        pool: Whose it is.

    Attributes:
        resumption: What its handshake takes from the sessions of the pool, and gives to them.
    """

    lost_reason = reasons.UPSTREAM_CONNECTION_LOST
    wake = ByteTransport.wake

    def __init__(self, pool: "Pool") -> None:
        PooledConnection.__init__(self, pool)
        ByteTransport.__init__(self, pool.runtime)
        self._received_at_ping = 0
        self.resumption: Resumption[ssl.SSLSession] = Resumption(pool.sessions, pool.runtime.now())
        # Until it gave its session.
        self._tls: ssl.SSLObject | None = None
        # How many bytes have to have come before it is asked for that.
        self._offer_from = 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak what ALPN chose; TLS is complete by now, and the peer may speak first."""
        self._tls = transport.get_extra_info("ssl_object")
        if self._tls is not None:
            self.resumption.complete(bool(self._tls.session_reused), self.runtime.now())
        if agreed_protocol(transport, self.pool.dial_settings.protocol) == ALPN_HTTP2:
            self.session = http2_session(self.carrier.wake, limits=self.pool.settings.http2)
            self.expected_streams = EXPECTED_STREAMS
            self.schedule_ping(PING_INTERVAL_SECONDS)
        else:
            self.session = Http1Session(self.carrier.wake, limits=self.pool.settings.http1)
        super().connection_made(transport)

    @property
    def is_open(self) -> bool:
        """Whether it can still be used."""
        return self.transport is not None

    @property
    def address(self) -> str:
        """The IP address that it leads to; empty if it is gone."""
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(peer[0]) if peer else ""

    def offer_session(self) -> None:
        """Let the pool resume the TLS session that the backend gave, if it did.

        To look copies the session, which for many connections would hold up a dial. So that is done
        once something came, as most backends send tickets before all else, and if it was in vain
        not before twice as much did.
        """
        if self._tls is None or self.carrier.bytes_received < self._offer_from:
            return
        self._offer_from = 2 * self.carrier.bytes_received
        session = self._tls.session
        if session is not None and session.has_ticket:
            self._tls = None
            self.resumption.keep(session)

    def on_closed(self) -> None:
        """Leave the pool, and leave it what the next one may resume."""
        # The last look, however little came since the one before.
        self._offer_from = 1
        self.offer_session()
        self._tls = None
        self.leave_pool()

    def on_ping_due(self) -> None:
        """Ask for a sign of life if there was none, and drop what was asked in vain."""
        silent = self.carrier.bytes_received == self._received_at_ping
        self._received_at_ping = self.carrier.bytes_received
        if silent and self.session.unanswered_pings > 0:
            self.session.terminate(reasons.UPSTREAM_CONNECTION_LOST)
        elif silent:
            self.session.ping(b"spooky--")
        self.wake()
        self.schedule_ping(PING_INTERVAL_SECONDS)
