# cython: annotation_typing=False
"""Letting an exchange in: the stages it passes, and its backend.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from typing import Any, Final

from spooky._core import reasons
from spooky._core.balance import Balancer, hash_key
from spooky._core.decisions import Admitted
from spooky._core.fields import ForwardingPolicy
from spooky._core.gate import Gate
from spooky._core.outcomes import Tally
from spooky._core.reasons import Fault, Reason
from spooky._core.validate import Request

_COMPLETED = reasons.COMPLETED
_CIRCUIT_OPEN = reasons.CIRCUIT_OPEN


SCAN_MAX: Final = 16
"""Backends that are looked at one by one, where two that the balancer chose let nothing in."""

PASSED_MAX: Final = 8
"""Backends that are remembered as passed over: more would cost every request of an overload."""

_SCAN_MAX = SCAN_MAX
_PASSED_MAX = PASSED_MAX


class AdmissionStage:
    """A limit on what is in flight, and where that is counted.

    A subclass may decide otherwise, or learn from how tries end.

    Arguments:
        gate: Counts what is in flight; ``None`` for a stage that takes no place.
        limit: How much there may be.
        reason: Why an exchange is refused that finds no room.
        name: What is limited, for people.

    Attributes:
        gate: Where a request may wait for room, see there; ``None`` where waiting does not help.
        limit: The limit as of the last request.
        reason: Why the last request was refused, if it was.
        name: What is limited.
        ticket: What the stage has to know of the last request when that ends.
    """

    def __init__(
        self, gate: Gate | None, limit: int, reason: Reason, name: str = "inflight"
    ) -> None:
        self.gate: Any = gate
        self.limit = limit
        self.reason = reason
        self.name = name
        self.ticket = 0

    def enter(self, request: Request, now: float) -> bool:
        """Let a request in if there is room; then :meth:`leave` is owed.

        Arguments:
            now: Seconds on a clock that all workers share.
        """
        entered: bool = self.gate.try_enter(self.limit)
        return entered

    def answered(self, admission: "Admission") -> None:
        """Learn that the response head came."""

    def leave(self, admission: "Admission") -> None:
        """Give the place up, and learn how the try ended."""
        self.gate.leave()

    def withdraw(self) -> None:
        """Give the place up of a request that was refused further on: no try was made."""
        self.gate.leave()

    def value(self) -> int:
        """Return the number that is held against the limit, for whoever asks why."""
        taken: int = self.gate.taken()
        return taken


class Backend:
    """One backend of an upstream, as a request sees it.

    Attributes:
        id: Its name.
        scheme: ``http`` or ``https``; what its requests say.
        authority: Its own authority, for the ``upstream`` host policy.
        pool: Its connections, see ``upstream/pool.py``.
        stage: Limits its requests in flight.
        tally: Counts how tries end there.
        health: What is known of whether it can serve, see ``upstream/health.py``.
    """

    def __init__(
        self,
        id: str,
        scheme: bytes,
        authority: bytes,
        pool: Any,
        stage: AdmissionStage,
        tally: Tally,
        health: Any,
    ) -> None:
        self.id = id
        self.scheme = scheme
        self.authority = authority
        self.pool = pool
        self.stage = stage
        self.tally = tally
        self.health = health


class Upstream:
    """One upstream, as a request sees it; what a route leads to.

    Attributes:
        name: Its name.
        balancer: Chooses among ``backends`` by position.
        key_source: Where the balancing key comes from; ``None`` if none is used.
        backends: In the order of the configuration.
        forwarding: How requests are rewritten.
        retry: When its requests are tried again, see ``overload/retry.py``.
        stages: What a request has to pass before a backend is chosen, in this order.
        excluded: Tells which backends are not in the choice, and why; see ``upstream/excluded.py``.
        budget: Of ``retry``: bounds retries; ``None`` for no bound.
        is_timed: Of ``retry``: whether anything happens some time after a try begins.
    """

    def __init__(
        self,
        name: str,
        balancer: Balancer,
        key_source: Any,
        backends: tuple[Backend, ...],
        forwarding: ForwardingPolicy,
        retry: Any,
        stages: tuple[AdmissionStage, ...],
        excluded: Any,
    ) -> None:
        self.name = name
        self.balancer = balancer
        self.key_source = key_source
        self.backends = backends
        self.forwarding = forwarding
        self.retry = retry
        self.stages = stages
        self.excluded = excluded
        self.budget: Any = retry.budget
        self.is_timed: bool = retry.is_timed

    def behind(self, stages: tuple[AdmissionStage, ...]) -> "Upstream":
        """Return the same upstream, reached through other stages."""
        return Upstream(
            self.name, self.balancer, self.key_source, self.backends, self.forwarding, self.retry,
            stages, self.excluded,
        )  # fmt: skip


class Refusal:
    """Why an exchange was not let in, with the numbers of that moment.

    Attributes:
        reason: Why.
        stage: Where; ``None`` if no backend is in the choice.
        value: What was held against the limit.
        limit: The limit.
        gate: Where it may wait for room; ``None`` where waiting does not help.
        passed: The backends that did not let it in; ``None`` if it did not come so far.
        admitted: The stages that had let it in before, with their numbers, if that is known.
    """

    def __init__(self, reason: Reason, stage: AdmissionStage | None) -> None:
        self.reason = reason
        self.stage = stage
        self.value = 0
        self.limit = 0
        self.gate: Gate | None = None
        self.passed: list[PassedOver] | None = None
        self.admitted: Admitted | None = None
        if stage is not None:
            self.value = stage.value()
            self.limit = stage.limit
            if reason is not _CIRCUIT_OPEN:
                self.gate = stage.gate


class PassedOver:
    """A backend that was chosen and did not let the request in, with the numbers of that moment.

    Attributes:
        index: Its position.
        stage: What did not let it in.
        reason: Why.
        value: What was held against the limit.
        limit: The limit.
    """

    def __init__(self, index: int, stage: AdmissionStage) -> None:
        self.index = index
        self.stage = stage
        self.reason = stage.reason
        self.value = stage.value()
        self.limit = stage.limit


class Admission:
    """A try's places in flight; leave them exactly once.

    Arguments:
        upstream: Where it was let in.
        index: Position of its backend in ``upstream.backends``.
        ticket: What the backend's stage has to know of it.

    Attributes:
        upstream: Where it was let in.
        index: Position of its backend.
        backend: The backend that was chosen.
        ticket: What the backend's stage has to know of it.
        is_answered: Whether the response head came.
        status: That of the response; 0 before there is one.
        service_ms: Time the backend took from the whole request to the response head; negative if
            it is not known.
        reason: Why it ended.
        elapsed_ms: Time from its start to the response head; to its end if it did not complete.
        now: When the response head came, or it ended; seconds.
        passed: The backends that were chosen before and did not let it in, if there are any.
    """

    def __init__(self, upstream: Upstream, index: int, ticket: int) -> None:
        self.upstream = upstream
        self.index = index
        self.ticket = ticket
        backends = upstream.backends
        self.backend = backends[index]
        self.is_answered = False
        self.status = 0
        self.service_ms = -1.0
        self.reason: Reason = _COMPLETED
        self.elapsed_ms = 0.0
        self.now = 0.0
        self.passed: list[PassedOver] | None = None
        self._open = True

    def answered(self, now: float, status: int, service_ms: float) -> None:
        """Tell the stages that the response head came.

        Arguments:
            now: Seconds.
            status: That of the response.
            service_ms: See :attr:`service_ms`.
        """
        if self.is_answered or not self._open:
            return
        self.is_answered = True
        self.now = now
        self.status = status
        self.service_ms = service_ms
        stages = self.upstream.stages
        for stage in stages:
            stage.answered(self)
        stage = self.backend.stage
        stage.answered(self)

    def leave(
        self, reason: Reason, status: int, elapsed_ms: float, latency_ms: float, now: float
    ) -> None:
        """Give the places up and tell everyone who learns from tries how this one ended.

        This is the one place that learns it; idempotent.

        Arguments:
            reason: Why it ended.
            status: That of the response; 0 if there was none.
            elapsed_ms: Time from its start to the response head; to its end if it did not complete.
            latency_ms: Time from the connection to the response head; negative if there is none to
                learn from.
            now: When it was answered, or ended if it did not complete; seconds.
        """
        if not self._open:
            return
        self._open = False
        self.reason = reason
        self.status = status
        self.elapsed_ms = elapsed_ms
        self.now = now
        upstream = self.upstream
        balancer = upstream.balancer
        tally = self.backend.tally
        if reason is _COMPLETED:
            tally.answered(status, elapsed_ms)
        else:
            tally.failed(reason, status)
        if reason is _COMPLETED or reason.fault is not Fault.UPSTREAM:
            balancer.finished(self.index, latency_ms)
        else:
            balancer.failed(self.index, elapsed_ms)
        stage = self.backend.stage
        stage.leave(self)
        stages = upstream.stages
        passed = len(stages)
        while passed > 0:
            passed -= 1
            stage = stages[passed]
            stage.leave(self)


def admit(
    upstream: Upstream, request: Request, address: bytes, connection_id: bytes, now: float
) -> Admission | Refusal:
    """Pass every stage and choose a backend with room, or take no place at all.

    A backend that lets nothing in is passed over for another.

    Arguments:
        upstream: Where the request's route leads.
        request: The request.
        address: The client's, for balancing by it.
        connection_id: Likewise.
        now: Seconds on a clock that all workers share.
    """
    stages = upstream.stages
    passed = 0
    while passed < len(stages):
        stage = stages[passed]
        if not stage.enter(request, now):
            refusal = Refusal(stage.reason, stage)
            refusal.admitted = _passed_stages(stages, passed)
            _withdraw(stages, passed)
            return refusal
        passed += 1
    key = 0
    if upstream.key_source is not None:
        key = hash_key(upstream.key_source.extract(request, address, connection_id))
    return _choose(upstream, request, key, now)


def admitted_by(admission: Admission) -> Admitted:
    """Return the stages that let a request in, with their numbers, and what was compared."""
    upstream = admission.upstream
    stages = upstream.stages
    admitted = _passed_stages(stages, len(stages))
    _note_stage(admitted, admission.backend.stage)
    balancer = upstream.balancer
    balancer.note_choice(admission.index, admitted)
    return admitted


def _passed_stages(stages: tuple[AdmissionStage, ...], count: int) -> Admitted:
    """Return the first so many stages with their numbers, while their places are taken."""
    admitted = Admitted()
    at = 0
    while at < count:
        _note_stage(admitted, stages[at])
        at += 1
    return admitted


def _note_stage(admitted: Admitted, stage: AdmissionStage) -> None:
    """Note one stage; here for its type."""
    admitted.add(stage.name, stage.value(), stage.limit)


def _choose(upstream: Upstream, request: Request, key: int, now: float) -> Admission | Refusal:
    """Choose a backend that lets the request in; without one, give the stages' places back."""
    balancer = upstream.balancer
    stages = upstream.stages
    backends = upstream.backends
    index = balancer.pick(key)
    if index < 0:
        refusal = Refusal(reasons.NO_BACKEND, None)
        refusal.admitted = _passed_stages(stages, len(stages))
        _withdraw(stages, len(stages))
        return refusal
    backend = backends[index]
    stage = backend.stage
    if stage.enter(request, now):
        balancer.started(index)
        return Admission(upstream, index, stage.ticket)
    passed = [PassedOver(index, stage)]
    index = _choose_other(upstream, request, key, passed, now)
    if index < 0:
        refusal = refusal_of(passed)
        refusal.admitted = _passed_stages(stages, len(stages))
        _withdraw(stages, len(stages))
        return refusal
    stage = backends[index].stage
    balancer.started(index)
    admission = Admission(upstream, index, stage.ticket)
    admission.passed = passed
    return admission


