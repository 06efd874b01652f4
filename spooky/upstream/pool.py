"""The connections to one backend: reused, grown when full, closed when idle."""

import logging
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from spooky._core import hand_off, reasons
from spooky._core.reasons import Reason
from spooky._core.timers import Timer
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.h2.limits import Limits as Http2Limits
from spooky.protocol.stream import Stream, StreamHandler
from spooky.runtime import Runtime
from spooky.upstream.connection import PooledConnection, TcpConnection
from spooky.upstream.dial import HTTP_3, DialError, DialSettings, Resolve, dial
from spooky.upstream.quic import Http3Settings, QuicConnection, dial_http3
from spooky.upstream.sessions import Sessions

logger = logging.getLogger(__name__)


class Caller(StreamHandler, Protocol):
    """Who asks a pool for a stream."""

    def on_connected(self, stream: Stream, reused: bool) -> None:
        """Take the stream; ``reused`` says that its connection served requests before."""

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        """Learn that no connection could be made."""


class RequestPool(Protocol):
    """What an exchange needs of a backend, remote or embedded."""

    def request(self, caller: Caller) -> None:
        """Give ``caller`` a stream, now if a connection has room, else when one has."""

    def discard_idle(self) -> None:
        """Close the connections that serve nobody: one of their kind proved to be stale."""

    def cancel(self, caller: Caller) -> None:
        """Forget a caller that is still waiting."""

    def close(self, seconds: float) -> None:
        """Let what is under way finish within so many seconds; then it is cut."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How a pool behaves; what may change while its connections stay.

    Attributes:
        max_idle: Connections kept without a request.
        idle_timeout: How long they are kept; seconds.
        connect_timeout: For resolving, connecting and TLS together; seconds.
        http1: Limits of HTTP/1.1 sessions.
        http2: Limits of HTTP/2 sessions.
        http3: How HTTP/3 connections behave.
    """

    max_idle: int
    idle_timeout: float
    connect_timeout: float
    http1: Http1Limits
    http2: Http2Limits
    http3: Http3Settings


