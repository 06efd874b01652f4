"""Who owns an HTTP/3 session; what both roles of one share is in ``_core/pure/h3_session.py``."""

from typing import Protocol

from spooky._core.reasons import Reason
from spooky.protocol.quic.session import Close, Handshake


class ConnectionOwner(Protocol):
    """Who owns the connection: the edge, or a pool."""

    def on_established(self, handshake: Handshake) -> None:
        """Learn that the handshake completed."""

    def on_connection_id_issued(self, connection_id: bytes) -> None:
        """Route packets with this destination connection ID here from now on."""

    def on_connection_id_retired(self, connection_id: bytes) -> None:
        """Stop routing packets with this destination connection ID here."""

    def on_closed(self, close: Close, reason: Reason) -> None:
        """Learn that the connection ended; streams still open were told before."""

    def wake(self) -> None:
        """Call ``settle``, then ``flush`` of the QUIC session, at the end of this turn.

        Idempotent and cheap; also called when capacity may have changed.
        """
