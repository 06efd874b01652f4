# cython: annotation_typing=False
"""How connections begin: what their first packets have to be, and what is asked of who sends them.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. What is said to clients
that have no connection is left to ``edge/quic.py``, whose class extends the one here.
"""

from abc import abstractmethod
from typing import Any

from spooky._core.arrivals import Rate
from spooky._core.dispatch import Listener, ReceivedDatagram
from spooky._core.packets import (
    CLIENT_CONNECTION_ID_MIN_LENGTH,
    INITIAL_DATAGRAM_MIN_SIZE,
    PacketHeader,
    initial_token,
)
from spooky._core.reasons import (
    ADDRESS_UNPROVEN,
    BAD_PACKET,
    CLIENT_GLITCHES,
    DRAINING,
    FLOOD_UNPROVEN,
    OVERLOAD_UNPROVEN,
    SOURCE_DROPPED,
    UNKNOWN_CONNECTION,
    Reason,
)

# C numbers, where those above are objects.
_CLIENT_CONNECTION_ID_MIN_LENGTH = CLIENT_CONNECTION_ID_MIN_LENGTH
_INITIAL_DATAGRAM_MIN_SIZE = INITIAL_DATAGRAM_MIN_SIZE


class OpeningListener(Listener):
    """A listener whose clients may begin connections.

    Arguments:
        runtime: The worker's.
        udp: See :class:`.dispatch.Listener`, as for what follows.
        descriptor: What the socket is to the event loop.
        counters: The worker's slots.
        handover: The ways to other workers; ``None`` if there are none.
        rate: How fast connections may begin.
        overload: What is done against overload, see ``overload/manager.py``.
        make_connection_id: Makes the connection IDs that clients may use.
        accepted: Which of the worker's numbers counts connections.

    Attributes:
        draining: Whether new connections are refused.
        overload: What is done against overload.
    """

    def __init__(
        self,
        runtime: Any,
        udp: Any,
        descriptor: int,
        counters: Any,
        handover: Any,
        rate: Rate,
        overload: Any,
        make_connection_id: Any,
        accepted: int,
    ) -> None:
        Listener.__init__(self, runtime, udp, descriptor, counters, handover)
        self.draining = False
        self.overload = overload
        self._rate = rate
        self._make_connection_id = make_connection_id
        self._accepted = accepted

    # --- what is left to the edge -------------------------------------------------------------

    @abstractmethod
    def _client_of(self, source: Any) -> Any:
        """Return where the client of a new connection is, or the reason why there is none."""

    @abstractmethod
    def _refuse(self, header: PacketHeader, token: bytes, source: Any) -> None:
        """Count a connection that is refused, and say so if that may be said."""

    @abstractmethod
    def _check_token(self, header: PacketHeader, token: bytes, source: Any) -> Any:
        """Return what a token proves; ``None`` for nothing, a reason if it must not be sent."""

    @abstractmethod
    def _send_retry(self, header: PacketHeader, source: Any, reason: Reason) -> None:
        """Have a client prove its address, and count why."""

    @abstractmethod
    def _is_flooded(self, header: PacketHeader, now: float) -> bool:
        """Count an attempt to begin; return whether there are too many."""

    @abstractmethod
    def _is_odd(self, client: Any, now: float) -> bool:
        """Return whether a client was too odd to be taken now."""

    @abstractmethod
    def _use(self, proof: Any) -> None:
        """Count a token as the beginning of a connection."""

    @abstractmethod
    def _connect(self, session: Any, client_initial_id: bytes, announced: Any) -> Any:
        """Return a connection with a session."""

    # --- beginning ----------------------------------------------------------------------------

    def _source_action(self, source: Any) -> Any:
        """Return what is done with connections from an address; ``None`` for nothing special."""
        return self.settings.sources.action(source[0])

    def _is_dropped(self, source: Any) -> bool:
        """Count and drop what begins a connection from where none may come."""
        if self._source_action(source) == "drop":
            self._count(SOURCE_DROPPED)
            return True
        return False

    def _begin(self, datagram: ReceivedDatagram, header: PacketHeader, now: float) -> Any:
        """Begin a connection with its first Initial, or refuse to."""
        payload, source, _ = datagram
        if len(payload) < _INITIAL_DATAGRAM_MIN_SIZE:
            self._count(BAD_PACKET)
            return None
        client = self._client_of(source)
        if isinstance(client, Reason):
            self._count(client)
            return None
        if header.version not in self.settings.parameters.versions:
            self._negotiate_version(header, source)
            return None
        if not header.is_initial:
            self._count(UNKNOWN_CONNECTION)
            return None
        token = initial_token(payload)
        if (
            token is None
            or len(header.destination_connection_id) < _CLIENT_CONNECTION_ID_MIN_LENGTH
        ):
            self._count(BAD_PACKET)
            return None
        if self.draining:
            self._count(DRAINING)
            return None
        if self.overload.refuses_connections:
            self._refuse(header, token, source)
            return None
        proof = self._check_token(header, token, source) if len(token) > 0 else None
        if isinstance(proof, Reason):
            self._count(proof)
            return None
        if proof is None:
            unproven = self._must_prove(header, source, now)
            if unproven is not None:
                self._send_retry(header, source, unproven)
                return None
        refused = self._admit(client, now)
        if refused is not None:
            self._count(refused)
            return None
        try:
            connection = self._accept(header, source, client, proof, now)
        except Exception:
            self.cap.closed(False)
            raise
        self._connections.add(connection)
        self._counts[self._accepted] += 1
        connection.start()
        return connection

    @abstractmethod
    def _negotiate_version(self, header: PacketHeader, source: Any) -> None:
        """Answer a packet of a version that is not spoken."""

    def _must_prove(self, header: PacketHeader, source: Any, now: float) -> Reason | None:
        """Return why a client without a token has to prove its address, if it has to."""
        retry = self.settings.address.retry
        flooded = retry == "auto" and self._is_flooded(header, now)
        action = self._source_action(source)
        if action == "allow":
            return None
        if retry == "always" or action == "retry":
            return ADDRESS_UNPROVEN
        if self.overload.proves_addresses:
            return OVERLOAD_UNPROVEN
        return FLOOD_UNPROVEN if flooded else None

    def _admit(self, client: Any, now: float) -> Reason | None:
        """Take a place for a new connection; return why there is none, or ``None``."""
        if self._is_odd(client, now):
            return CLIENT_GLITCHES
        refused = self.cap.open()
        if refused is None:
            refused = self._rate.admit(client[0], now)
            if refused is not None:
                self.cap.closed(False)
        return refused

    def _accept(
        self, header: PacketHeader, source: Any, client: Any, proof: Any, now: float
    ) -> Any:
        """Make a connection that has its place."""
        destination = header.destination_connection_id
        original = retry_source = announced = None
        if proof is not None:
            self._use(proof)
            original = proof.original_destination_connection_id
        if original is not None:
            # The client addresses what follows a Retry to where that came from.
            retry_source = destination
        settings = self.settings
        session = settings.engine.server_session(
            settings.parameters,
            header,
            source,
            now,
            self._make_connection_id,
            original,
            retry_source,
            proof is not None,
        )
        if settings.established.proxies.expects_header(source[0]):
            announced = client
        return self._connect(session, destination, announced)
