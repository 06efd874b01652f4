# cython: annotation_typing=False
"""The stages of admission that do more than count: priorities, adaptive limits, circuit breakers.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from typing import Final

from spooky._core import reasons
from spooky._core.admission import Admission, AdmissionStage
from spooky._core.breaker import Breaker
from spooky._core.concurrency import AdaptiveLimit
from spooky._core.gate import Gate
from spooky._core.outcomes import GATEWAY_ERROR, UNCOUNTED, outcome_of_reason
from spooky._core.reasons import Reason
from spooky._core.validate import Request

BROWNOUT_STEP_SECONDS: Final = 0.1
"""How soon the next priority is shed too, or let in again: so long takes what a step does."""

PRESSURE_START: Final = (0.70, 0.80, 0.90, 0.97)
PRESSURE_FULL: Final = (0.85, 0.95, 0.99, 1.00)
"""From which pressure on requests of each priority are shed, more with more of it, and all are."""

_STEP = BROWNOUT_STEP_SECONDS
_UNCOUNTED = UNCOUNTED
_GATEWAY_ERROR = GATEWAY_ERROR
_BACKEND_INFLIGHT = reasons.BACKEND_INFLIGHT
_BROWNOUT = reasons.BROWNOUT
_ADAPTIVE = reasons.ADAPTIVE_ADMISSION
_CIRCUIT_OPEN = reasons.CIRCUIT_OPEN
_HEAD_TIMEOUT = reasons.UPSTREAM_HEAD_TIMEOUT
_TRY_TIMEOUT = reasons.TRY_TIMEOUT


class Pressure:
    """How short something is that all requests of a worker need, from 0, not at all, to 1.

    Attributes:
        value: The pressure.
        reason: Why requests are shed for it.
    """

    def __init__(self) -> None:
        self.value = 0.0
        self.reason: Reason = _BROWNOUT
        self._owed = [0.0] * len(PRESSURE_START)

    def set(self, value: float, reason: Reason) -> None:
        """Say how short it is."""
        self.value = min(max(value, 0.0), 1.0)
        self.reason = reason

    def sheds(self, priority: int) -> bool:
        """Return whether the next request is shed: as large a share of them as the pressure asks.

        Arguments:
            priority: From 0, the lowest, to 3.
        """
        start = PRESSURE_START[priority]
        if self.value <= start:
            return False
        share = (self.value - start) / (PRESSURE_FULL[priority] - start)
        owed = self._owed[priority] + min(share, 1.0)
        self._owed[priority] = owed - 1.0 if owed >= 1.0 else owed
        return owed >= 1.0


class Brownout:
    """Which priorities are shed as a limit on what is in flight is nearly reached.

    From ``trigger`` percent of the limit on the lowest priority is shed, and a step later the next,
    but never the highest that there is; down to ``recover`` percent they return one by one.

    Arguments:
        gate: Counts what is in flight.
        limit: How much there may be.
        adaptive: A lower limit that changes, if there is one.
        trigger: Percent of the limit.
        recover: Percent of the limit.
        highest: The highest priority there is.

    Attributes:
        level: Lower priorities than this are shed.
    """

    def __init__(
        self,
        gate: Gate,
        limit: int,
        adaptive: AdaptiveLimit | None,
        trigger: int,
        recover: int,
        highest: int,
    ) -> None:
        if not 0 <= recover < trigger <= 100:
            raise ValueError("a brownout needs 0 <= recover < trigger <= 100")
        self.level = 0
        self._gate = gate
        self._limit = limit
        self._adaptive = adaptive
        self._trigger = trigger
        self._recover = recover
        self._highest = highest
        self._next = 0.0

    def sheds(self, priority: int, now: float) -> bool:
        """Return whether a request is shed.

        Arguments:
            priority: From 0, the lowest.
            now: Seconds.
        """
        if now >= self._next:
            self._step(now)
        return priority < self.level

    @property
    def percent(self) -> int:
        """How much of the limit is in use."""
        return self._gate.active * 100 // self._present_limit()

    def _step(self, now: float) -> None:
        in_flight = self._gate.active * 100
        limit = self._present_limit()
        if in_flight >= limit * self._trigger:
            if self.level < self._highest:
                self.level += 1
                self._next = now + _STEP
        elif self.level > 0 and in_flight <= limit * self._recover:
            self.level -= 1
            self._next = now + _STEP

    def _present_limit(self) -> int:
        if self._adaptive is None:
            return self._limit
        return min(self._limit, self._adaptive.limit())


class PriorityStage(AdmissionStage):
    """Sheds requests by their priority; takes no place.

    Arguments:
        pressure: Of the worker.
        priority: Of the requests, from 0, the lowest, to 3.
        brownouts: Of the limits that the requests share with others; none where all have one
            priority.
    """

    def __init__(self, pressure: Pressure, priority: int, brownouts: tuple[Brownout, ...]) -> None:
        super().__init__(None, 100, _BROWNOUT, "priority")
        if not 0 <= priority < len(PRESSURE_START):
            raise ValueError("there is no such priority")
        self._pressure = pressure
        self._priority = priority
        self._brownouts = brownouts

    def enter(self, request: Request, now: float) -> bool:
        """Shed a request or let it pass."""
        pressure = self._pressure
        if pressure.value > 0.0 and pressure.sheds(self._priority):
            self.reason = pressure.reason
            return False
        for brownout in self._brownouts:
            if brownout.sheds(self._priority, now):
                self.reason = _BROWNOUT
                return False
        return True

    def value(self) -> int:
        """Return the percentage that decides: that of the pressure, or of a limit in use."""
        found = int(self._pressure.value * 100)
        for brownout in self._brownouts:
            found = max(found, brownout.percent)
        return found

    def leave(self, admission: Admission) -> None:
        """Do nothing: no place was taken."""

    def withdraw(self) -> None:
        """Do nothing: no place was taken."""


class AdaptiveStage(AdmissionStage):
    """A limit that changes, on requests whose response head an upstream has not sent yet.

    Those whose body is on its way take no place: how long that takes is mostly the client's affair.

    Arguments:
        gate: Counts them.
        adaptive: The limit.
    """

    def __init__(self, gate: Gate, adaptive: AdaptiveLimit) -> None:
        super().__init__(gate, 0, _ADAPTIVE, "adaptive")
        self._adaptive = adaptive

    def enter(self, request: Request, now: float) -> bool:
        """Let a request in below the present limit."""
        self.limit = self._adaptive.limit()
        entered: bool = self.gate.try_enter(self.limit)
        return entered

    def answered(self, admission: Admission) -> None:
        """Learn how long the backend took, and give the place up."""
        if admission.status < 500:
            self._adaptive.observe(admission.now, admission.service_ms / 1000)
        self.gate.leave()

    def leave(self, admission: Admission) -> None:
        """Give the place up of a request that was not answered; it may have taken too long."""
        if admission.is_answered:
            return
        if admission.reason is _HEAD_TIMEOUT or admission.reason is _TRY_TIMEOUT:
            self._adaptive.observe(admission.now, admission.elapsed_ms / 1000)
        self.gate.leave()


class BackendStage(AdmissionStage):
    """A backend's circuit breaker, and the limit on what is in flight to it.

    Arguments:
        gate: Counts it.
        limit: How much there may be.
        breaker: The circuit breaker, if there is one.

    Attributes:
        ticket: Of the breaker, for the request that entered last.
    """

    def __init__(self, gate: Gate, limit: int, breaker: Breaker | None) -> None:
        super().__init__(gate, limit, _BACKEND_INFLIGHT, "backend")
        self._breaker = breaker

    def enter(self, request: Request, now: float) -> bool:
        """Let a request in if the backend is not left alone and has room."""
        breaker = self._breaker
        if breaker is not None:
            self.ticket = breaker.enter(now)
            if self.ticket < 0:
                self.reason = _CIRCUIT_OPEN
                return False
            self.reason = _BACKEND_INFLIGHT
        if self.gate.try_enter(self.limit):
            return True
        if breaker is not None:
            breaker.gave_up(self.ticket)
        return False

    def answered(self, admission: Admission) -> None:
        """Tell the breaker that the backend answers."""
        breaker = self._breaker
        if breaker is not None:
            breaker.answered(admission.ticket)

    def leave(self, admission: Admission) -> None:
        """Tell the breaker how the request ended, then give its place up."""
        breaker = self._breaker
        if breaker is not None:
            self._judge(breaker, admission)
        self.gate.leave()

    def _judge(self, breaker: Breaker, admission: Admission) -> None:
        outcome = outcome_of_reason(admission.reason)
        if outcome == _GATEWAY_ERROR:
            breaker.failed(admission.ticket, admission.now)
        elif outcome == _UNCOUNTED and admission.status == 0:
            breaker.gave_up(admission.ticket)
        else:
            breaker.succeeded(admission.ticket)
