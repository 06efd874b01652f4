"""HTTP/2 and HTTP/1.1 over TLS: accepting connections."""

import asyncio
import errno
import itertools
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.timers import Timer
from spooky.edge.closings import Closings
from spooky.edge.glitches import GlitchBook
from spooky.edge.hello import peek_client_hello
from spooky.edge.limits import ConnectionCap, ConnectionRate
from spooky.edge.proxy_headers import take_proxy_header
from spooky.edge.tcp_connection import TcpConnection
from spooky.edge.tcp_settings import TcpSettings
from spooky.edge.turning_away import ARRIVAL_SECONDS, is_turned_away, turn_away
from spooky.generation.tcp_contexts import TcpContexts
from spooky.observe.counters import Counters
from spooky.overload.largest import Held
from spooky.overload.manager import Action, Measures, action_slots
from spooky.protocol.client_hello import (
    ALERT_NO_APPLICATION_PROTOCOL,
    ALERT_UNRECOGNIZED_NAME,
    RECORD_HEADER_BYTES,
    RECORD_MAX_BYTES,
    alert,
)
from spooky.protocol.proxy_header import ProxyHeaderError
from spooky.request.client_address import Place, TrustedProxies
from spooky.request.service import RequestService
from spooky.runtime import Runtime

logger = logging.getLogger(__name__)

TCP_BACKLOG: Final = 4096
"""Connections the kernel keeps until they are accepted; it caps this at net.core.somaxconn."""

ACCEPTS_PER_TURN: Final = 64
"""Connections accepted in one turn of the loop, so that a flood leaves time for the others."""

PROTOCOLS: Final = frozenset({b"h2", b"http/1.1"})
"""What is spoken here, as ALPN names it."""


