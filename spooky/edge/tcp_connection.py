"""One client connection over TLS: HTTP/2 or HTTP/1.1."""

import asyncio
import datetime
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from spooky._core import reasons
from spooky._core.authority import ConnectionAuthority
from spooky._core.reasons import Reason
from spooky._core.terms import Client
from spooky._core.timers import Timer
from spooky._core.validate import HTTP_1, HTTP_2
from spooky.edge.glitches import GlitchAccount, GlitchBook, Verdict
from spooky.edge.limits import address_text
from spooky.edge.tcp_settings import TcpSettings
from spooky.generation.authorities import Authorities
from spooky.generation.tcp_contexts import ServerTls, is_client_still_accepted
from spooky.overload.largest import Held
from spooky.overload.manager import Measures
from spooky.protocol.h1.server import ServerSession as Http1Session
from spooky.protocol.h2.server import ServerSession as Http2Session
from spooky.protocol.quic.certificates import ServerIdentity
from spooky.protocol.stream import Stream, StreamHandler
from spooky.request.client_address import Place
from spooky.request.largest import held_by_requests
from spooky.request.service import RequestService
from spooky.runtime import Runtime
from spooky.runtime.byte_transport import ByteTransport

if TYPE_CHECKING:
    from spooky.edge.tcp import TcpListener

CLOSE_GRACE_SECONDS: Final = 5.0
"""How long an idle connection that was told to close may take before it is cut."""

LAST_REQUEST_SECONDS: Final = 0.5
"""How long an HTTP/1.1 connection that shall end may bring one more request. Only its response can
say so; a request that crosses a sudden close would be lost."""

PATIENT_SECONDS: Final = 2.0
"""The same where nobody waits for the end, as others serve already: clients on a busy machine take
longer than half a second from one request to the next."""


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
        listener: Has what may be asked for over its connections now in its ``settings``.
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
        listener: "TcpListener",
    ) -> None:
        super().__init__(runtime)
        self._listener = listener
        self._overload = overload
        self._on_told_to_end = on_told_to_end
        self._settings = settings.established
        # Until the handshake is complete.
        self._handshake: TcpSettings | None = settings
        self._service = service
        self._peer = client
        self._on_gone = on_gone
        self._client: Client
        self.speaks_http1 = False
        self._head_timer: Timer | None = None
        self._idle_timer: Timer | None = None
        self._last_timer: Timer | None = None
        self._last_request_seconds = LAST_REQUEST_SECONDS
        self._last_active = runtime.now()
        self._told_to_close = False
        self._glitches = GlitchAccount(
            glitches,
            self._settings.glitches,
            client[0],
            self._settings.proxies.trusts(client[0]),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak what ALPN chose; the handshake is complete by now."""
        tls = transport.get_extra_info("ssl_object")
        agreed = tls.selected_alpn_protocol()
        settings, began_with = self._settings, self._handshake
        assert began_with is not None
        self._handshake = None
        identity = began_with.tls.identity(tls.context)
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
            covered=self._covered(began_with.authorities, identity, tls),
        )
        if self.speaks_http1:
            self.session = Http1Session(
                self._on_stream,
                self.carrier.wake,
                limits=settings.http1,
                answer_fields=settings.response_fields,
            )
        else:
            self.session = Http2Session(self._on_stream, self.carrier.wake, limits=settings.http2)
        self.session.unwritten = self.unwritten
        now = datetime.datetime.now(datetime.UTC)
        verifier = None if identity is None else identity.client_verifier
        if not is_client_still_accepted(tls, verifier, now):
            self.terminate(reasons.CLIENT_CERTIFICATE_INVALID)
        self._schedule_idle(settings.idle_timeout)
        super().connection_made(transport)

    def _covered(
        self, authorities: Authorities, identity: ServerIdentity | None, tls: ssl.SSLObject
    ) -> ConnectionAuthority | None:
        """Return the hosts that the connection is good for; ``None`` for all."""
        handshake = authorities.handshake(
            identity,
            has_server_name=isinstance(tls, ServerTls) and tls.has_server_name,
        )
        return None if handshake is None else ConnectionAuthority(handshake, self._listener)

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

    def shutdown(self, *, patient: bool = False) -> None:
        """Finish gracefully.

        Arguments:
            patient: Whether nobody waits for the end, so that a client of HTTP/1.1 has more time
                for the request whose response says so.
        """
        self._told_to_close = True
        if isinstance(self.session, Http1Session):
            self.session.stop_reuse()
            if patient:
                self._last_request_seconds = PATIENT_SECONDS
            self._last_active = self.runtime.now()
            self._wait_for_last_request()
        else:
            self.session.shutdown()
            self.wake()

    def hasten(self) -> None:
        """Have less patience from now on, if it was told to finish with more."""
        if self._last_timer is not None:
            self._last_request_seconds = LAST_REQUEST_SECONDS
            self._last_active = self.runtime.now()
            self._wait_for_last_request()

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
        if self._last_timer is not None:
            # It may not be due: whoever is told to end twice has one wait.
            self._last_timer.cancel()
            self._last_timer = None
        now = self.runtime.now()
        if self.session.active_streams or self._head_timer is not None:
            self._last_active = now
        deadline = self._last_active + self._last_request_seconds
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
        elif self._last_timer is not None:
            # Its last request may be on its way.
            self._schedule_idle(CLOSE_GRACE_SECONDS)
        elif self._told_to_close:
            self.abort()
        elif idle < timeout:
            self._schedule_idle(timeout - idle)
        else:
            self.shutdown()
            self._schedule_idle(CLOSE_GRACE_SECONDS)
