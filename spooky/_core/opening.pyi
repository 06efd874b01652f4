"""How connections of clients begin; the twin is the source."""

from spooky._core.pure.opening import (
    OpeningListener,
)

__all__ = [
    "OpeningListener",
]
