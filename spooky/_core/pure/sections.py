"""HTTP/3 field sections, without a dynamic table (RFC 9204)."""

from collections.abc import Sequence
from typing import Final

from pylsqpack import Decoder, DecompressionFailed, Encoder, StreamBlocked

from spooky._core import qpack
from spooky._core.h3_errors import QPACK_DECOMPRESSION_FAILED, ProtocolError

Field = tuple[bytes, bytes]

# We advertise table capacity 0 and use none of the peer's, so neither coder keeps anything from one
# field section to the next, and one of each serves every connection. For the same reason we open no
# QPACK streams (RFC 9204 section 4.2).
_encoder = Encoder()
_decoder = Decoder(0, 0)

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
    if verdict != qpack.WITHIN_LIMITS:
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
