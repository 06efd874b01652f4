"""What an HTTP/3 connection has used of its limits; the twin is the source, and says the rest."""

from spooky._core.pure.h3_budget import (
    USELESS_BYTES_PER_REQUEST,
    USELESS_FRAMES_PER_REQUEST,
    Budget,
)

__all__ = ["USELESS_BYTES_PER_REQUEST", "USELESS_FRAMES_PER_REQUEST", "Budget"]
