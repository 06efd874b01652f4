"""HTTP/3 and QPACK error codes, and the error that ends a connection."""

from typing import Final

from spooky._core.reasons import (
    H3_EXCESSIVE_LOAD,
    H3_GENERAL_PROTOCOL_ERROR,
    H3_INTERNAL_ERROR,
    H3_MESSAGE_ERROR,
    H3_NO_ERROR,
    H3_REQUEST_CANCELLED,
    H3_REQUEST_REJECTED,
)

# RFC 9114 section 8.1; the reason table names the others.
H3_STREAM_CREATION_ERROR: Final = 0x103
H3_CLOSED_CRITICAL_STREAM: Final = 0x104
H3_FRAME_UNEXPECTED: Final = 0x105
H3_FRAME_ERROR: Final = 0x106
H3_ID_ERROR: Final = 0x108
H3_SETTINGS_ERROR: Final = 0x109
H3_MISSING_SETTINGS: Final = 0x10A
H3_REQUEST_INCOMPLETE: Final = 0x10D
H3_VERSION_FALLBACK: Final = 0x110

# RFC 9204 section 6.
QPACK_DECOMPRESSION_FAILED: Final = 0x200
QPACK_ENCODER_STREAM_ERROR: Final = 0x201
QPACK_DECODER_STREAM_ERROR: Final = 0x202

__all__ = [
    "H3_CLOSED_CRITICAL_STREAM",
    "H3_EXCESSIVE_LOAD",
    "H3_FRAME_ERROR",
    "H3_FRAME_UNEXPECTED",
    "H3_GENERAL_PROTOCOL_ERROR",
    "H3_ID_ERROR",
    "H3_INTERNAL_ERROR",
    "H3_MESSAGE_ERROR",
    "H3_MISSING_SETTINGS",
    "H3_NO_ERROR",
    "H3_REQUEST_CANCELLED",
    "H3_REQUEST_INCOMPLETE",
    "H3_REQUEST_REJECTED",
    "H3_SETTINGS_ERROR",
    "H3_STREAM_CREATION_ERROR",
    "H3_VERSION_FALLBACK",
    "QPACK_DECODER_STREAM_ERROR",
    "QPACK_DECOMPRESSION_FAILED",
    "QPACK_ENCODER_STREAM_ERROR",
    "ProtocolError",
]


class ProtocolError(Exception):
    """The peer broke a rule for which the whole connection is closed.

    Arguments:
        code: The error code to close with.
        phrase: What was wrong, for the peer's log.
    """

    def __init__(self, code: int, phrase: str) -> None:
        super().__init__(phrase)
        self.code = code
        self.phrase = phrase
