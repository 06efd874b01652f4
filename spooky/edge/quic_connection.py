"""One QUIC connection of a client: its sessions, its timers and its connection IDs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from spooky._core import reasons
from spooky._core.authority import ConnectionAuthority
from spooky._core.client_connection import ClientConnection
from spooky._core.reasons import Reason
from spooky._core.terms import Client
from spooky._core.validate import HTTP_3
from spooky.edge.glitches import BROKEN, GlitchAccount, Verdict
from spooky.edge.limits import address_text
from spooky.generation.authorities import Authorities
from spooky.generation.authorities import Handshake as ShownHandshake
from spooky.overload.largest import Held
from spooky.protocol.h3.server import ServerSession as Http3Session
from spooky.protocol.quic.session import Close, Handshake, QuicSession
from spooky.request.client_address import Place
from spooky.request.largest import held_by_requests

if TYPE_CHECKING:
    from spooky.edge.quic import QuicListener


class QuicConnection(ClientConnection):
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
        "_authorities",
        "_glitches",
        "_peer",
        "_settings",
        "_shown",
    )

    _listener: "QuicListener"

    def __init__(
        self,
        listener: "QuicListener",
        session: QuicSession,
        client_initial_id: bytes,
        announced: Place | None = None,
    ) -> None:
        settings = listener.settings
        self._settings = settings.established
        # Until the handshake is complete, and what it showed from then on.
        self._authorities: Authorities | None = settings.authorities
        self._shown: ShownHandshake | None = None
        super().__init__(
            listener,
            session,
            client_initial_id,
            settings.handshake_timeout,
            settings.established.idle_timeout,
        )
        self._http3 = Http3Session(session, self._on_stream, settings.http3, self)
        # The handshake's, not the one in use: that may be a spoofed one, not proven yet.
        self._announced = announced
        self._peer: Place = announced or session.peer[:2]
        # Made for the first oddity.
        self._glitches: GlitchAccount | None = None

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
            and now - self._last_received >= share * self._settings.idle_timeout
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

    # --- the session's upcalls ----------------------------------------------------------------

    def on_established(self, handshake: Handshake) -> None:
        """Count the handshake as complete; it may have moved the client's address."""
        self._establish()
        self._client = None
        self._shown, self._authorities = self._look_at_handshake(), None
        self._peer = self._announced or self._quic.peer[:2]
        if handshake.early_data is not None:
            self._listener.count_early_data(handshake.early_data)
        if self._listener.draining:
            self.shutdown()

    def on_closed(self, close: Close, reason: Reason) -> None:
        """Send what the session still has to say; it is forgotten when it says it is over."""
        self._listener.count_closed(reason, self.established)
        # Before the handshake's end the address may be somebody else's.
        if self.established and reason in BROKEN:
            self._account().ended(reason, self._runtime.now())
        self.wake()

    # --- requests -----------------------------------------------------------------------------

    def _end_after_request(self) -> None:
        """Have the client bring its next requests over another connection."""
        if not self._forgotten and not self._shutting_down:
            self._listener.count_told_to_end()
            self.shutdown()

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
        shown = self._look_at_handshake()
        return None if shown is None else ConnectionAuthority(shown, self._listener)

    def _look_at_handshake(self) -> ShownHandshake | None:
        """Return what the handshake showed; ``None`` if no certificate."""
        if self._authorities is None:
            return self._shown
        return self._authorities.handshake_by_name(self._quic.server_name)
