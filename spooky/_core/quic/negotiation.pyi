"""A server's answer to a client's hello: what is chosen of what the client offers."""

from typing import Any

from cryptography import x509

from spooky._core.quic.client_hello import ClientHello
from spooky._core.quic.handshake import ServerHandshake

CIPHER_SUITES: tuple[int, ...]
"""In our order."""

def sign(chain: Any, scheme: int, content: bytes) -> bytes:
    """Sign with a certificate's key, on either side.

    Arguments:
        chain: The certificate, with its key.
        scheme: One of those that fit it.
        content: What is signed.
    """

class ServerNegotiation(ServerHandshake):
    """A server's side as far as the rules of TLS alone decide.

    A subclass has ``_meet``, which sets ``_identity``, and what is not in every handshake:
    ``_resumable``, ``_begin_resumed``, ``_consider_early_data``, ``_exchange``, ``_give_ticket``.

    Arguments:
        parameters: Of the listener, see ``protocol/quic/parameters.py``.
        events: Who is told of secrets and of what the client said: ``TlsEvents``.

    Attributes:
        CERTIFICATE_REQUEST: What asks clients for a certificate.
    """

    CERTIFICATE_REQUEST: bytes

    _parameters: Any
    _client_chain: tuple[x509.Certificate, ...]
    _retried: bytes
    _identity: Any
    _tickets: Any

    def __init__(self, parameters: Any, events: Any) -> None: ...
    def _meet(self, server_name: str | None) -> None:
        """Set the name and the identity that a client meets by what it asks for.

        Raises:
            TlsAlert: There is none.
        """

    def _resumable(self, hello: ClientHello, cipher_suite: int) -> Any:
        """Return the session to resume, or ``None``."""

    def _begin_resumed(
        self, message: bytes, hello: ClientHello, cipher_suite: int, session: Any
    ) -> None:
        """Begin the key schedule of a session that is resumed."""

    def _consider_early_data(self, hello: ClientHello, session: Any) -> None:
        """Take the 0-RTT data that a client offers, or let it come to nothing."""

    def _group_to_ask(self, shares: list[tuple[int, bytes]], supported: tuple[int, ...]) -> int:
        """Return the group of ours to ask a share of, as there is none of X25519; 0 if there is
        another of ours.

        Raises:
            TlsAlert: There is no group in common.
        """

    def _exchange(self, shares: list[tuple[int, bytes]]) -> tuple[int, bytes, bytes]:
        """Answer key shares of which none is of X25519.

        Returns:
            The group chosen, our share, and the shared secret.
        """

    def _sign(self, content: bytes) -> bytes: ...
    def _give_ticket(self) -> None:
        """Give a ticket, as ``_tickets`` says that one may be given."""
