"""Priorities of HTTP responses; the twin is the source, and says the rest."""

from spooky._core.pure.priority import (
    DEFAULT_PRIORITY,
    DEFAULT_URGENCY,
    LOWEST_URGENCY,
    Priority,
    parse_priority,
)

__all__ = [
    "DEFAULT_PRIORITY",
    "DEFAULT_URGENCY",
    "LOWEST_URGENCY",
    "Priority",
    "parse_priority",
]
