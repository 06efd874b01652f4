"""How requests end, in the few words that dashboards sort them by."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Fault, Reason, Stage

SHED_STAGES: Final = frozenset({Stage.CONNECTION, Stage.ADMIT, Stage.BALANCE})
"""Where a request is refused for want of room, or of a backend."""

_UNAVAILABLE: Final = 503
_TOO_MANY_REQUESTS: Final = 429

_BY_CODE: Final = {reason.code: reason for reason in reasons.TABLE}


def reason_of(labels: Mapping[str, str]) -> Reason | None:
    """Return the reason that a metric's labels say; ``None`` for one of another version."""
    return _BY_CODE.get(labels.get("reason", ""))


class Outcome(StrEnum):
    """How a request ended, as the reference names it."""

    SUCCESS = "success"
    FAILURE = "failure"
    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    BACKEND_ERROR = "backend_error"
    OVERLOAD_SHED = "overload_shed"


def is_shed(reason: Reason) -> bool:
    """Tell whether a request was refused for want of room."""
    return reason.stage in SHED_STAGES and reason.status == _UNAVAILABLE


def is_timeout(reason: Reason) -> bool:
    """Tell whether somebody took too long."""
    return reason.code.endswith("timeout")


def outcome_of(reason: Reason, status_class: str) -> Outcome:
    """Return how a request ended.

    Arguments:
        status_class: Of the response, such as ``2xx``; ``none`` without one.
    """
    if reason is reasons.COMPLETED:
        return Outcome.BACKEND_ERROR if status_class == "5xx" else Outcome.SUCCESS
    if reason.status == _TOO_MANY_REQUESTS:
        return Outcome.RATE_LIMITED
    if is_shed(reason):
        return Outcome.OVERLOAD_SHED
    if is_timeout(reason):
        return Outcome.TIMEOUT
    return Outcome.BACKEND_ERROR if reason.fault is Fault.UPSTREAM else Outcome.FAILURE
