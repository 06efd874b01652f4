"""How handshake messages of TLS 1.3 are written and read (RFC 8446 section 4)."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from cryptography import x509

from spooky._core.quic.errors import Alert, TlsAlert

LENGTH_BYTES: Final = 3
"""Of the length in a message's header, after its type."""


class MessageType(IntEnum):
    """Types of handshake messages."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    NEW_SESSION_TICKET = 4
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    CERTIFICATE_VERIFY = 15
    FINISHED = 20


class Extension(IntEnum):
    """Types of extensions (RFC 8446 section 4.2)."""

    SERVER_NAME = 0
    SUPPORTED_GROUPS = 10
    SIGNATURE_ALGORITHMS = 13
    ALPN = 16
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    PSK_KEY_EXCHANGE_MODES = 45


def opaque(data: bytes, length_bytes: int) -> bytes:
    """Return a vector: data with its length before it."""
    return len(data).to_bytes(length_bytes, "big") + data


def extension(kind: int, value: bytes) -> bytes:
    """Return an extension (RFC 8446 section 4.2)."""
    return kind.to_bytes(2, "big") + opaque(value, 2)


def handshake_message(kind: int, body: bytes) -> bytes:
    """Return a message with its header."""
    return bytes((kind,)) + opaque(body, LENGTH_BYTES)


def certificate_message(certificates: Sequence[bytes]) -> bytes:
    """Return the message that presents a chain (RFC 8446 section 4.4.2).

    Arguments:
        certificates: In DER, leaf first.
    """
    entries = b"".join(opaque(each, LENGTH_BYTES) + b"\0\0" for each in certificates)
    return handshake_message(MessageType.CERTIFICATE, b"\0" + opaque(entries, LENGTH_BYTES))


class Reader:
    """Takes numbers and vectors from a message, one after the other.

    Arguments:
        data: The message, or a vector of it.
        start: Where to begin.
    """

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes, start: int = 0) -> None:
        self._data = data
        self._at = start

    @property
    def ended(self) -> bool:
        """Whether all was taken."""
        return self._at == len(self._data)

    def number(self, length_bytes: int) -> int:
        """Take a number.

        Raises:
            TlsAlert: The message is cut short.
        """
        return int.from_bytes(self._take(length_bytes), "big")

    def opaque(self, length_bytes: int) -> bytes:
        """Take a vector, whose length comes first.

        Raises:
            TlsAlert: The message is cut short.
        """
        return self._take(self.number(length_bytes))

    def end(self) -> None:
        """Check that nothing is left.

        Raises:
            TlsAlert: Something is.
        """
        if not self.ended:
            raise TlsAlert(Alert.DECODE_ERROR, "a handshake message goes on after its end")

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise TlsAlert(Alert.DECODE_ERROR, "a handshake message is cut short")
        self._at += count
        return taken


def load_certificates(encoded: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    """Return the certificates that a peer presents.

    Arguments:
        encoded: In DER.

    Raises:
        TlsAlert: One is malformed.
    """
    try:
        return tuple(map(x509.load_der_x509_certificate, encoded))
    except (ValueError, x509.InvalidVersion) as error:
        raise TlsAlert(Alert.BAD_CERTIFICATE, "a certificate cannot be read") from error
