"""What a peer may send before it is refused; the same for both roles."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from spooky._core.h3_fields import FIELD_SIZE_OVERHEAD

FIELD_LINE_OVERHEAD: Final = 8
"""Bytes that a field line needs beside its name and value: two lengths of up to 4 bytes each."""

SECTION_PREFIX_BYTES: Final = 16
"""Room for the prefix of a field section (RFC 9204 section 4.5.1)."""


@dataclass(frozen=True)
class Limits:
    """What a message, a stream and a connection may be.

    Attributes:
        max_headers_count: Field lines in a head or in trailers.
        max_headers_bytes: Sum of name and value lengths in a head or in trailers, bytes.
        max_informational: 1xx response heads before the final one (attack 35).
        max_useless_frames: Frames and QPACK instructions without effect on a connection, beside
            ten for each request: unknown frames, empty DATA, priorities, push IDs (attacks 8, 26).
        max_useless_bytes: Bytes of unknown frames on a connection, beside 1 KiB for each request.
        max_unidirectional_streams: Unidirectional streams a peer may open during a connection; the
            three that HTTP/3 knows, and some of types that are unknown here (attack 26).
        max_aborted_requests: Requests that the client gave up or broke. More are tolerated as long
            as they are less than half of all requests (attacks 1, 2).
        max_concurrent_streams: Requests that a client has open at most, whatever its peer allows.
    """

    max_headers_count: int = 128
    max_headers_bytes: int = 16384
    max_informational: int = 32
    max_useless_frames: int = 1000
    max_useless_bytes: int = 256 * 1024
    max_unidirectional_streams: int = 100
    max_aborted_requests: int = 500
    max_concurrent_streams: int = 100

    @cached_property
    def max_headers_frame_bytes(self) -> int:
        """Longest HEADERS frame that is buffered: no field section within limits needs more."""
        return (
            SECTION_PREFIX_BYTES
            + self.max_headers_bytes
            + FIELD_LINE_OVERHEAD * self.max_headers_count
        )

    @cached_property
    def max_decoded_bytes(self) -> int:
        """What a field section may expand to by the count of :func:`spooky._core.qpack.scan`.

        The scan counts Huffman-coded strings at their greatest possible length, 8/5 of the encoded
        one, and an encoder uses Huffman only where it is shorter. So this refuses nothing within
        ``max_headers_bytes``, whose exact check is the validator's.
        """
        return self.max_headers_bytes * 8 // 5

    @cached_property
    def max_field_section_size(self) -> int:
        """The limit in the terms of SETTINGS_MAX_FIELD_SECTION_SIZE (RFC 9114 section 4.2.2)."""
        return self.max_headers_bytes + FIELD_SIZE_OVERHEAD * self.max_headers_count
