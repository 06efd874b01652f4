"""The stages of admission that do more than count; the twin is the source, and says the rest."""

from spooky._core.pure.stages import (
    AdaptiveStage,
    BackendStage,
    Brownout,
    Pressure,
    PriorityStage,
)

__all__ = ["AdaptiveStage", "BackendStage", "Brownout", "Pressure", "PriorityStage"]
