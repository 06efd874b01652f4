"""What admission found out, read from the shared segment: adaptive limits and circuit breakers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from spooky._core.breaker import Breaker
from spooky._core.concurrency import AdaptiveLimit
from spooky._core.shared import Segment
from spooky.config.schema import Configuration
from spooky.control.answers import AdaptiveActivity
from spooky.generation.stages import (
    BREAKER_PHASES,
    REQUESTS,
    adaptive_limit_of,
    breaker_of,
)
from spooky.observe.metrics import Fact
from spooky.overload.places import shared_total


@dataclass(slots=True)
class _Brownout:
    """Whether requests are shed by their priority at a limit, as workers find it there.

    The present adaptive limit is not looked at: that of an upstream has its own metrics.
    """

    limit: int
    trigger: int
    recover: int
    is_active: bool = False

    def look(self, taken: int) -> None:
        """See whether they are, with so many requests in flight."""
        percent = 100 * taken / self.limit
        self.is_active = percent >= self.trigger or (self.is_active and percent > self.recover)


def _brownouts(configuration: Configuration) -> Iterator[tuple[tuple[str, ...], _Brownout]]:
    """Yield those of limits that routes of several priorities share."""
    settings = configuration.resilience.brownout
    if not settings.enabled:
        return
    trigger, recover = settings.trigger_inflight_percent, settings.recover_inflight_percent
    queue, performance = configuration.resilience.route_queue, configuration.performance
    priorities: dict[tuple[str, ...], set[str]] = {}
    for name, route in configuration.all_routes():
        scopes: tuple[tuple[str, ...], ...] = ("global",), ("upstream", name)
        for scope in scopes:
            priorities.setdefault(scope, set()).add(configuration.priority_of(name, route))
    for scope, several in priorities.items():
        if len(several) < 2:
            continue
        if scope == ("global",):
            caps = queue.global_cap, performance.global_inflight_limit
        else:
            own = queue.caps.get(scope[1], queue.default_cap)
            caps = own, performance.per_upstream_inflight_limit
        limit = min(cap for cap in caps if cap is not None)
        yield scope, _Brownout(limit, trigger, recover)


class AdmissionState:
    """Adaptive limits of upstreams, and circuit breakers of backends.

    Arguments:
        segment: Where workers share them.
        now: The time; seconds on the monotonic clock.
    """

    def __init__(self, segment: Segment, now: Callable[[], float]) -> None:
        self._segment = segment
        self._now = now
        self._limits: dict[str, AdaptiveLimit] = {}
        self._brownouts: dict[tuple[str, ...], _Brownout] = {}
        self._breakers: dict[tuple[str, str], Breaker] = {}

    def follow(self, configuration: Configuration) -> None:
        """Read what a configuration has."""
        self._limits = {
            name: limit
            for name in configuration.upstream
            if (limit := adaptive_limit_of(configuration, self._segment, name)) is not None
        }
        before = self._brownouts
        self._brownouts = {
            scope: replace(one, is_active=before[scope].is_active if scope in before else False)
            for scope, one in _brownouts(configuration)
        }
        self._breakers = {
            (name, backend.id): breaker
            for name, upstream in configuration.upstream.items()
            for backend in upstream.backends
            if backend.state == "enabled"
            and (breaker := breaker_of(configuration, self._segment, name, backend.id)) is not None
        }

    def look(self) -> bool:
        """Follow the brownouts of workers; return whether there can be any."""
        for scope, brownout in self._brownouts.items():
            brownout.look(shared_total(self._segment, REQUESTS, *scope))
        return bool(self._brownouts)

    def lets_through(self, upstream: str, backend: str) -> bool:
        """Return whether a backend's breaker would let a request try it now."""
        breaker = self._breakers.get((upstream, backend))
        return breaker is None or breaker.remaining(self._now()) == 0.0

    def adaptive(self, upstream: str) -> AdaptiveActivity | None:
        """Return what is known of an upstream's adaptive limit, if it has one."""
        limit = self._limits.get(upstream)
        if limit is None:
            return None
        unanswered = shared_total(self._segment, REQUESTS, "adaptive", upstream)
        return AdaptiveActivity(limit.limit(), unanswered, round(1000 * limit.minimum, 3))

    def breaker(self, upstream: str, backend: str) -> str | None:
        """Return what a backend's circuit breaker is, if it has one."""
        breaker = self._breakers.get((upstream, backend))
        return BREAKER_PHASES[breaker.phase] if breaker is not None else None

    def facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell of it."""
        for name, limit in self._limits.items():
            labels = (("upstream", name),)
            yield Fact(
                "upstream_concurrency_limit",
                "The adaptive limit on requests to an upstream that have no response head yet.",
                limit.limit(),
                labels,
            )
            yield Fact(
                "upstream_requests_unanswered",
                "Requests to an upstream that have no response head yet.",
                shared_total(self._segment, REQUESTS, "adaptive", name),
                labels,
            )
            yield Fact(
                "upstream_minimum_latency_seconds",
                "Median latency among few requests, which the adaptive limit goes by.",
                limit.minimum,
                labels,
            )
        self.look()
        for (scope, *names), brownout in self._brownouts.items():
            yield Fact(
                "brownout_active",
                "Whether so many requests are in flight that those of low priority are shed.",
                int(brownout.is_active),
                (("scope", scope), ("upstream", names[0] if names else "")),
            )
        for (name, backend), breaker in self._breakers.items():
            yield Fact(
                "backend_circuit_open",
                "Whether the circuit breaker of a backend is open or half-open.",
                int(not breaker.is_closed),
                (("upstream", name), ("backend", backend)),
            )
