"""A circuit breaker that workers share; the twin is the source, and says the rest."""

from spooky._core.pure.breaker import PROBES_MAX, REFUSED, THRESHOLD_MAX, Breaker

__all__ = ["PROBES_MAX", "REFUSED", "THRESHOLD_MAX", "Breaker"]
