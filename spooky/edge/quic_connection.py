"""One QUIC connection of a client: its sessions, its timers and its connection IDs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from spooky._core import dispatch, reasons
from spooky._core.reasons import Reason
from spooky._core.terms import Client
from spooky._core.timers import Timer
from spooky._core.validate import HTTP_3
from spooky.edge.glitches import BROKEN, GlitchAccount, Verdict
from spooky.edge.limits import address_text
from spooky.generation.authorities import ConnectionAuthority
from spooky.overload.largest import Held
from spooky.protocol.h3.server import ServerSession as Http3Session
from spooky.protocol.quic.session import Close, Handshake, QuicSession
from spooky.protocol.stream import Stream, StreamHandler
from spooky.request.client_address import Place
from spooky.request.largest import held_by_requests

if TYPE_CHECKING:
    from spooky.edge.quic import QuicListener

CLIENT_INITIAL_ID_SECONDS: Final = 3.0
"""How long packets with the ID a client first chose are taken after the handshake; they may be
late by some round trips (RFC 9000 section 7.2)."""

KEEP_ALIVES_PER_IDLE_TIMEOUT: Final = 3
"""How often in an idle timeout a connection with requests in flight is kept alive: one PING may be
lost, and the next still comes in time (RFC 9000 section 10.1.2)."""


class QuicConnection(dispatch.Connection):
    """Joins a QUIC session, its HTTP/3 session and the listener's socket.

    Arguments:
        listener: The listener it came through.
        session: The QUIC session.
        client_initial_id: The destination connection ID the client chose for its first packets.
        announced: Where a trusted proxy says that the client is, if one passes it on.

    Attributes:
        established: Whether the handshake is complete.
    """

    # No dictionary: each call of a kernel would have to look there for other methods.
    __slots__ = (
        "_announced",
        "_client",
        "_client_initial_id",
        "_counted_packets",
        "_glitches",
        "_handshake_timer",
        "_keep_alive_timer",
        "_peer",
        "_settings",
    )

    _listener: "QuicListener"

    def __init__(
        self,
        listener: "QuicListener",
        session: QuicSession,
        client_initial_id: bytes,
        announced: Place | None = None,
    ) -> None:
        super().__init__(listener, session)
        self._settings = listener.settings
        self._client_initial_id = client_initial_id
        self._http3 = Http3Session(session, self._on_stream, self._settings.http3, self)
        self._counted_packets = (0, 0, 0)
        # The handshake's, not the one in use: that may be a spoofed one, not proven yet.
        self._announced = announced
        self._peer: Place = announced or session.peer[:2]
        # Made for the first request.
        self._client: Client | None = None
        self._handshake_timer: Timer | None = None
        self._keep_alive_timer: Timer | None = None
        # Made for the first oddity.
        self._glitches: GlitchAccount | None = None

    def start(self) -> None:
        """Take packets with the ID the client chose, and limit the handshake's time."""
        self.on_connection_id_issued(self._client_initial_id)
        deadline = self._runtime.now() + self._settings.handshake_timeout
        self._handshake_timer = self._runtime.schedule(deadline, self._on_handshake_timer)

    def _account(self) -> GlitchAccount:
        if self._glitches is None:
            settings, address = self._settings, self._peer[0]
            is_shared = settings.proxies.trusts(address)
            self._glitches = GlitchAccount(
                self._listener.glitches, settings.glitches, address, is_shared
            )
        return self._glitches

    def _judge(self, now: float) -> None:
        """End what was too odd."""
        total, account = self._http3.budget.glitches, self._account()
        if total == account.seen:
            return
        verdict = account.see(total, now)
        if verdict is Verdict.CLOSE:
            self.terminate(reasons.CLIENT_GLITCHES)
        elif verdict is Verdict.GOAWAY and not self._shutting_down:
            self.shutdown()

    def is_idle(self, now: float, share: float) -> bool:
        """Return whether it has been idle for a share of its timeout."""
        return (
            self.established
            and not self._forgotten
            and not self._http3.active_streams
            and now - self._last_received >= share * self._settings.parameters.idle_timeout
        )

    def held(self) -> Iterator[Held]:
        """Yield what its streams hold in memory."""
        if self.established and not self._forgotten:
            yield from held_by_requests(self._http3.holdings())

    def shutdown(self) -> None:
        """Send GOAWAY, and close when the last stream has ended (RFC 9114 section 5.2)."""
        self._shutting_down = True
        self._http3.shutdown()
        self.wake()

    def terminate(self, reason: Reason) -> None:
        """Close now; streams still open end with ``reason``."""
        self._http3.terminate(reason)
        self.wake()

    def forget(self) -> None:
        """Let go of everything; nothing more is sent or received."""
        if self._forgotten:
            return
        self._forgotten = True
        for connection_id in self._connection_ids:
            self._listener.unroute(connection_id)
        self._connection_ids.clear()
        self._cancel_timer()
        for timer in (self._handshake_timer, self._keep_alive_timer):
            if timer is not None:
                timer.cancel()
        self._measure()
        # It has us as its owner: without this only the collector would free both.
        self._http3 = None
        self._listener.forget(self, self.established)

    # --- the session's upcalls ----------------------------------------------------------------

    def on_established(self, handshake: Handshake) -> None:
        """Count the handshake as complete; it may have moved the client's address."""
        self.established = True
        self._listener.cap.established()
        self._listener.measures.established(self._runtime.now() - self._began)
        self._client = None
        self._peer = self._announced or self._quic.peer[:2]
        if handshake.early_data is not None:
            self._listener.count_early_data(handshake.early_data)
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
        deadline = self._runtime.now() + CLIENT_INITIAL_ID_SECONDS
        self._handshake_timer = self._runtime.schedule(deadline, self._on_handshake_timer)
        self._schedule_keep_alive()
        if self._listener.draining:
            self.shutdown()

    def on_closed(self, close: Close, reason: Reason) -> None:
        """Send what the session still has to say; it is forgotten when it says it is over."""
        # Before the handshake's end the address may be somebody else's.
        if self.established and reason in BROKEN:
            self._account().ended(reason, self._runtime.now())
        self.wake()

    # --- timers -------------------------------------------------------------------------------

    def _schedule_keep_alive(self) -> None:
        idle_timeout = self._settings.parameters.idle_timeout
        deadline = self._runtime.now() + idle_timeout / KEEP_ALIVES_PER_IDLE_TIMEOUT
        self._keep_alive_timer = self._runtime.schedule(deadline, self._on_keep_alive_timer)

    def _on_keep_alive_timer(self) -> None:
        """Keep a connection whose requests are silent: a client may wait for a rare event."""
        if self._http3.active_streams:
            self._quic.ping()
            self.wake()
        self._measure()
        self._schedule_keep_alive()

    def _measure(self) -> None:
        """Count what the transport knows of its path; now and then, and at the end."""
        statistics = self._quic.statistics() if self.established else None
        if statistics is not None:
            self._counted_packets = self._listener.measures.count(statistics, self._counted_packets)

    def _on_handshake_timer(self) -> None:
        """Close what never became a connection; else stop taking the client's first ID."""
        self._handshake_timer = None
        if self.established:
            self.on_connection_id_retired(self._client_initial_id)
        else:
            self.terminate(reasons.HANDSHAKE_TIMEOUT)

    def _end_after_request(self) -> None:
        """Have the client bring its next requests over another connection."""
        if not self._forgotten and not self._shutting_down:
            self._listener.count_told_to_end()
            self.shutdown()

    def _on_stream(self, stream: Stream) -> StreamHandler:
        if self._client is None:
            self._client = self._make_client()
        if self._listener.overload.stops_keep_alive:
            # Later: a session is not told anything within its own upcall.
            self._runtime.loop.call_soon(self._end_after_request)
        handler: StreamHandler = self._listener.service.accept(stream, self._client)
        return handler

    def _make_client(self) -> Client:
        address, port = self._peer
        text = address_text(address)
        return Client(
            text,
            port,
            HTTP_3,
            self._client_initial_id,
            (),
            text,
            is_early=not self.established,
            proxies=self._settings.proxies.speaks_for(address),
            covered=self._covered(),
        )

    def _covered(self) -> ConnectionAuthority | None:
        """Return the hosts that the connection is good for; ``None`` for all."""
        handshake = self._settings.authorities.handshake_by_name(self._quic.server_name)
        if handshake is None:
            return None
        return ConnectionAuthority(handshake, self._listener.authorities)
