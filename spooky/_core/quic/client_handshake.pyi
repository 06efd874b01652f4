"""The ordinary course of a client's side of a TLS 1.3 handshake (RFC 8446)."""

from collections.abc import Mapping
from typing import Any

from cryptography import x509

from spooky._core.quic.handshake import NativeTls
from spooky._core.quic.key_schedule import KeySchedule

class ClientOffer:
    """What all hellos that are made with the same parameters have in common; kept for all of them.

    Arguments:
        cipher_suites: The preferred first.
        groups: Of the key exchange, the preferred first, of which a hello brings a share.
        schemes: With which a server may sign the handshake.
        protocols: Application protocols.
        extensions: Values of extensions that are always the same, by type.

    Raises:
        OverflowError: They are too long for a hello.
    """

    cipher_suites: tuple[int, ...]
    groups: tuple[int, ...]
    schemes: tuple[int, ...]

    def __init__(
        self,
        cipher_suites: tuple[int, ...],
        groups: tuple[int, ...],
        schemes: tuple[int, ...],
        protocols: tuple[str, ...],
        extensions: Mapping[int, bytes],
    ) -> None: ...

class ClientHandshake(NativeTls):
    """A client's side as far as the rules of TLS alone decide.

    A subclass has what is to be decided, or not in every handshake: ``_new_key``, ``_exchange``,
    ``_on_retry``, ``_on_early_data``, ``_on_chain``, ``_on_proof``, ``_present``, ``_keep_ticket``.

    Arguments:
        offer: What the hello says.
        parameters: How to connect, see ``protocol/quic/parameters.py``.
        server_name: What the server is asked for by.
        events: Who is told of secrets and of what the server said: ``TlsEvents``.
        judges: Whether the server's certificate is judged; else it is not even read.
        keeps_tickets: Whether tickets are.
    """

    _offer: ClientOffer
    _parameters: Any
    _requested_name: str
    _schedule: KeySchedule
    _expect: int
    _retried: bytes
    _group: int
    _ticket: Any
    _own_parameters: bytes
    _requested: tuple[int, ...] | None
    _chain: tuple[x509.Certificate, ...]
    _peer_parameters: bytes | None

    def __init__(
        self,
        offer: ClientOffer,
        parameters: Any,
        server_name: str,
        events: Any,
        judges: bool,
        keeps_tickets: bool,
    ) -> None: ...
    def _make_share(self, group: int) -> None:
        """Make the key whose share the hello brings."""

    def _say_hello(
        self,
        ticket: bytes | None,
        age: int,
        binding: KeySchedule | None,
        early_data: bool,
        cookie: bytes | None,
    ) -> None:
        """Say a hello.

        Arguments:
            ticket: Of the session to resume, if there is one.
            age: Of the ticket, obfuscated; milliseconds.
            binding: The key schedule of that session; it has the hello in its transcript then.
            early_data: Whether 0-RTT data follows.
            cookie: What a HelloRetryRequest said to repeat.
        """

    def _new_key(self, group: int) -> tuple[Any, bytes]:
        """Return a key of a group that is not X25519, and its share."""

    def _exchange(self, group: int, key: Any, peer: bytes) -> bytes:
        """Return the shared secret of such a key and the server's share.

        Raises:
            ValueError: It is none.
        """

    def _on_retry(self, cipher_suite: int, group: int, cookie: bytes | None) -> None:
        """Say another hello, as the server asks for one.

        Arguments:
            cipher_suite: What the server chose of ours.
            group: What it wants a share of, of ours; 0 if it has what it needs.
            cookie: What is to be repeated, if anything.
        """

    def _on_early_data(self) -> None:
        """Learn that the 0-RTT data that was offered is taken.

        Raises:
            TlsAlert: It must not be.
        """

    def _on_chain(self, certificates: list[bytes]) -> None:
        """Take what the server presents: DER, leaf first, at least one."""

    def _on_proof(self, scheme: int, signature: bytes, transcript: bytes) -> None:
        """Judge the server's certificate, and its proof to own that.

        Raises:
            TlsAlert: It is not accepted.
        """

    def _present(self) -> bytes:
        """Return the messages that answer a server's request for a certificate; hashed already."""

    def _keep_ticket(
        self, lifetime: int, age_add: int, nonce: bytes, ticket: bytes, early_data: bool
    ) -> None:
        """Keep a ticket; its arguments are those of the message (RFC 8446 section 4.6.1)."""
