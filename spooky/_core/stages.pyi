"""The stages of admission that do more than count; the twin is the source, and says the rest."""

from spooky._core.pure.stages import (
    BROWNOUT_STEP_SECONDS,
    PRESSURE_START,
    AdaptiveStage,
    BackendStage,
    Brownout,
    Pressure,
    PriorityStage,
)

__all__ = [
    "BROWNOUT_STEP_SECONDS",
    "PRESSURE_START",
    "AdaptiveStage",
    "BackendStage",
    "Brownout",
    "Pressure",
    "PriorityStage",
]
