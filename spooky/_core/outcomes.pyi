"""What became of each try at a backend; the twin is the source, and says the rest."""

from spooky._core.pure.outcomes import (
    CONSECUTIVE_ERRORS,
    CONSECUTIVE_GATEWAY_ERRORS,
    ERROR,
    ERRORS,
    GATEWAY_ERROR,
    LATENCIES,
    SUCCESS,
    TIMED,
    TRIES,
    UNCOUNTED,
    UNITS_PER_DOUBLING,
    Tally,
    latency_units,
    outcome_of_reason,
    outcome_of_status,
)

__all__ = [
    "CONSECUTIVE_ERRORS",
    "CONSECUTIVE_GATEWAY_ERRORS",
    "ERROR",
    "ERRORS",
    "GATEWAY_ERROR",
    "LATENCIES",
    "SUCCESS",
    "TIMED",
    "TRIES",
    "UNCOUNTED",
    "UNITS_PER_DOUBLING",
    "Tally",
    "latency_units",
    "outcome_of_reason",
    "outcome_of_status",
]
