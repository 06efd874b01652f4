# cython: annotation_typing=False
"""HTTP/3 field sections, without a dynamic table (RFC 9204), and what is asked of them.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections.abc import Sequence
from typing import Final

from pylsqpack import Decoder, DecompressionFailed, Encoder, StreamBlocked

from spooky._core import qpack
from spooky._core.h3_errors import QPACK_DECOMPRESSION_FAILED, ProtocolError

Field = tuple[bytes, bytes]

LENGTH_MAX: Final = 2**63 - 1
LENGTH_MAX_DIGITS: Final = 19
"""The greatest content-length that the validator lets pass."""

FIELD_SIZE_OVERHEAD: Final = 32
"""What each field counts beside its name and value (RFC 9114 section 4.2.2)."""

# We advertise table capacity 0 and use none of the peer's, so neither coder keeps anything from one
# field section to the next, and one of each serves every connection. For the same reason we open no
# QPACK streams (RFC 9204 section 4.2).
_encoder = Encoder()
_decoder = Decoder(0, 0)

_WITHIN_LIMITS = qpack.WITHIN_LIMITS

_STREAM_ID: Final = 0
"""The coders ask for a stream, but keep nothing by it."""


def encode_fields(fields: Sequence[Field]) -> bytes:
    """Encode a field section.

    Raises:
        ValueError: A name is empty, or a name or value is longer than 65,535 bytes.
    """
    return _encoder.encode(_STREAM_ID, fields if isinstance(fields, list) else list(fields))[1]


def decode_fields(block: bytes, max_count: int, max_bytes: int) -> list[Field] | int:
    """Decode a field section, once it is known to be within limits.

    Arguments:
        block: The encoded field section.
        max_count: Field lines.
        max_bytes: What it may expand to by the count of :func:`spooky._core.qpack.scan`.

    Returns:
        The fields, or ``TOO_MANY_FIELDS`` or ``TOO_LARGE`` of that kernel.

    Raises:
        ProtocolError: It is malformed or refers to the dynamic table.
    """
    verdict = qpack.scan(block, max_count, max_bytes)
    if verdict != _WITHIN_LIMITS:
        if verdict == qpack.MALFORMED:
            raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "the field section is malformed")
        return verdict
    try:
        return _decoder.feed_header(_STREAM_ID, block)[1]
    except DecompressionFailed as error:
        raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "bad Huffman code") from error
    except StreamBlocked as error:
        _decoder.cancel_stream(_STREAM_ID)
        raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "the field section breaks off") from error


def field_value(fields: Sequence[Field], name: bytes) -> bytes | None:
    """Return the value of a field, several lines joined as one (RFC 9110 section 5.3)."""
    found: bytes | None = None
    for key, value in fields:
        if key == name:
            found = value if found is None else found + b", " + value
    return found


def declared_length(fields: Sequence[Field]) -> int:
    """Return the content-length of a head, or -1 if there is none.

    A malformed one counts as none here: refusing it is the validator's part.
    """
    for name, value in fields:
        if name == b"content-length":
            if not value.isdigit() or len(value) > LENGTH_MAX_DIGITS:
                return -1
            length = int(value)
            return length if length <= LENGTH_MAX else -1
    return -1


def section_size(fields: Sequence[Field]) -> int:
    """Return the size of a field section (RFC 9114 section 4.2.2)."""
    size = 0
    for name, value in fields:
        size += FIELD_SIZE_OVERHEAD + len(name) + len(value)
    return size
