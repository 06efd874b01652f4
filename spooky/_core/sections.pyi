"""HTTP/3 field sections, without a dynamic table (RFC 9204)."""

from collections.abc import Sequence

from spooky._core.pure.sections import Field

def encode_fields(fields: Sequence[Field]) -> bytes:
    """Encode a field section.

    Raises:
        ValueError: A name is empty, or a name or value is longer than 65,535 bytes.
    """

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
