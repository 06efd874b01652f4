"""Letting an exchange in; the twin is the source, and says the rest."""

from spooky._core.pure.admission import (
    PASSED_MAX,
    Admission,
    AdmissionStage,
    Backend,
    PassedOver,
    Refusal,
    Upstream,
    admit,
    admitted_by,
    pass_over,
    refusal_of,
)

__all__ = [
    "PASSED_MAX",
    "Admission",
    "AdmissionStage",
    "Backend",
    "PassedOver",
    "Refusal",
    "Upstream",
    "admit",
    "admitted_by",
    "pass_over",
    "refusal_of",
]
