"""How many client connections there are, and how fast they come; the twin is the source."""

from spooky._core.pure.arrivals import (
    ATTEMPTS_OFF,
    ATTEMPTS_ON,
    HALF_OPEN_ON,
    IPV6_SOURCE_PREFIX,
    NOTED_MAX,
    SECOND,
    WINDOW_SECONDS,
    Attempts,
    Cap,
    Rate,
    source_of,
)

__all__ = [
    "ATTEMPTS_OFF",
    "ATTEMPTS_ON",
    "HALF_OPEN_ON",
    "IPV6_SOURCE_PREFIX",
    "NOTED_MAX",
    "SECOND",
    "WINDOW_SECONDS",
    "Attempts",
    "Cap",
    "Rate",
    "source_of",
]
