"""Bounds a QPACK field section before the decoder sees it."""

from typing import Final

WITHIN_LIMITS: Final = 0
TOO_MANY_FIELDS: Final = 1
TOO_LARGE: Final = 2
MALFORMED: Final = 3

INTEGER_MAX: Final = 2**62 - 1
"""RFC 9204 section 4.1.1."""

CONTINUATION_MAX: Final = 9
"""Bytes after the prefix that an integer of 62 bits can need."""

HUFFMAN_SHORTEST_CODE: Final = 5
"""Bits (RFC 7541 appendix B)."""

STATIC_TABLE: Final = (
    (10, 0), (5, 1), (3, 1), (19, 0), (14, 1), (6, 0), (4, 0), (4, 0), (17, 0), (13, 0),
    (13, 0), (4, 0), (8, 0), (7, 0), (10, 0), (7, 7), (7, 6), (7, 3), (7, 4), (7, 7),
    (7, 4), (7, 3), (7, 4), (7, 5), (7, 3), (7, 3), (7, 3), (7, 3), (7, 3), (6, 3),
    (6, 23), (15, 17), (13, 5), (28, 13), (28, 12), (27, 1), (13, 9), (13, 15), (13, 14), (13, 8),
    (13, 8), (13, 24), (16, 2), (16, 4), (12, 23), (12, 22), (12, 16), (12, 33), (12, 9), (12, 10),
    (12, 9), (12, 8), (12, 24), (12, 10), (12, 24), (5, 8), (25, 16), (25, 35), (25, 44), (4, 15),
    (4, 6), (22, 7), (16, 13), (7, 3), (7, 3), (7, 3), (7, 3), (7, 3), (7, 3), (7, 3),
    (7, 3), (7, 3), (15, 0), (32, 5), (32, 4), (28, 1), (28, 3), (28, 18), (28, 7), (29, 14),
    (30, 12), (29, 3), (29, 4), (7, 5), (13, 0), (23, 53), (10, 1), (9, 0), (9, 0), (8, 0),
    (6, 0), (7, 8), (6, 0), (19, 1), (25, 1), (10, 0), (15, 0), (15, 4), (15, 10),
)  # fmt: skip
"""Lengths of name and value of every entry (RFC 9204 appendix A), ten a row."""


class _MalformedError(Exception):
    """The block breaks off, or is not one that we allow."""


class _Reader:
    """Reads integers and lengths of strings (RFC 9204 section 4.1)."""

    def __init__(self, block: bytes) -> None:
        self.block = block
        self.position = 0

    def peek(self) -> int:
        """Return the next byte."""
        if self.position == len(self.block):
            raise _MalformedError
        return self.block[self.position]

    def integer(self, prefix_bits: int) -> int:
        """Read an integer with a prefix of so many bits (RFC 7541 section 5.1)."""
        mask = (1 << prefix_bits) - 1
        value = self.peek() & mask
        self.position += 1
        if value < mask:
            return value
        for index in range(CONTINUATION_MAX):
            byte = self.peek()
            self.position += 1
            value += (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if value > INTEGER_MAX:
                    raise _MalformedError
                return value
        raise _MalformedError

    def string(self, prefix_bits: int) -> int:
        """Skip a string and return the greatest length it can decode to.

        The bit above the prefix tells whether it is Huffman-coded.
        """
        huffman = self.peek() >> prefix_bits & 1
        length = self.integer(prefix_bits)
        if length > len(self.block) - self.position:
            raise _MalformedError
        self.position += length
        return length * 8 // HUFFMAN_SHORTEST_CODE if huffman else length


def scan(block: bytes, max_count: int, max_bytes: int) -> int:
    """Tell whether a field section (RFC 9204 section 4.5) stays within limits when decoded.

    What is found first counts: field lines one after the other, and for each its number, then
    its form, then its bytes.
    """
    reader = _Reader(block)
    try:
        if reader.integer(8) != 0:
            return MALFORMED
        # Base is never negative (RFC 9204 section 4.5.1.2), so the sign is not set here.
        if reader.peek() & 0x80:
            return MALFORMED
        reader.integer(7)
        count = 0
        size = 0
        while reader.position < len(block):
            count += 1
            if count > max_count:
                return TOO_MANY_FIELDS
            size += _field_line(reader)
            if size > max_bytes:
                return TOO_LARGE
    except _MalformedError:
        return MALFORMED
    return WITHIN_LIMITS


def _field_line(reader: _Reader) -> int:
    """Skip a field line and return the sum of its lengths (RFC 9204 sections 4.5.2 to 4.5.6)."""
    first = reader.peek()
    if first & 0b1100_0000 == 0b1100_0000:  # indexed, static table
        return sum(_static_entry(reader.integer(6)))
    if first & 0b1101_0000 == 0b0101_0000:  # literal value, name from the static table
        name_length, _ = _static_entry(reader.integer(4))
        return name_length + reader.string(7)
    if first & 0b1110_0000 == 0b0010_0000:  # literal name and value
        return reader.string(3) + reader.string(7)
    raise _MalformedError  # the rest refers to the dynamic table


def _static_entry(index: int) -> tuple[int, int]:
    """Return the lengths of an entry of the static table."""
    if index >= len(STATIC_TABLE):
        raise _MalformedError
    return STATIC_TABLE[index]
