"""Bounds a QPACK field section before the decoder sees it.

The decoder cannot be limited from outside, so what a block would expand to is summed first
(attack: QPACK bombs). Only blocks that use no dynamic table pass, as we advertise capacity 0.
"""

WITHIN_LIMITS: int
TOO_MANY_FIELDS: int
TOO_LARGE: int
MALFORMED: int

def scan(block: bytes, max_count: int, max_bytes: int) -> int:
    """Tell whether a field section (RFC 9204 section 4.5) stays within limits when decoded.

    Arguments:
        block: The encoded field section, prefix included.
        max_count: Field lines.
        max_bytes: Sum of decoded name and value lengths, bytes; Huffman strings are counted at
            their largest possible decoded length. Of an encoder that uses Huffman codes only where
            they are shorter, that is at most 8/5 of the true one.

    Returns:
        ``WITHIN_LIMITS``, ``TOO_MANY_FIELDS``, ``TOO_LARGE``, or ``MALFORMED`` (truncated, an
        integer of 2**62 or more, a bad static index, or any dynamic table reference).
    """
