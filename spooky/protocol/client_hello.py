"""Reading what a TLS ClientHello on TCP asks for, before the TLS library sees it.

The library sends no alert for a server name it refuses or for protocols it does not share; who
reads the hello first can (RFC 6066 section 3, RFC 7301 section 3.2).
"""

from dataclasses import dataclass
from typing import Final

RECORD_HEADER_BYTES: Final = 5
"""Type, version and length of a TLS record (RFC 8446 section 5.1)."""

RECORD_MAX_BYTES: Final = 16_384
"""Longest plaintext record (RFC 8446 section 5.1)."""

ALERT_NO_APPLICATION_PROTOCOL: Final = 120
ALERT_UNRECOGNIZED_NAME: Final = 112

_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_HOST_NAME: Final = 0


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client asks for.

    Attributes:
        server_name: The name (SNI) as sent, or ``None``.
        protocols: The application protocols (ALPN) it offers; ``None`` if it does not say.
    """

    server_name: str | None
    protocols: tuple[bytes, ...] | None


class _MalformedError(Exception):
    """The hello is not one; the TLS library will say so to the client."""


class _Reader:
    """Takes fields off the front of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def take(self, count: int) -> bytes:
        """Take ``count`` bytes."""
        end = self._position + count
        if end > len(self._data):
            raise _MalformedError
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, size: int) -> int:
        """Take a number of ``size`` bytes."""
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> "_Reader":
        """Take a vector whose length is a number of ``size`` bytes."""
        return _Reader(self.take(self.number(size)))

    def rest(self) -> bytes:
        """Take what is left."""
        return self.take(len(self._data) - self._position)


def record_bytes(start: bytes) -> int | None:
    """Return the length of the first record, header included.

    Arguments:
        start: The first bytes of the connection.

    Returns:
        The length; ``RECORD_HEADER_BYTES`` if the header is not complete; ``None`` if it is not
        the start of a TLS handshake.
    """
    if start and start[0] != _HANDSHAKE_RECORD:
        return None
    if len(start) < RECORD_HEADER_BYTES:
        return RECORD_HEADER_BYTES
    length = int.from_bytes(start[3:5])
    return RECORD_HEADER_BYTES + length if length <= RECORD_MAX_BYTES else None


def parse_client_hello(record: bytes) -> ClientHello | None:
    """Read a ClientHello.

    Arguments:
        record: The first record of a connection, complete.

    Returns:
        What the client asks for; ``None`` for what is malformed or spread over several records:
        that is for the TLS library to judge.
    """
    try:
        return _parse(_Reader(record[RECORD_HEADER_BYTES:]))
    except _MalformedError:
        return None


def alert(description: int) -> bytes:
    """Return the record of a fatal alert (RFC 8446 section 6)."""
    return bytes((21, 3, 3, 0, 2, 2, description))


def _parse(message: _Reader) -> ClientHello:
    """Read the message (RFC 8446 section 4.1.2)."""
    if message.number(1) != _CLIENT_HELLO:
        raise _MalformedError
    hello = message.vector(3)
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2)  # cipher_suites
    hello.vector(1)  # legacy_compression_methods
    server_name = None
    protocols = None
    extensions = hello.vector(2) if hello else _Reader(b"")
    while extensions:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind == _SERVER_NAME:
            server_name = _parse_server_name(content)
        elif kind == _ALPN:
            protocols = _parse_protocols(content)
    return ClientHello(server_name, protocols)


def _parse_server_name(content: _Reader) -> str | None:
    names = content.vector(2)
    while names:
        kind = names.number(1)
        name = names.vector(2).rest()
        if kind == _HOST_NAME:
            return name.decode("ascii", "replace")
    return None


def _parse_protocols(content: _Reader) -> tuple[bytes, ...]:
    names = content.vector(2)
    protocols = []
    while names:
        protocols.append(names.vector(1).rest())
    return tuple(protocols)