class TcpListener:
    """A listening TCP socket and the connections that came through it.

    Arguments:
        runtime: The worker's.
        listening: A bound, non-blocking socket; ours to close.
        settings: For new connections; may be replaced at any time.
        service: Where requests go.
        cap: How many connections there may be.
        rate: How fast they may come.
        counters: The worker's slots.
        overload: What is done against overload.

    Raises:
        OSError: It cannot listen.
    """

    def __init__(
        self,
        runtime: Runtime,
        listening: socket.socket,
        settings: TcpSettings,
        service: RequestService,
        cap: ConnectionCap,
        rate: ConnectionRate,
        counters: Counters,
        overload: Measures,
    ) -> None:
        self.settings = settings
        self._overload = overload
        self._glitches = GlitchBook(counters, overload, "tcp")
        self._closings = Closings(counters, "tcp")
        self._actions = action_slots(counters)
        self._runtime = runtime
        self._socket: socket.socket | None = None
        # Those that it was before, until nobody can be on the way to them any more.
        self._arriving: dict[socket.socket, Timer] = {}
        self._service = service
        self._cap = cap
        self._rate = rate
        self._values = counters.values
        self._refused = counters.reason_slots("connections_refused_total")
        self._accepted = counters.slot("connections_total", {"transport": "tcp"})
        self._failed = counters.slot("handshakes_failed_total", {"transport": "tcp"})
        self._handshake_time = counters.histogram(
            "handshake_duration_seconds", {"transport": "tcp"}
        )
        alpn = "downstream_tls_alpn_total"
        self._agreed = [counters.slot(alpn, {"protocol": name}) for name in ("h2", "http/1.1")]
        self._connections: set[TcpConnection] = set()
        self._handshakes = 0
        self._is_patient = False
        self._listen(listening)

    def _listen(self, listening: socket.socket) -> None:
        # All workers say so to the socket that they share; it begins with the first.
        listening.listen(TCP_BACKLOG)
        self._socket = listening
        self._runtime.loop.add_reader(listening.fileno(), self._on_acceptable, listening)

    @property
    def active(self) -> int:
        """How many connections there are, handshakes under way included."""
        return len(self._connections) + self._handshakes

    def accept_again(self, listening: socket.socket) -> None:
        """Accept connections from another socket; those that were told to finish do so.

        Raises:
            OSError: It cannot listen.
        """
        self.stop_accepting()
        self._is_patient = False
        self._listen(listening)

    @property
    def awaits_arrivals(self) -> bool:
        """Whether it accepts those who were let in before it stopped."""
        return bool(self._arriving)

    def turn_away(self) -> None:
        """Have the kernel let nobody in any more, in whatever processes have the socket."""
        if self._socket is not None and not turn_away(self._socket):
            # They would be reset.
            self._accept_waiting(self._socket)

    def stop_accepting(self) -> None:
        """Accept no new clients; connections stay.

        Where the kernel turned them away, those whom it let in before are accepted for a while.
        """
        listening, self._socket = self._socket, None
        if listening is None:
            return
        if not is_turned_away(listening):
            self._close(listening)
            return

        def end() -> None:
            self._accept_waiting(listening)
            self._close(listening)

        due = self._runtime.now() + ARRIVAL_SECONDS
        self._arriving[listening] = self._runtime.schedule(due, end)
        # Also if what is removed is cut at once.
        self._accept_waiting(listening)

    def _accept_waiting(self, listening: socket.socket) -> None:
        """Accept what the kernel has queued."""
        for _ in range(TCP_BACKLOG):
            if not self._accept(listening):
                return

    def _close(self, listening: socket.socket) -> None:
        """Close a listening socket, if it is not yet."""
        if listening is self._socket:
            self._socket = None
        arriving = self._arriving.pop(listening, None)
        if arriving is not None:
            arriving.cancel()
        if listening.fileno() >= 0:
            self._runtime.loop.remove_reader(listening.fileno())
            listening.close()

    def _close_arriving(self) -> None:
        for listening in list(self._arriving):
            self._close(listening)

    def shutdown(self, *, patient: bool = False) -> None:
        """Let every connection finish gracefully.

        Arguments:
            patient: Whether nobody waits for it.
        """
        self._is_patient = patient
        for connection in list(self._connections):
            connection.shutdown(patient=patient)

    def hasten(self) -> None:
        """Have less patience with those that were told to finish."""
        self._is_patient = False
        for connection in list(self._connections):
            connection.hasten()

    def close_idle(self, share: float, maximum: int) -> int:
        """Close connections that have been idle for a share of their timeout.

        Arguments:
            share: Which.
            maximum: How many to close at most.

        Returns:
            How many were.
        """
        now = self._runtime.now()
        idle = (each for each in self._connections if each.is_idle(now, share))
        chosen = list(itertools.islice(idle, maximum))
        for connection in chosen:
            connection.close_idle()
        return len(chosen)

    def held(self) -> Iterator[Held]:
        """Yield what streams hold in memory."""
        for connection in self._connections:
            yield from connection.held()

    def terminate(self, reason: Reason) -> None:
        """Close every connection now, and accept no other."""
        self._close_arriving()
        for connection in list(self._connections):
            connection.terminate(reason)

    def abort(self) -> None:
        """Drop every connection, and accept no other."""
        self._close_arriving()
        for connection in list(self._connections):
            connection.abort()

    def _on_acceptable(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if not self._accept(listening):
                return

    def _accept(self, listening: socket.socket) -> bool:
        """Accept one connection; return whether there may be another."""
        if listening.fileno() < 0:
            return False
        try:
            accepted, peer = listening.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EINVAL:
                # The supervisor has shut it: what says so is in force, and seen in a moment.
                self._close(listening)
                return False
            # Out of descriptors, or the client was gone already: try again next turn.
            logger.warning("cannot accept a connection: %s", error)
            return False
        self._take(accepted, peer)
        return True

    def _take(self, accepted: socket.socket, peer: tuple[str, int]) -> None:
        """Start TLS on a connection, or refuse it."""
        if self.settings.sources.action(peer[0]) == "drop":
            self._count_refusal(reasons.SOURCE_DROPPED)
            accepted.close()
            return
        if self._overload.refuses_connections:
            self._count_action(Action.REFUSE_CONNECTIONS)
            self._count_refusal(reasons.OVERLOAD_REFUSED)
            accepted.close()
            return
        refused = self._admit(peer)
        if refused is not None:
            self._count_refusal(refused)
            accepted.close()
            return
        self._values[self._accepted] += 1
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._handshakes += 1
        self._runtime.start_task(self._handshake(accepted, peer))

    def _admit(self, peer: tuple[str, int]) -> Reason | None:
        """Take a place for a connection; return why there is none, or ``None``.

        Those of trusted proxies count against the rate of their client's address, once it is known.
        """
        proxies = self.settings.established.proxies
        if proxies.refuses(peer[0]):
            return reasons.PROXY_HEADER_UNTRUSTED
        refused = self._cap.open()
        if refused is None and not proxies.expects_header(peer[0]):
            refused = self._admit_client(peer[0], proxies)
            if refused is not None:
                self._cap.closed(was_established=False)
        return refused

    async def _handshake(self, accepted: socket.socket, peer: tuple[str, int]) -> None:
        settings = self.settings
        established, began = False, self._runtime.now()
        try:
            async with asyncio.timeout(settings.handshake_timeout):
                client = await self._client_of(accepted, peer[:2], settings.established.proxies)
                if client is None:
                    return
                context = await self._choose_context(accepted, settings.tls)
                if context is None:
                    return
                connection = TcpConnection(
                    self._runtime,
                    settings,
                    self._service,
                    client,
                    self._on_gone,
                    self._overload,
                    self._count_told_to_end,
                    self._glitches,
                    self,
                )
                await self._runtime.loop.connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=context,
                    ssl_handshake_timeout=settings.handshake_timeout,
                )
            established = True
        except TimeoutError:
            self._count_refusal(reasons.HANDSHAKE_TIMEOUT)
        except ProxyHeaderError as error:
            logger.debug("from %s: %s", peer[0], error)
            self._count_refusal(reasons.PROXY_HEADER_INVALID)
        except OSError as error:
            # ssl.SSLError is an OSError: the client's failure, not ours.
            logger.debug("TLS handshake with %s failed: %s", peer[0], error)
            self._count_refusal(reasons.HANDSHAKE_FAILED)
        finally:
            self._handshakes -= 1
            if not established:
                accepted.close()
                self._cap.closed(was_established=False)
                self._values[self._failed] += 1
        if not established:
            return
        self._handshake_time.observe(self._runtime.now() - began)
        self._values[self._agreed[connection.speaks_http1]] += 1
        self._cap.established()
        if connection.transport is None:
            self._cap.closed(was_established=True)
            return
        self._connections.add(connection)
        if self._socket is None:
            connection.shutdown(patient=self._is_patient)

    async def _client_of(
        self, accepted: socket.socket, peer: Place, proxies: TrustedProxies
    ) -> Place | None:
        """Return where the client is, by the PROXY header if one is expected.

        Returns:
            ``None`` if connections come from there too fast, or were odd too often.
        """
        if not proxies.expects_header(peer[0]):
            return peer
        client = await take_proxy_header(self._runtime.loop, accepted, peer)
        refused = self._admit_client(client[0], proxies)
        if refused is not None:
            self._count_refusal(refused)
            return None
        return client

    def _admit_client(self, address: str, proxies: TrustedProxies) -> Reason | None:
        """Count a connection of a client; return why it is refused, or ``None``."""
        now = self._runtime.now()
        if self._glitches.refuses(self.settings.established.glitches, proxies, address, now):
            return reasons.CLIENT_GLITCHES
        return self._rate.admit(address, now)

    async def _choose_context(
        self, accepted: socket.socket, contexts: TcpContexts
    ) -> ssl.SSLContext | None:
        """Return the context that a client's hello asks for.

        Returns:
            ``None`` if the client was refused, with the alerts that the TLS library does not send:
            for the name, and for the protocols.
        """
        hello = await peek_client_hello(self._runtime.loop, accepted)
        if hello is None:
            return contexts.default
        context = contexts.select(hello.server_name)
        if context is None:
            description = ALERT_UNRECOGNIZED_NAME
        elif hello.protocols is not None and not PROTOCOLS.intersection(hello.protocols):
            description = ALERT_NO_APPLICATION_PROTOCOL
        else:
            return context
        self._count_refusal(reasons.HANDSHAKE_FAILED)
        # Closing with unread bytes would reset the connection, which may overtake the alert.
        accepted.recv(RECORD_HEADER_BYTES + RECORD_MAX_BYTES)
        accepted.send(alert(description))
        return None

    def _count_told_to_end(self) -> None:
        self._count_action(Action.STOP_KEEP_ALIVE)

    def _count_action(self, action: Action) -> None:
        self._values[self._actions[action]] += 1

    def _count_refusal(self, reason: Reason) -> None:
        self._values[self._refused[reason.index]] += 1

    def _on_gone(self, connection: TcpConnection) -> None:
        """Forget a connection; one that is gone before its handshake was counted is not here."""
        self._closings.count(connection.session.close_reason)
        if connection in self._connections:
            self._connections.remove(connection)
            self._cap.closed(was_established=True)
