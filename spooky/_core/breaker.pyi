"""A circuit breaker that workers share; the twin is the source, and says the rest."""

from spooky._core.pure.breaker import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    PROBES_MAX,
    REFUSED,
    THRESHOLD_MAX,
    Breaker,
)

__all__ = ["CLOSED", "HALF_OPEN", "OPEN", "PROBES_MAX", "REFUSED", "THRESHOLD_MAX", "Breaker"]
