"""How long a message is, and whether its connection persists: RFC 9112 sections 6 and 9.3.

Decided once per message, before anything of it is delivered, from the fields alone. What the RFC
lets a recipient repair is refused here: two recipients that repair differently are how requests
are smuggled.
"""

from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.protocol.stream import Field, Fields

_FRAMING_NAMES: Final = frozenset(
    (b"connection", b"content-length", b"expect", b"transfer-encoding")
)

_CONTENT_LENGTH_MAX: Final = 2**63 - 1
"""What every implementation on the way can count to."""

_CONTENT_LENGTH_DIGITS: Final = 19
"""The digits of that number; also keeps the conversion cheap."""


class FramingError(Exception):
    """The peer's bytes are not an HTTP/1.1 message that we accept.

    Attributes:
        reason: What is wrong.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


class Framing:
    """What the fields of a head say about its message and connection.

    Attributes:
        content_length: Declared length in bytes, or -1.
        chunked: Whether the body comes in chunks.
        close: Whether the peer closes the connection after this message.
        keep_alive: Whether the peer asked for a persistent connection by name (HTTP/1.0).
        expects_continue: Whether the client waits for ``100 Continue``.
    """

    __slots__ = ("chunked", "close", "content_length", "expects_continue", "keep_alive")

    def __init__(self) -> None:
        self.content_length = -1
        self.chunked = False
        self.close = False
        self.keep_alive = False
        self.expects_continue = False


def read_framing(fields: Fields, minor_version: int) -> Framing:
    """Return the framing that the fields of a head declare.

    Raises:
        FramingError: ``Content-Length`` is not one number; ``Transfer-Encoding`` is anything but
            ``chunked``, or comes with ``Content-Length`` or in HTTP/1.0 (RFC 9112 sections 6.1
            to 6.3).
    """
    framing = Framing()
    for name, value in fields:
        if name not in _FRAMING_NAMES:
            continue
        if name == b"content-length":
            if framing.content_length >= 0:
                raise FramingError(reasons.BAD_FRAMING)
            framing.content_length = _content_length(value)
        elif name == b"transfer-encoding":
            if framing.chunked or value.lower() != b"chunked":
                raise FramingError(reasons.BAD_FRAMING)
            framing.chunked = True
        elif name == b"expect":
            framing.expects_continue = minor_version > 0 and value.lower() == b"100-continue"
        else:
            options = [option.strip(b" \t") for option in value.lower().split(b",")]
            framing.close = framing.close or b"close" in options
            framing.keep_alive = framing.keep_alive or b"keep-alive" in options
    if framing.chunked and (framing.content_length >= 0 or minor_version == 0):
        raise FramingError(reasons.BAD_FRAMING)
    return framing


def check_trailers(fields: list[Field], max_count: int) -> list[Field]:
    """Return trailers that do not speak of framing (RFC 9110 section 6.5.1).

    Raises:
        FramingError: They do, or there are too many.
    """
    if len(fields) > max_count:
        raise FramingError(reasons.TOO_MANY_FIELDS)
    for name, _ in fields:
        if name in (b"content-length", b"transfer-encoding"):
            raise FramingError(reasons.BAD_FRAMING)
    return fields


def declared_length(fields: Fields) -> int:
    """Return the content-length among fields that we are about to send, or -1."""
    for name, value in fields:
        if name == b"content-length":
            return int(value)
    return -1


def _content_length(value: bytes) -> int:
    """Return the length that a field value declares: 1*DIGIT (RFC 9110 section 8.6)."""
    if not value.isdigit() or len(value) > _CONTENT_LENGTH_DIGITS:
        raise FramingError(reasons.BAD_FRAMING)
    length = int(value)
    if length > _CONTENT_LENGTH_MAX:
        raise FramingError(reasons.BAD_FRAMING)
    return length
