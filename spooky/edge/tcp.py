"""HTTP/2 and HTTP/1.1 over TLS: accepting connections, and one connection."""

import asyncio
import datetime
import itertools
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.terms import Client
from spooky._core.timers import Timer
from spooky._core.validate import HTTP_1, HTTP_2
from spooky.edge.glitches import GlitchAccount, GlitchBook, Verdict
from spooky.edge.hello import peek_client_hello
from spooky.edge.limits import ConnectionCap, ConnectionRate, address_text
from spooky.edge.proxy_headers import take_proxy_header
from spooky.edge.tcp_settings import TcpSettings
from spooky.generation.authorities import Authorities, ConnectionAuthority
from spooky.generation.tcp_contexts import ServerTls, TcpContexts, is_client_still_accepted
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
from spooky.protocol.h1.server import ServerSession as Http1Session
from spooky.protocol.h2.server import ServerSession as Http2Session
from spooky.protocol.proxy_header import ProxyHeaderError
from spooky.protocol.quic.certificates import ServerIdentity
from spooky.protocol.stream import Stream, StreamHandler
from spooky.request.client_address import Place, TrustedProxies
from spooky.request.largest import held_by_requests
from spooky.request.service import RequestService
from spooky.runtime import Runtime
from spooky.runtime.byte_transport import ByteTransport

logger = logging.getLogger(__name__)

TCP_BACKLOG: Final = 4096
"""Connections the kernel keeps until they are accepted; it caps this at net.core.somaxconn."""

ACCEPTS_PER_TURN: Final = 64
"""Connections accepted in one turn of the loop, so that a flood leaves time for the others."""

PROTOCOLS: Final = frozenset({b"h2", b"http/1.1"})
"""What is spoken here, as ALPN names it."""

CLOSE_GRACE_SECONDS: Final = 5.0
"""How long an idle connection that was told to close may take before it is cut."""

LAST_REQUEST_SECONDS: Final = 0.5
"""How long an HTTP/1.1 connection that shall end may bring one more request. Only its response can
say so; a request that crosses a sudden close would be lost."""


