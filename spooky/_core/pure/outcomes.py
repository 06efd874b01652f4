# cython: annotation_typing=False
"""What became of each try at a backend, counted where all workers see it.

Detection of outliers goes by these counts, circuit breakers by the outcomes alone. A word is only
ever added to, or set to 0 by a success: a worker that dies in between leaves no count that is
wrong.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Fault, Reason, Stage
from spooky._core.shared import Words

UNCOUNTED: Final = 0
"""Says nothing of the backend, as when the client gave up."""

SUCCESS: Final = 1
ERROR: Final = 2
"""The backend's fault, but it answered for itself."""

GATEWAY_ERROR: Final = 3
"""The backend could not be reached, did not answer, or said so of what is behind it."""

TRIES: Final = 0
"""Position of the word that counts tries, uncounted ones left out."""

ERRORS: Final = 1
"""Position of the word that counts tries that were errors, of both kinds."""

CONSECUTIVE_ERRORS: Final = 2
"""Position of the word that counts errors of both kinds since the last success."""

CONSECUTIVE_GATEWAY_ERRORS: Final = 3
"""Position of the word that counts gateway errors since the last other outcome."""

LATENCIES: Final = 4
"""Position of the word that sums up :func:`latency_units` of successes."""

TIMED: Final = 5
"""Position of the word that counts the successes which are in that sum."""

UNITS_PER_DOUBLING: Final = 1024
"""A latency twice as long is so many units more."""

_TRIES = 0
_ERRORS = 1
_CONSECUTIVE_ERRORS = 2
_CONSECUTIVE_GATEWAY_ERRORS = 3
_LATENCIES = 4
_TIMED = 5
_UNCOUNTED = 0
_SUCCESS = 1
_ERROR = 2
_GATEWAY_ERROR = 3
_FRACTION_BITS = 10
_MICROSECONDS_MAX = 1 << 40

_BACKEND_STAGES = (Stage.CONNECT, Stage.REQUEST, Stage.RESPONSE)


def _outcome_of(reason: Reason) -> int:
    if reason is reasons.RESPONSE_TOO_LARGE:
        return UNCOUNTED  # It is our limit.
    if reason is reasons.UPSTREAM_STATUS:
        return UNCOUNTED  # It answered: what its status says counts.
    if reason is reasons.APPLICATION_ERROR:
        return ERROR
    is_its_fault = reason.fault is Fault.UPSTREAM and reason.stage in _BACKEND_STAGES
    return GATEWAY_ERROR if is_its_fault else UNCOUNTED


_OUTCOMES_OF_REASONS = bytes(_outcome_of(reason) for reason in reasons.TABLE)


def outcome_of_status(status: int) -> int:
    """Return the outcome of a try that was answered."""
    if status < 500:
        return _SUCCESS
    return _GATEWAY_ERROR if 502 <= status <= 504 else _ERROR


def outcome_of_reason(reason: Reason) -> int:
    """Return the outcome of a try that was not answered, or not to the end."""
    return _OUTCOMES_OF_REASONS[reason.index]


def latency_units(latency_ms: float) -> int:
    """Return the logarithm of a latency, whose mean no single slow answer moves much.

    It is exact at powers of two of a microsecond, and straight in between: up to 6 % off.
    """
    microseconds = int(latency_ms * 1000.0)
    if microseconds < 1:
        return 0
    if microseconds > _MICROSECONDS_MAX:
        microseconds = _MICROSECONDS_MAX
    doublings = 0
    rest = microseconds
    while rest > 1:
        rest >>= 1
        doublings += 1
    return (doublings << _FRACTION_BITS) + (
        ((microseconds << _FRACTION_BITS) >> doublings) - (1 << _FRACTION_BITS)
    )


class Tally:
    """Counts the outcomes at one backend.

    Arguments:
        words: Where, shared by all workers; ``None`` where there is no room: nothing is counted.
        alarm: Whose first word is added to when one of the limits is reached, or passed.
        consecutive_errors: So many errors in a row are one too many; 0 for no limit.
        consecutive_gateway_errors: So many gateway errors in a row are; 0 for no limit.
    """

    def __init__(
        self,
        words: Words | None,
        alarm: Words | None,
        consecutive_errors: int,
        consecutive_gateway_errors: int,
    ) -> None:
        self._words = words
        self._alarm = alarm
        self._errors_limit = consecutive_errors
        self._gateway_errors_limit = consecutive_gateway_errors

    def answered(self, status: int, latency_ms: float) -> None:
        """Count a try that was answered.

        Arguments:
            status: Of the response.
            latency_ms: Time to the response head.
        """
        if status >= 500:
            self._count_error(outcome_of_status(status))
            return
        words = self._words
        if words is None:
            return
        words.add(_LATENCIES, latency_units(latency_ms))
        words.add(_TIMED, 1)
        self._count_success(words)

    def _count_success(self, words: Words) -> None:
        words.add(_TRIES, 1)
        # Mostly they are 0, and reading disturbs nobody.
        if words.load(_CONSECUTIVE_ERRORS) != 0:
            words.store(_CONSECUTIVE_ERRORS, 0)
        if words.load(_CONSECUTIVE_GATEWAY_ERRORS) != 0:
            words.store(_CONSECUTIVE_GATEWAY_ERRORS, 0)

    def failed(self, reason: Reason, status: int = 0) -> None:
        """Count a try that was not answered, or not to the end.

        Arguments:
            reason: Why it ended.
            status: Of the response as far as it came; 0 if none did.
        """
        outcome = _OUTCOMES_OF_REASONS[reason.index]
        if outcome == _UNCOUNTED and status != 0:
            # The client had enough of it, as of a stream of events: how long is not known here.
            outcome = outcome_of_status(status)
        if outcome == _SUCCESS:
            if self._words is not None:
                self._count_success(self._words)
        elif outcome != _UNCOUNTED:
            self._count_error(outcome)

    def _count_error(self, outcome: int) -> None:
        words = self._words
        if words is None:
            return
        words.add(_TRIES, 1)
        words.add(_ERRORS, 1)
        gateway_errors = 0
        errors = words.add(_CONSECUTIVE_ERRORS, 1)
        if outcome == _GATEWAY_ERROR:
            gateway_errors = words.add(_CONSECUTIVE_GATEWAY_ERRORS, 1)
        elif words.load(_CONSECUTIVE_GATEWAY_ERRORS) != 0:
            words.store(_CONSECUTIVE_GATEWAY_ERRORS, 0)
        if self._alarm is not None and (
            0 < self._errors_limit <= errors or 0 < self._gateway_errors_limit <= gateway_errors
        ):
            self._alarm.add(0, 1)
