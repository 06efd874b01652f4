# cython: annotation_typing=False
"""What HTTP/3 asks of fields.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections.abc import Sequence
from typing import Final

Field = tuple[bytes, bytes]

LENGTH_MAX: Final = 2**63 - 1
LENGTH_MAX_DIGITS: Final = 19
"""The greatest content-length that the validator lets pass."""

FIELD_SIZE_OVERHEAD: Final = 32
"""What each field counts beside its name and value (RFC 9114 section 4.2.2)."""

# A C number, where that above is an object.
_FIELD_SIZE_OVERHEAD = FIELD_SIZE_OVERHEAD


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
        size += _FIELD_SIZE_OVERHEAD + len(name) + len(value)
    return size
