"""What peers may send on their QPACK streams (RFC 9204 sections 4.3 and 4.4).

We advertise table capacity 0 and use none of the peer's, so we open no such streams (RFC 9204
section 4.2), and the few instructions that peers may still send are checked here.
"""

from typing import Final

from spooky._core.h3_errors import (
    QPACK_DECODER_STREAM_ERROR,
    QPACK_ENCODER_STREAM_ERROR,
    ProtocolError,
)

SET_CAPACITY_0: Final = b"\x20"
"""Set Dynamic Table Capacity with the only value allowed here (RFC 9204 section 4.3.1)."""

VARINT_CONTINUATION_MAX: Final = 9
"""Bytes after the prefix that an integer of 62 bits can need (RFC 9204 section 4.1.1)."""


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