class Pool(hand_off.Pool):
    """Connections to one origin with one protocol and one TLS identity.

    Arguments:
        runtime: The worker's.
        dial_settings: How to connect.
        settings: How to behave.
        resolve: Gives the origin's addresses.

    Attributes:
        sessions: TLS sessions that the origin lets us resume.
    """

    def __init__(
        self,
        runtime: Runtime,
        dial_settings: DialSettings,
        settings: PoolSettings,
        resolve: Resolve,
    ) -> None:
        super().__init__()
        self.runtime = runtime
        self.dial_settings = dial_settings
        self.settings = settings
        # The protocol says what they are: TLS over TCP has others than QUIC.
        self.sessions: Sessions[Any] = Sessions()
        self._resolve = resolve
        self._connections: set[PooledConnection] = set()
        self._waiting: deque[Caller] = deque()
        self._dialling = 0
        # What a new connection will probably carry; None until one was made.
        self._expected_streams: int | None = None
        self._closed_until: float | None = None
        self._cut_timer: Timer | None = None

    def use(self, settings: PoolSettings) -> None:
        """Behave otherwise: timeouts and numbers at once, limits of sessions for new connections.

        No connection is closed by that.
        """
        self.settings = settings
        for connection in self._connections:
            connection.follow_idle_timeout()

    def wait(self, caller: Caller) -> None:
        """Give ``caller`` a stream when a connection has room: none had, or the pool is closed."""
        if self._closed_until is not None:
            if not self._serves_still(self._closed_until):
                caller.on_connect_failed(reasons.REMOVED, str(self.dial_settings.origin))
                return
            connection = self.take_ready()
            if connection is not None:
                connection.open(caller)
                return
        self._waiting.append(caller)
        self._grow()

    def leave_other_addresses(self, addresses: Collection[str]) -> None:
        """Let connections finish that lead to none of these addresses; the others stay."""
        for connection in list(self._connections):
            if connection.address not in addresses:
                connection.session.shutdown()
                connection.wake()

    def discard_idle(self) -> None:
        """Close the connections that serve nobody: one of their kind proved to be stale."""
        for connection in self._ready:
            if connection.session.active_streams == 0:
                connection.session.shutdown()
                connection.wake()

    def cancel(self, caller: Caller) -> None:
        """Forget a caller that is still waiting."""
        if caller in self._waiting:
            self._waiting.remove(caller)

    def close(self, seconds: float) -> None:
        """End each connection when its streams have ended.

        Exchanges that had chosen this backend already are still served.

        Arguments:
            seconds: How long that may take; then streams and waiting callers are told
                :data:`~spooky._core.reasons.REMOVED`.
        """
        self.closed = True
        self._closed_until = self.runtime.now() + seconds
        for connection in list(self._connections):
            connection.session.shutdown()
            connection.wake()
        if self._connections or self._dialling:
            self._cut_timer = self.runtime.schedule(self._closed_until, self._cut)

    def _serves_still(self, until: float) -> bool:
        """Return whether a closed pool takes one more request, and see that it ends in time."""
        if self.runtime.now() >= until:
            return False
        if self._cut_timer is None:
            self._cut_timer = self.runtime.schedule(until, self._cut)
        return True

    def _cut(self) -> None:
        self._cut_timer = None
        waiting, self._waiting = self._waiting, deque()
        for caller in waiting:
            caller.on_connect_failed(reasons.REMOVED, str(self.dial_settings.origin))
        for connection in list(self._connections):
            connection.session.terminate(reasons.REMOVED)
            connection.wake()

    def _forget_timer_if_idle(self) -> None:
        """Let a closed pool go as soon as nothing is left to cut."""
        if self._connections or self._dialling or self._cut_timer is None:
            return
        self._cut_timer.cancel()
        self._cut_timer = None

    def on_room(self, connection: PooledConnection) -> None:
        """Learn that a connection is there, or has room for another stream.

        A new one may tell so itself, before the dial that made it ends and does.
        """
        self._connections.add(connection)
        while self._waiting and connection.session.capacity > 0:
            connection.open(self._waiting.popleft())
        if self._waiting:
            self._grow()
        elif self._closed_until is not None:
            connection.session.shutdown()
            connection.wake()
        elif connection.session.capacity > 0 and not connection.ready:
            self._keep(connection)

    def _keep(self, connection: PooledConnection) -> None:
        """Have a connection ready for the next caller, unless there are enough."""
        if len(self._ready) >= self.settings.max_idle:
            connection.session.shutdown()
            connection.wake()
            return
        connection.ready = True
        self._ready.append(connection)

    def on_closed(self, connection: PooledConnection) -> None:
        """Learn that a connection is gone."""
        self._connections.discard(connection)
        if connection.ready:
            self._ready.remove(connection)
            connection.ready = False
        self._forget_timer_if_idle()
        if not self._waiting or self._dialling or self._awaits_credit():
            return
        if not any(each.session.active_streams for each in self._connections):
            # They waited for it. Another one may be no better: whether to dial is theirs to say.
            self._on_dial_failed(self._useless("let its connection carry no request"))

    def _awaits_credit(self) -> bool:
        """Return whether there is a connection that may carry requests yet.

        One of HTTP/1.1 that serves carries no other, and needs no credit.
        """
        if self._expected_streams == 1:
            return False
        return any(each.awaits_credit() for each in self._connections)

    def _useless(self, detail: str) -> DialError:
        return DialError(reasons.CONNECT_FAILED, f"{self.dial_settings.origin} {detail}")

    def _grow(self) -> None:
        """Dial until what is being dialled can be expected to carry all who wait.

        Until the first connection tells whether the backend multiplexes, one is dialled. While the
        backend lets a connection carry nothing, none is: the next would fare no better.
        """
        if self._awaits_credit():
            return
        while self._dialling == 0 or (
            self._expected_streams is not None
            and self._dialling * self._expected_streams < len(self._waiting)
        ):
            self._dialling += 1
            self.runtime.start_task(self._dial())

    async def _connect(self) -> PooledConnection:
        """Return a new connection; what fails to resume a TLS session is tried without.

        Raises:
            DialError: There can be none.
        """
        for each in self._connections:
            each.offer_session()
        now = self.runtime.now()
        resumes = self.sessions.offers(now)
        deadline = now + self.settings.connect_timeout
        try:
            return await self._connect_once(self.settings.connect_timeout)
        except DialError as error:
            if not resumes or error.reason is not reasons.UPSTREAM_TLS_FAILED:
                raise
        now = self.runtime.now()
        self.sessions.suspend(now)
        return await self._connect_once(max(0.0, deadline - now))

    async def _connect_once(self, seconds: float) -> PooledConnection:
        settings = self.dial_settings
        if settings.protocol == HTTP_3:
            return await dial_http3(settings, self._resolve, partial(QuicConnection, self), seconds)
        connection = TcpConnection(self)
        session = connection.resumption.session
        await dial(settings, self._resolve, self.runtime, lambda: connection, seconds, session)
        return connection

    async def _dial(self) -> None:
        try:
            connection = await self._connect()
        except DialError as error:
            self._dialling -= 1
            self._on_dial_failed(error)
            return
        except Exception as error:
            # A defect; those who wait are told, and the next one dials again.
            logger.exception("a dial failed")
            self._dialling -= 1
            self._on_dial_failed(DialError(reasons.CONNECT_FAILED, repr(error)))
            return
        self._dialling -= 1
        self._expected_streams = connection.expected_streams
        if connection.is_open:
            self.on_room(connection)
        if not self._waiting:
            return
        if connection.served or (connection.is_open and connection.session.reusable):
            self._grow()
        else:
            self._on_dial_failed(self._useless("closed its connection at once"))

    def _on_dial_failed(self, error: DialError) -> None:
        """Tell those who can no longer be served by a dial under way."""
        logger.info("cannot connect: %s", error.detail)
        served = self._dialling * (self._expected_streams or 1)
        # Whoever comes while these are told waits for another dial.
        failed = [self._waiting.popleft() for _ in range(len(self._waiting) - served)]
        for caller in failed:
            caller.on_connect_failed(error.reason, error.detail)
