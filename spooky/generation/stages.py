"""Making the stages of admission that a configuration asks for."""

import logging
from collections.abc import Callable, Set
from typing import Final, TypeAlias

from spooky._core import reasons
from spooky._core.admission import AdmissionStage
from spooky._core.breaker import CLOSED, HALF_OPEN, OPEN, Breaker
from spooky._core.concurrency import AdaptiveLimit, Aimd, Gradient
from spooky._core.gate import Gate
from spooky._core.reasons import Reason
from spooky._core.shared import Segment
from spooky._core.stages import AdaptiveStage, BackendStage, Brownout, Pressure, PriorityStage
from spooky.config.overload import (
    HIGH_LATENCY_MS,
    MEASURE_INTERVAL_MS,
    MIN_LIMIT,
    STEP,
    TOLERANCE_PERCENT,
)
from spooky.config.schema import Configuration
from spooky.observe.counters import Counters
from spooky.overload.places import shared_words

logger = logging.getLogger(__name__)

REQUESTS: Final = "requests"
"""What the limits are of, in the identities of their places."""

BREAKER_PHASES: Final = {CLOSED: "closed", OPEN: "open", HALF_OPEN: "half_open"}
"""What circuit breakers are, in words."""

GetGate: TypeAlias = Callable[..., Gate]
"""Returns the gate of an identity, given as texts."""


class StageMaker:
    """Makes the stages of what has one context; those of the whole are the same for all.

    Arguments:
        configuration: What is asked for; upstreams and routes do not matter.
        counters: The worker's, in the segment where what is known of upstreams and backends is
            shared.
        pressure: Of the worker.
        gate: Returns the gate of an identity, for the stages of the whole.
        priorities: Of all routes there are.
    """

    def __init__(
        self,
        configuration: Configuration,
        counters: Counters,
        pressure: Pressure,
        gate: GetGate,
        priorities: Set[int],
    ) -> None:
        self._configuration = configuration
        self._resilience = configuration.resilience
        self._performance = configuration.performance
        self._counters = counters
        self._segment = counters.segment
        self._pressure = pressure
        self._global = self._global_stage(gate)
        self._of_all = self._brownout(priorities, self._global.gate, self._global.limit, None)

    def of_upstream(self, name: str, priorities: Set[int], gate: GetGate) -> "UpstreamStages":
        """Return the maker of the stages of an upstream's routes.

        Arguments:
            name: The upstream's.
            priorities: Of the routes that lead to it.
            gate: Returns the gate of an identity.
        """
        brownouts, stages = self._upstream_stages(name, priorities, gate)
        return UpstreamStages(self._pressure, brownouts, stages, self._global, gate)

    def of_backend(self, upstream: str, backend: str, gate: GetGate) -> BackendStage:
        """Return what requests to a backend have to pass."""
        return BackendStage(
            gate("backend", upstream, backend),
            self._performance.per_backend_inflight_limit,
            breaker_of(
                self._configuration,
                self._segment,
                upstream,
                backend,
                teller(self._counters, upstream, backend),
            ),
        )

    def _global_stage(self, gate: GetGate) -> AdmissionStage:
        limit, reason = _lower(
            self._resilience.route_queue.global_cap,
            reasons.ROUTE_GLOBAL_CAP,
            self._performance.global_inflight_limit,
            reasons.GLOBAL_INFLIGHT,
        )
        return AdmissionStage(gate("global"), limit, reason, "global")

    def _upstream_stages(
        self, name: str, priorities: Set[int], gate: GetGate
    ) -> tuple[tuple[Brownout, ...], tuple[AdmissionStage, ...]]:
        queue = self._resilience.route_queue
        limit, reason = _lower(
            queue.caps.get(name, queue.default_cap),
            reasons.ROUTE_CAP,
            self._performance.per_upstream_inflight_limit,
            reasons.UPSTREAM_INFLIGHT,
        )
        stages = [AdmissionStage(gate("upstream", name), limit, reason, "upstream")]
        brownouts = [
            *self._of_all,
            *self._brownout(priorities, stages[0].gate, limit, None),
        ]
        adaptive = adaptive_limit_of(self._configuration, self._segment, name)
        if adaptive is not None:
            adaptive_gate = gate("adaptive", name)
            stages.insert(0, AdaptiveStage(adaptive_gate, adaptive))
            brownouts += self._brownout(priorities, adaptive_gate, limit, adaptive)
        return tuple(brownouts), tuple(stages)

    def _brownout(
        self, priorities: Set[int], gate: Gate | None, limit: int, adaptive: AdaptiveLimit | None
    ) -> tuple[Brownout, ...]:
        """Return the brownout of a limit that these priorities share; none if they are one."""
        settings = self._resilience.brownout
        if not settings.enabled or len(priorities) < 2 or gate is None:
            return ()
        trigger, recover = settings.trigger_inflight_percent, settings.recover_inflight_percent
        return (Brownout(gate, limit, adaptive, trigger, recover, max(priorities)),)


