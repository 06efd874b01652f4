"""HTTP/3 field sections; the twin is the source, and says the rest."""

from spooky._core.pure.h3_fields import (
    FIELD_SIZE_OVERHEAD,
    declared_length,
    field_value,
    section_size,
)

__all__ = [
    "FIELD_SIZE_OVERHEAD",
    "declared_length",
    "field_value",
    "section_size",
]
