"""The ordinary course of a TLS 1.3 handshake (RFC 8446): messages cut, written and hashed in C."""

from collections.abc import Callable
from typing import Any, TextIO

from spooky._core.quic.key_schedule import KeySchedule

class NativeTls:
    """One side of a TLS 1.3 handshake over QUIC.

    Its attributes are valid once the handshake is complete.

    Arguments:
        events: Who is told of secrets and of what the peer said: ``TlsEvents``.
        secrets_log: Where secrets are written for packet captures.
        is_client: Which side it is.

    Attributes:
        alpn: The application protocol.
        server_name: What the client asked for, lowercase, or ``None``.
        resumed: Whether a session ticket was accepted.
        early_data: Whether 0-RTT data was accepted; ``None`` if none was offered.
        client_certificate: For a server, the verified certificate of the client, DER.
    """

    alpn: str
    server_name: str | None
    resumed: bool
    early_data: bool | None
    client_certificate: bytes | None
    _events: Any
    _client_random: bytes
    _level: int

    def __init__(self, events: Any, secrets_log: TextIO | None, is_client: bool) -> None: ...
    def start(self, own_parameters: bytes) -> None:
        """Produce a client's hello.

        Arguments:
            own_parameters: Our transport parameters, encoded.

        Raises:
            ValueError: It is a server, which waits for the client's.
        """

    def receive(self, epoch: int, data: bytes) -> None:
        """Take CRYPTO data of an encryption level: in order, in any pieces.

        Raises:
            TlsAlert: The peer broke a rule of TLS, or is not who it should be.
            QuicError: It broke one of QUIC.
        """

    def _handle(self, message: bytes) -> None:
        """Take a complete handshake message; moves on ``_level`` if it was its level's last."""

    def take_output(self, epoch: int) -> bytes:
        """Return the CRYPTO data to send at a level, since the last call."""

    def _send(self, epoch: int, messages: bytes) -> None: ...
    def _tell_secret(self, sending: bool, epoch: int, cipher_suite: int, secret: bytes) -> None: ...
    def _tell_peer_parameters(self, encoded: bytes | None) -> bytes | None: ...

class ServerHandshake(NativeTls):
    """A server's side; a subclass decides what its messages shall say.

    It has ``_on_hello``, ``_on_certificate`` and ``_on_certificate_verify``, which take these
    messages of the client, and ``_complete``, called when the client's Finished has come.
    """

    _expect: int
    _schedule: KeySchedule

    def __init__(self, events: Any, secrets_log: TextIO | None) -> None: ...
    def _send_hello(self, group: int, own_share: bytes, shared: bytes) -> None:
        """Say the ServerHello, and tell the secrets of handshake packets.

        Arguments:
            group: Of the key exchange.
            own_share: Our part of it.
            shared: Its result.
        """

    def _send_flight(
        self,
        parameters: bytes,
        certificates: bytes | None,
        scheme: int,
        sign: Callable[[bytes], bytes],
    ) -> None:
        """Say what follows the hello, up to our Finished, and tell the secret of what we send then.

        Arguments:
            parameters: Our transport parameters, encoded.
            certificates: The messages with our request for a certificate, if there is one, and
                with ours; ``None`` if a session is resumed.
            scheme: Of the signature.
            sign: Signs.
        """

    def _on_certificate(self, message: bytes) -> None: ...
    def _on_certificate_verify(self, message: bytes) -> None: ...
    def _on_hello(self, message: bytes) -> None: ...
    def _complete(self) -> None: ...
