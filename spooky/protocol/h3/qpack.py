"""Field sections without a dynamic table (RFC 9204).

We advertise table capacity 0 and use none of the peer's, so neither coder keeps anything from one
field section to the next, and one of each serves every connection. For the same reason we open no
QPACK streams (RFC 9204 section 4.2), and the few instructions that peers may still send are
checked here.
"""

from typing import Final

from pylsqpack import Decoder, DecompressionFailed, Encoder, StreamBlocked

from spooky._core.qpack import MALFORMED, TOO_LARGE, TOO_MANY_FIELDS, scan
from spooky.protocol.h3.errors import (
    QPACK_DECODER_STREAM_ERROR,
    QPACK_DECOMPRESSION_FAILED,
    QPACK_ENCODER_STREAM_ERROR,
    ProtocolError,
)
from spooky.protocol.h3.limits import Limits
from spooky.protocol.stream import Field, Fields

__all__ = [
    "TOO_LARGE",
    "TOO_MANY_FIELDS",
    "DecoderInstructions",
    "check_encoder_instructions",
    "decode",
    "encode",
]

_STREAM_ID: Final = 0
"""The coders ask for a stream, but keep nothing by it."""

_encoder = Encoder()
_decoder = Decoder(0, 0)

SET_CAPACITY_0: Final = b"\x20"
"""Set Dynamic Table Capacity with the only value allowed here (RFC 9204 section 4.3.1)."""

VARINT_CONTINUATION_MAX: Final = 9
"""Bytes after the prefix that an integer of 62 bits can need (RFC 9204 section 4.1.1)."""


def encode(fields: Fields) -> bytes:
    """Encode a field section.

    Raises:
        ValueError: A name is empty, or a name or value is longer than 65,535 bytes.
    """
    return _encoder.encode(_STREAM_ID, fields if isinstance(fields, list) else list(fields))[1]


def decode(block: bytes, limits: Limits) -> list[Field] | int:
    """Decode a field section, once it is known to be within limits.

    Returns:
        The fields, or ``TOO_MANY_FIELDS`` or ``TOO_LARGE``.

    Raises:
        ProtocolError: It is malformed or refers to the dynamic table.
    """
    verdict = scan(block, limits.max_headers_count, limits.max_decoded_bytes)
    if verdict == MALFORMED:
        raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "the field section is malformed")
    if verdict in (TOO_MANY_FIELDS, TOO_LARGE):
        return verdict
    try:
        return _decoder.feed_header(_STREAM_ID, block)[1]
    except DecompressionFailed as error:
        raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "bad Huffman code") from error
    except StreamBlocked as error:
        _decoder.cancel_stream(_STREAM_ID)
        raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "the field section breaks off") from error


def check_encoder_instructions(data: bytes) -> None:
    """Check what came on the peer's encoder stream (RFC 9204 section 4.3).

    Raises:
        ProtocolError: It is anything but setting the capacity to 0.
    """
    if data.strip(SET_CAPACITY_0):
        raise ProtocolError(QPACK_ENCODER_STREAM_ERROR, "there is no dynamic table")


class DecoderInstructions:
    """Checks what comes on the peer's decoder stream (RFC 9204 section 4.4).

    We never refer to the dynamic table, so there is nothing to acknowledge or to count; only
    stream cancellations are legal.
    """

    __slots__ = ("_continuation",)

    def __init__(self) -> None:
        # How many bytes of an integer beyond its prefix were seen; -1 outside an integer.
        self._continuation = -1

    def check(self, data: bytes) -> int:
        """Check the next bytes.

        Returns:
            How many instructions they completed.

        Raises:
            ProtocolError: One is not a stream cancellation.
        """
        count = 0
        for byte in data:
            if self._continuation >= 0:
                self._continuation += 1
                if byte < 0x80:
                    self._continuation = -1
                    count += 1
                elif self._continuation == VARINT_CONTINUATION_MAX:
                    raise ProtocolError(QPACK_DECODER_STREAM_ERROR, "the stream ID is too large")
            elif byte & 0b1100_0000 != 0b0100_0000:
                raise ProtocolError(QPACK_DECODER_STREAM_ERROR, "nothing to acknowledge")
            elif byte == 0b0111_1111:
                self._continuation = 0
            else:
                count += 1
        return count