class UpstreamStages:
    """Makes what requests have to pass before a backend of one upstream is chosen.

    Arguments:
        pressure: Of the worker.
        brownouts: That shed requests to it.
        stages: Of the upstream.
        of_all: The stage of the whole.
        gate: Returns the gate of an identity.
    """

    def __init__(
        self,
        pressure: Pressure,
        brownouts: tuple[Brownout, ...],
        stages: tuple[AdmissionStage, ...],
        of_all: AdmissionStage,
        gate: GetGate,
    ) -> None:
        self._pressure = pressure
        self._brownouts = brownouts
        self._stages = stages
        self._of_all = of_all
        self._gate = gate

    def of_route(
        self, name: str, priority: int, max_inflight: int | None
    ) -> tuple[AdmissionStage, ...]:
        """Return what requests by a route have to pass.

        Arguments:
            name: What makes the route the same in another generation.
            priority: Its place among the priorities.
            max_inflight: Its own limit, if it has one.
        """
        first = PriorityStage(self._pressure, priority, self._brownouts)
        if max_inflight is None:
            return (first, *self._stages, self._of_all)
        cap = AdmissionStage(self._gate("route", name), max_inflight, reasons.ROUTE_CAP, "route")
        return (first, *self._stages, cap, self._of_all)


def adaptive_limit_of(
    configuration: Configuration, segment: Segment, upstream: str
) -> AdaptiveLimit | None:
    """Return an upstream's adaptive limit; ``None`` if it has none, or there is no room for it."""
    settings = configuration.resilience.adaptive_admission
    if not settings.enabled:
        return None
    words = shared_words(segment, REQUESTS, "adaptive", upstream)
    if words is None:
        return None
    highest = settings.max_limit or configuration.performance.per_upstream_inflight_limit
    lowest = settings.min_limit or min(MIN_LIMIT, highest)
    if settings.algorithm == "aimd":
        return Aimd(
            words,
            lowest,
            highest,
            settings.increase_step or STEP,
            settings.decrease_step or STEP,
            (settings.high_latency_ms or HIGH_LATENCY_MS) / 1000,
        )
    tolerance = settings.latency_tolerance_percent or TOLERANCE_PERCENT
    interval = settings.measure_interval_ms or MEASURE_INTERVAL_MS
    return Gradient(words, lowest, highest, 1 + tolerance / 100, interval / 1000)


def breaker_of(
    configuration: Configuration,
    segment: Segment,
    upstream: str,
    backend: str,
    on_change: Callable[[int, int], object] | None = None,
) -> Breaker | None:
    """Return a backend's circuit breaker; ``None`` if it has none, or there is no room for it.

    Arguments:
        on_change: Called with what it is from then on, in the worker that makes it so.
    """
    settings = configuration.resilience.circuit_breaker
    if not settings.enabled:
        return None
    words = shared_words(segment, REQUESTS, "backend", upstream, backend)
    if words is None:
        return None
    return Breaker(
        words,
        settings.failure_threshold,
        settings.first_open_ms,
        settings.open_ms,
        settings.half_open_max_probes,
        on_change,
    )


def teller(counters: Counters, upstream: str, backend: str) -> Callable[[int, int], None]:
    """Return what counts and logs the changes of a circuit breaker."""

    def tell(phase: int, open_ms: int) -> None:
        to = BREAKER_PHASES[phase]
        labels = {"upstream": upstream, "backend": backend, "to": to}
        # Asked for each time, as counters may be forgotten meanwhile; changes are rare.
        counters.values[counters.slot("backend_circuit_changes_total", labels)] += 1
        if phase == OPEN:
            logger.warning(
                "the circuit breaker of %s of %s is open for %d ms: it failed time after time",
                backend, upstream, open_ms,
            )  # fmt: skip
        elif phase == HALF_OPEN:
            logger.info("the circuit breaker of %s of %s is half-open", backend, upstream)
        else:
            logger.info("the circuit breaker of %s of %s is closed again", backend, upstream)

    return tell


def _lower(
    cap: int | None, cap_reason: Reason, limit: int, limit_reason: Reason
) -> tuple[int, Reason]:
    """Return the lower of two limits that count the same, and why it refuses."""
    return (cap, cap_reason) if cap is not None and cap < limit else (limit, limit_reason)
