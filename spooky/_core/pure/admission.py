# cython: annotation_typing=False
"""Letting an exchange in: the stages it passes, and its backend.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. Upstreams and their
backends are those of ``generation/generation.py``.
"""

from typing import Any

from spooky._core import reasons
from spooky._core.balance import hash_key
from spooky._core.gate import Gate
from spooky._core.reasons import Fault, Reason
from spooky._core.validate import Request

_COMPLETED = reasons.COMPLETED


class AdmissionStage:
    """A limit on what is in flight, and where that is counted.

    A subclass may decide otherwise, or learn from how tries end.

    Arguments:
        gate: Counts what is in flight.
        limit: How much there may be.
        reason: Why an exchange is refused that finds no room.
    """

    def __init__(self, gate: Gate, limit: int, reason: Reason) -> None:
        self.gate = gate
        self.limit = limit
        self.reason = reason

    def enter(self, request: Request) -> bool:
        """Let a request in if there is room; then :meth:`leave` is owed."""
        return self.gate.try_enter(self.limit)

    def leave(self, reason: Reason, status: int, elapsed_ms: float) -> None:
        """Give the place up, and learn how the try ended; see :meth:`Admission.leave`."""
        self.gate.leave()

    def withdraw(self) -> None:
        """Give the place up of a request that was refused further on: no try was made."""
        self.gate.leave()


class Refusal:
    """Why an exchange was not let in.

    Attributes:
        reason: Why.
        stage: Where it may wait for room; ``None`` where waiting does not help.
    """

    def __init__(self, reason: Reason, stage: AdmissionStage | None) -> None:
        self.reason = reason
        self.stage = stage


class Admission:
    """A try's places in flight; leave them exactly once.

    Arguments:
        upstream: Where it was let in.
        index: Position of its backend in ``upstream.backends``.

    Attributes:
        upstream: Where it was let in.
        index: Position of its backend.
        backend: The backend that was chosen.
    """

    def __init__(self, upstream: Any, index: int) -> None:
        self.upstream = upstream
        self.index = index
        self.backend = upstream.backends[index]
        self._open = True

    def leave(self, reason: Reason, status: int, elapsed_ms: float, latency_ms: float) -> None:
        """Give the places up and tell everyone who learns from tries how this one ended.

        This is the one place that learns it; idempotent.

        Arguments:
            reason: Why it ended.
            status: That of the response; 0 if there was none.
            elapsed_ms: Time from its start to the response head; to its end if it did not complete.
            latency_ms: Time from the connection to the response head; negative if there is none to
                learn from.
        """
        if not self._open:
            return
        self._open = False
        upstream = self.upstream
        observers = upstream.observers
        for observe in observers:
            observe(self.index, reason, status, elapsed_ms)
        balancer = upstream.balancer
        tally = self.backend.tally
        if reason is _COMPLETED:
            tally.answered(status, elapsed_ms)
        else:
            tally.failed(reason, status)
        if reason is _COMPLETED or reason.fault is Fault.CLIENT:
            balancer.finished(self.index, latency_ms)
        else:
            balancer.failed(self.index, elapsed_ms)
        stage = self.backend.stage
        stage.leave(reason, status, elapsed_ms)
        stages = upstream.stages
        passed = len(stages)
        while passed > 0:
            passed -= 1
            stage = stages[passed]
            stage.leave(reason, status, elapsed_ms)


def admit(
    upstream: Any, request: Request, address: bytes, connection_id: bytes
) -> Admission | Refusal:
    """Pass every stage and choose a backend with room, or take no place at all.

    A backend without room is passed over once for another.

    Arguments:
        upstream: Where the request's route leads.
        request: The request.
        address: The client's, for balancing by it.
        connection_id: Likewise.
    """
    stages = upstream.stages
    passed = 0
    while passed < len(stages):
        stage = stages[passed]
        if not stage.enter(request):
            _withdraw(stages, passed)
            return Refusal(stage.reason, stage)
        passed += 1
    key = 0
    if upstream.key_source is not None:
        key = hash_key(upstream.key_source.extract(request, address, connection_id))
    return _choose(upstream, request, key)


def _choose(upstream: Any, request: Request, key: int) -> Admission | Refusal:
    """Choose a backend with room; without one, give the stages' places back."""
    balancer = upstream.balancer
    stages = upstream.stages
    backends = upstream.backends
    index = balancer.pick(key)
    if index < 0:
        _withdraw(stages, len(stages))
        return Refusal(reasons.NO_BACKEND, None)
    stage = backends[index].stage
    if not stage.enter(request):
        index = balancer.pick_other(key, index)
        if index < 0 or not _enter(backends[index].stage, request):
            _withdraw(stages, len(stages))
            return Refusal(stage.reason, stage)
    balancer.started(index)
    return Admission(upstream, index)


def _enter(stage: AdmissionStage, request: Request) -> bool:
    """Enter a stage; here for its type."""
    return stage.enter(request)


def _withdraw(stages: tuple[AdmissionStage, ...], count: int) -> None:
    """Give the places at the first so many stages up, the last one first."""
    while count > 0:
        count -= 1
        stage = stages[count]
        stage.withdraw()
