"""Making the stages of admission that a configuration asks for."""

import logging
from collections.abc import Callable
from typing import Final

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
    PRIORITIES,
    STEP,
    TOLERANCE_PERCENT,
)
from spooky.config.schema import Configuration, Route
from spooky.observe.counters import Counters
from spooky.overload.places import shared_words

logger = logging.getLogger(__name__)

REQUESTS: Final = "requests"
"""What the limits are of, in the identities of their places."""

BREAKER_PHASES: Final = {CLOSED: "closed", OPEN: "open", HALF_OPEN: "half_open"}
"""What circuit breakers are, in words."""


class StageMaker:
    """Makes the stages of one generation; those of one limit are one object.

    Arguments:
        configuration: What is asked for.
        counters: The worker's, in the segment where what is known of upstreams and backends is
            shared.
        gate: Returns the gate of an identity.
        pressure: Of the worker.
    """

    def __init__(
        self,
        configuration: Configuration,
        counters: Counters,
        gate: Callable[..., Gate],
        pressure: Pressure,
    ) -> None:
        self._configuration = configuration
        self._resilience = configuration.resilience
        self._performance = configuration.performance
        self._counters = counters
        self._segment = counters.segment
        self._gate = gate
        self._pressure = pressure
        self._global = self._global_stage()
        self._priorities: dict[str, set[int]] = {}
        for name, route in configuration.all_routes():
            self._priorities.setdefault(name, set()).add(self._priority(name, route))
        everywhere = set().union(*self._priorities.values())
        self._of_all = self._brownout(everywhere, self._global.gate, self._global.limit, None)
        self._of_upstream: dict[str, tuple[tuple[Brownout, ...], tuple[AdmissionStage, ...]]] = {}

    def of_route(self, upstream: str, route: Route, name: str) -> tuple[AdmissionStage, ...]:
        """Return what requests by a route have to pass before a backend is chosen.

        Arguments:
            upstream: Where the route leads.
            name: What makes the route the same in another generation.
        """
        if upstream not in self._of_upstream:
            self._of_upstream[upstream] = self._upstream_stages(upstream)
        brownouts, stages = self._of_upstream[upstream]
        priority = PriorityStage(self._pressure, self._priority(upstream, route), brownouts)
        if route.max_inflight is None:
            return (priority, *stages, self._global)
        cap = AdmissionStage(
            self._gate("route", name), route.max_inflight, reasons.ROUTE_CAP, "route"
        )
        return (priority, *stages, cap, self._global)

    def of_backend(self, upstream: str, backend: str) -> BackendStage:
        """Return what requests to a backend have to pass."""
        return BackendStage(
            self._gate("backend", upstream, backend),
            self._performance.per_backend_inflight_limit,
            breaker_of(
                self._configuration,
                self._segment,
                upstream,
                backend,
                teller(self._counters, upstream, backend),
            ),
        )

    def _priority(self, upstream: str, route: Route) -> int:
        return PRIORITIES.index(self._configuration.priority_of(upstream, route))

    def _global_stage(self) -> AdmissionStage:
        limit, reason = _lower(
            self._resilience.route_queue.global_cap,
            reasons.ROUTE_GLOBAL_CAP,
            self._performance.global_inflight_limit,
            reasons.GLOBAL_INFLIGHT,
        )
        return AdmissionStage(self._gate("global"), limit, reason, "global")

    def _upstream_stages(
        self, name: str
    ) -> tuple[tuple[Brownout, ...], tuple[AdmissionStage, ...]]:
        queue = self._resilience.route_queue
        limit, reason = _lower(
            queue.caps.get(name, queue.default_cap),
            reasons.ROUTE_CAP,
            self._performance.per_upstream_inflight_limit,
            reasons.UPSTREAM_INFLIGHT,
        )
        stages = [AdmissionStage(self._gate("upstream", name), limit, reason, "upstream")]
        priorities = self._priorities[name]
        brownouts = [
            *self._of_all,
            *self._brownout(priorities, stages[0].gate, limit, None),
        ]
        adaptive = adaptive_limit_of(self._configuration, self._segment, name)
        if adaptive is not None:
            gate = self._gate("adaptive", name)
            stages.insert(0, AdaptiveStage(gate, adaptive))
            brownouts += self._brownout(priorities, gate, limit, adaptive)
        return tuple(brownouts), tuple(stages)

    def _brownout(
        self, priorities: set[int], gate: Gate | None, limit: int, adaptive: AdaptiveLimit | None
    ) -> tuple[Brownout, ...]:
        """Return the brownout of a limit that these priorities share; none if they are one."""
        settings = self._resilience.brownout
        if not settings.enabled or len(priorities) < 2 or gate is None:
            return ()
        trigger, recover = settings.trigger_inflight_percent, settings.recover_inflight_percent
        return (Brownout(gate, limit, adaptive, trigger, recover, max(priorities)),)


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