class TcpConnection(ByteTransport):
    """One client connection over TLS.

    Arguments:
        runtime: The worker's.
        settings: The listener's.
        service: Where requests go.
        client: The client's address and port.
        on_gone: Called when the connection is gone.
        overload: What is done against overload.
        on_told_to_end: Called when it is to end after its request because of that.
        glitches: Where it has an account of its oddities.
        authorities: Returns what may be asked for over connections of the listener now.
    """

    lost_reason = reasons.CLIENT_CONNECTION_LOST

    def __init__(
        self,
        runtime: Runtime,
        settings: TcpSettings,
        service: RequestService,
        client: Place,
        on_gone: Callable[["TcpConnection"], None],
        overload: Measures,
        on_told_to_end: Callable[[], None],
        glitches: GlitchBook,
        authorities: Callable[[], Authorities],
    ) -> None:
        super().__init__(runtime)
        self._authorities = authorities
        self._overload = overload
        self._on_told_to_end = on_told_to_end
        self._settings = settings
        self._service = service
        self._peer = client
        self._on_gone = on_gone
        self._client: Client
        self.speaks_http1 = False
        self._head_timer: Timer | None = None
        self._idle_timer: Timer | None = None
        self._last_timer: Timer | None = None
        self._last_active = runtime.now()
        self._told_to_close = False
        self._glitches = GlitchAccount(
            glitches, settings.glitches, client[0], settings.proxies.trusts(client[0])
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak what ALPN chose; the handshake is complete by now."""
        tls = transport.get_extra_info("ssl_object")
        agreed = tls.selected_alpn_protocol()
        settings = self._settings
        identity = settings.tls.identity(tls.context)
        self.speaks_http1 = agreed != "h2"
        version = HTTP_1 if self.speaks_http1 else HTTP_2
        address = address_text(self._peer[0])
        self._client = Client(
            address,
            self._peer[1],
            version,
            b"",
            settings.response_fields,
            address,
            proxies=settings.proxies.speaks_for(self._peer[0]),
            covered=self._covered(identity, tls),
        )
        if self.speaks_http1:
            self.session = Http1Session(
                self._on_stream,
                self.wake,
                limits=settings.http1,
                answer_fields=settings.response_fields,
            )
        else:
            self.session = Http2Session(self._on_stream, self.wake, limits=settings.http2)
        now = datetime.datetime.now(datetime.UTC)
        verifier = None if identity is None else identity.client_verifier
        if not is_client_still_accepted(tls, verifier, now):
            self.terminate(reasons.CLIENT_CERTIFICATE_INVALID)
        self._schedule_idle(settings.idle_timeout)
        super().connection_made(transport)

    def _covered(
        self, identity: ServerIdentity | None, tls: ssl.SSLObject
    ) -> ConnectionAuthority | None:
        """Return the hosts that the connection is good for; ``None`` for all."""
        handshake = self._settings.authorities.handshake(
            identity,
            has_server_name=isinstance(tls, ServerTls) and tls.has_server_name,
        )
        return None if handshake is None else ConnectionAuthority(handshake, self._authorities)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.speaks_http1:
            self._judge()
        if self.speaks_http1 and self.session.active_streams == 0 and self._head_timer is None:
            deadline = self.runtime.now() + self._settings.head_timeout
            self._head_timer = self.runtime.schedule(deadline, self._on_head_timeout)

    def _judge(self) -> None:
        """End what was too odd."""
        assert isinstance(self.session, Http2Session)
        if self.session.glitches == self._glitches.seen:
            return
        verdict = self._glitches.see(self.session.glitches, self.runtime.now())
        if verdict is Verdict.CLOSE:
            self.terminate(reasons.CLIENT_GLITCHES)
        elif verdict is Verdict.GOAWAY and not self._told_to_close:
            self.shutdown()

    def on_progress(self) -> None:
        if self.session.active_streams:
            self._last_active = self.runtime.now()

    def end(self) -> None:
        """Close; by a reset where an orderly close would pass a cut response off as complete."""
        if isinstance(self.session, Http1Session) and self.session.truncated:
            self.abort()
        else:
            super().end()

    def on_closed(self) -> None:
        self._glitches.ended(self.session.close_reason, self.runtime.now())
        for timer in (self._head_timer, self._idle_timer, self._last_timer):
            if timer is not None:
                timer.cancel()
        self._on_gone(self)

    def shutdown(self) -> None:
        """Finish gracefully."""
        self._told_to_close = True
        if isinstance(self.session, Http1Session):
            self.session.stop_reuse()
            self._last_active = self.runtime.now()
            self._wait_for_last_request()
        else:
            self.session.shutdown()
            self.wake()

    def terminate(self, reason: Reason) -> None:
        """Close now, as far as the peer lets us."""
        self.session.terminate(reason)
        self.wake()

    def is_idle(self, now: float, share: float) -> bool:
        """Return whether it has been idle for a share of its timeout."""
        return (
            not self._told_to_close
            and self.session.active_streams == 0
            and self._head_timer is None
            and now - self._last_active >= share * self._settings.idle_timeout
        )

    def close_idle(self) -> None:
        """Close kindly, as after its idle timeout."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self.shutdown()
        self._schedule_idle(CLOSE_GRACE_SECONDS)

    def held(self) -> Iterator[Held]:
        """Yield what its streams hold in memory; that of HTTP/1.1 all that waits to be written."""
        if self.transport is None:
            return
        if isinstance(self.session, Http2Session):
            yield from held_by_requests(self.session.holdings())
            return
        assert isinstance(self.session, Http1Session)
        unwritten = self.transport.get_write_buffer_size()
        for size, reset in held_by_requests(self.session.holdings()):
            yield Held(size + unwritten, reset if self.session.active_streams else self.abort)

    def _end_after_request(self) -> None:
        """Have the client bring its next requests over another connection."""
        if not self._told_to_close:
            self._on_told_to_end()
            self.shutdown()

    def _on_stream(self, stream: Stream) -> StreamHandler:
        self._last_active = self.runtime.now()
        if self._overload.stops_keep_alive:
            if isinstance(self.session, Http1Session):
                # Before the response that has to say so.
                self._end_after_request()
            else:
                # Later: a session is not told anything within its own upcall.
                self.runtime.loop.call_soon(self._end_after_request)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        handler: StreamHandler = self._service.accept(stream, self._client)
        return handler

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self.session.active_streams == 0:
            self.terminate(reasons.CLIENT_HEAD_TIMEOUT)

    def _wait_for_last_request(self) -> None:
        """Close when no request has come for long enough."""
        self._last_timer = None
        now = self.runtime.now()
        if self.session.active_streams or self._head_timer is not None:
            self._last_active = now
        deadline = self._last_active + LAST_REQUEST_SECONDS
        if now < deadline:
            self._last_timer = self.runtime.schedule(deadline, self._wait_for_last_request)
        else:
            self.session.shutdown()
            self.wake()

    def _schedule_idle(self, seconds: float) -> None:
        deadline = self.runtime.now() + seconds
        self._idle_timer = self.runtime.schedule(deadline, self._on_idle_check)

    def _on_idle_check(self) -> None:
        """Close a connection without requests: kindly at first, then for good."""
        timeout = self._settings.idle_timeout
        idle = self.runtime.now() - self._last_active
        if self.session.active_streams:
            self._schedule_idle(timeout)
        elif self._told_to_close:
            self.abort()
        elif idle < timeout:
            self._schedule_idle(timeout - idle)
        else:
            self.shutdown()
            self._schedule_idle(CLOSE_GRACE_SECONDS)


class TcpListener:
    """A listening TCP socket and the connections that came through it.

    Arguments:
        runtime: The worker's.
        listening: A bound, non-blocking socket; closed by :meth:`stop_accepting`.
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
        self._actions = action_slots(counters)
        self._runtime = runtime
        self._socket: socket.socket | None = listening
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
        # All workers say so to the socket that they share; it begins with the first.
        listening.listen(TCP_BACKLOG)
        runtime.loop.add_reader(listening.fileno(), self._on_acceptable)

    @property
    def active(self) -> int:
        """How many connections there are, handshakes under way included."""
        return len(self._connections) + self._handshakes

    def _authorities(self) -> Authorities:
        return self.settings.authorities

    def stop_accepting(self) -> None:
        """Close the listening socket; connections stay."""
        if self._socket is not None:
            self._runtime.loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def shutdown(self) -> None:
        """Let every connection finish gracefully."""
        for connection in list(self._connections):
            connection.shutdown()

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
        """Close every connection now."""
        for connection in list(self._connections):
            connection.terminate(reason)

    def abort(self) -> None:
        """Drop every connection."""
        for connection in list(self._connections):
            connection.abort()

    def _on_acceptable(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self._socket is None:
                return
            try:
                accepted, peer = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of descriptors, or the client was gone already: try again next turn.
                logger.warning("cannot accept a connection: %s", error)
                return
            self._take(accepted, peer)

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
        proxies = self.settings.proxies
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
                client = await self._client_of(accepted, peer[:2], settings.proxies)
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
                    self._authorities,
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
            connection.shutdown()

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
        if not proxies.trusts(address) and self._glitches.refuses(
            self.settings.glitches, address, now
        ):
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
        if connection in self._connections:
            self._connections.remove(connection)
            self._cap.closed(was_established=True)