def refusal_of(passed: list[PassedOver]) -> Refusal:
    """Return the refusal of the backend that could have served soonest, of at least one.

    A place may be free any moment; an open circuit breaker lets nothing in for long.
    """
    best = passed[0]
    for other in passed:
        if best.reason is _CIRCUIT_OPEN and other.reason is not _CIRCUIT_OPEN:
            best = other
    refusal = Refusal(best.reason, best.stage)
    refusal.passed = passed
    return refusal


def pass_over(passed: list[PassedOver], index: int, stage: AdmissionStage) -> None:
    """Remember a backend that did not let a request in, if it is one of the first, or matters."""
    if len(passed) < _PASSED_MAX:
        passed.append(PassedOver(index, stage))
    elif stage.reason is not _CIRCUIT_OPEN:
        # Who may wait waits for this one, if the others are left alone for long.
        passed[len(passed) - 1] = PassedOver(index, stage)


def _choose_other(
    upstream: Upstream, request: Request, key: int, passed: list[PassedOver], now: float
) -> int:
    """Enter another backend than the one that refused; return its position, or -1."""
    balancer = upstream.balancer
    backends = upstream.backends
    first = passed[0]
    refused = first.index
    index: int = balancer.pick_other(key, refused)
    if index < 0:
        return -1
    stage = backends[index].stage
    if stage.enter(request, now):
        return index
    pass_over(passed, index, stage)
    # From anywhere on, so that not one backend gets the requests of all that are left alone.
    count = len(backends)
    start = int(now * 1e6)
    for offset in range(min(count, _SCAN_MAX)):
        other = (start + offset) % count
        if other not in (index, refused) and balancer.is_eligible(other):
            stage = backends[other].stage
            if stage.enter(request, now):
                return other
            pass_over(passed, other, stage)
    return -1


def _withdraw(stages: tuple[AdmissionStage, ...], count: int) -> None:
    """Give the places at the first so many stages up, the last one first."""
    while count > 0:
        count -= 1
        stage = stages[count]
        stage.withdraw()
