"""What TLS 1.3 and the native engine say to each other, and what both sides of a handshake share.

CRYPTO data comes in order for each encryption level, and is cut into handshake messages here,
which must be complete when the level changes (RFC 9001 section 4.1.3).
"""

from abc import ABC, abstractmethod
from typing import Final, Protocol, TextIO

from spooky._core.quic.errors import Alert, QuicError, TlsAlert, TransportError

INITIAL: Final = 0
HANDSHAKE: Final = 1
APPLICATION: Final = 2
EARLY: Final = 3
"""Encryption levels, as the engine numbers them; the last is that of 0-RTT, without CRYPTO data."""

HANDSHAKE_MESSAGE_MAX: Final = 64 * 1024
"""Largest handshake message taken; bytes. Its header can announce 16 MiB. Browsers' hellos have
2 KiB, long client chains 10 KiB."""

HEADER_BYTES: Final = 4
"""Length of a handshake message's header: its type, and its length (RFC 8446 section 4)."""

CRYPTO_FRAME: Final = 0x06

QUIC_TRANSPORT_PARAMETERS: Final = 0x39
"""The extension of RFC 9001 section 8.2."""

SECRET_LABELS: Final = {
    (HANDSHAKE, True): "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    (HANDSHAKE, False): "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    (APPLICATION, True): "CLIENT_TRAFFIC_SECRET_0",
    (APPLICATION, False): "SERVER_TRAFFIC_SECRET_0",
    (EARLY, True): "CLIENT_EARLY_TRAFFIC_SECRET",
}
"""How key logs call the secret of a level, and whether a client sends under it."""


class TlsEvents(Protocol):
    """What TLS tells the engine, from inside ``start`` and ``receive``.

    Attributes:
        version: The QUIC version in use, settled once the peer's parameters are known.
        original_version: That of the client's first packet.
    """

    @property
    def version(self) -> int: ...

    @property
    def original_version(self) -> int: ...

    def on_secret(self, sending: bool, epoch: int, cipher_suite: int, secret: bytes) -> None:
        """Take a traffic secret, in the order in which TLS derives them.

        Arguments:
            sending: Whether we send under it.
            epoch: The encryption level.
            cipher_suite: Its number in RFC 8446, appendix B.4.
            secret: Where keys come from (RFC 9001 section 5.1).
        """

    def on_peer_parameters(self, encoded: bytes) -> bytes | None:
        """Take the peer's transport parameters, as soon as they are known.

        Returns:
            For a server its own parameters, encoded, which may depend on the peer's; else ``None``.

        Raises:
            QuicError: They are not acceptable. It ends the handshake as it is.
        """

    def remember_parameters(self, encoded: bytes) -> None:
        """Take the server's transport parameters of the session that a client offers to resume."""

    def on_handshake_complete(self) -> None:
        """Learn that the handshake is complete (RFC 9001 section 4.1.1)."""


class NativeTls(ABC):
    """One side of a TLS 1.3 handshake over QUIC.

    Its attributes are valid once the handshake is complete.

    Attributes:
        alpn: The application protocol.
        server_name: What the client asked for, lowercase, or ``None``.
        resumed: Whether a session ticket was accepted.
        early_data: Whether 0-RTT data was accepted; ``None`` if none was offered.
        client_certificate: For a server, the verified certificate of the client, DER.
    """

    def __init__(self, events: TlsEvents, secrets_log: TextIO | None, *, is_client: bool) -> None:
        """Make one side.

        Arguments:
            events: Who is told of secrets and of what the peer said.
            secrets_log: Where secrets are written for packet captures.
            is_client: Which side it is.
        """
        self.alpn = ""
        self.server_name: str | None = None
        self.resumed = False
        self.early_data: bool | None = None
        self.client_certificate: bytes | None = None
        self._events = events
        self._secrets_log = secrets_log
        self._is_client = is_client
        self._client_random = b""
        self._level = INITIAL
        self._incoming = bytearray()
        self._outgoing: dict[int, bytearray] = {}

    @abstractmethod
    def start(self, own_parameters: bytes) -> None:
        """Produce a client's hello.

        Arguments:
            own_parameters: Our transport parameters, encoded.
        """

    def receive(self, epoch: int, data: bytes) -> None:
        """Take CRYPTO data of an encryption level: in order, in any pieces.

        Raises:
            TlsAlert: The peer broke a rule of TLS, or is not who it should be.
            QuicError: It broke one of QUIC.
        """
        if not data:
            return
        if epoch != self._level:
            raise QuicError(
                TransportError.PROTOCOL_VIOLATION, CRYPTO_FRAME, "handshake data at a wrong level"
            )
        incoming = self._incoming
        incoming += data
        while len(incoming) >= HEADER_BYTES:
            length = HEADER_BYTES + int.from_bytes(incoming[1:HEADER_BYTES], "big")
            if length > HANDSHAKE_MESSAGE_MAX:
                raise QuicError(
                    TransportError.CRYPTO_BUFFER_EXCEEDED, CRYPTO_FRAME, "too much handshake data"
                )
            if len(incoming) < length:
                return
            message = bytes(incoming[:length])
            del incoming[:length]
            self._handle(message)
            if incoming and epoch != self._level:
                raise QuicError(
                    TransportError.PROTOCOL_VIOLATION, CRYPTO_FRAME, "handshake data after its end"
                )

    @abstractmethod
    def _handle(self, message: bytes) -> None:
        """Take a complete handshake message; moves on ``_level`` if it was its level's last."""

    def take_output(self, epoch: int) -> bytes:
        """Return the CRYPTO data to send at a level, since the last call."""
        return bytes(self._outgoing.pop(epoch, b""))

    def _send(self, epoch: int, messages: bytes) -> None:
        self._outgoing.setdefault(epoch, bytearray()).extend(messages)

    def _tell_secret(self, sending: bool, epoch: int, cipher_suite: int, secret: bytes) -> None:
        if self._secrets_log is not None:
            label = SECRET_LABELS[epoch, sending is self._is_client]
            self._secrets_log.write(f"{label} {self._client_random.hex()} {secret.hex()}\n")
            self._secrets_log.flush()
        self._events.on_secret(sending, epoch, cipher_suite, secret)

    def _tell_peer_parameters(self, encoded: bytes | None) -> bytes | None:
        if encoded is None:
            raise TlsAlert(Alert.MISSING_EXTENSION, "no QUIC transport parameters")
        return self._events.on_peer_parameters(encoded)
