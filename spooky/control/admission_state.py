"""What admission found out, read from the shared segment: adaptive limits and circuit breakers."""

from collections.abc import Callable, Iterator

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
        self._breakers: dict[tuple[str, str], Breaker] = {}

    def follow(self, configuration: Configuration) -> None:
        """Read what a configuration has."""
        self._limits = {
            name: limit
            for name in configuration.upstream
            if (limit := adaptive_limit_of(configuration, self._segment, name)) is not None
        }
        self._breakers = {
            (name, backend.id): breaker
            for name, upstream in configuration.upstream.items()
            for backend in upstream.backends
            if backend.state == "enabled"
            and (breaker := breaker_of(configuration, self._segment, name, backend.id)) is not None
        }

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
        for (name, backend), breaker in self._breakers.items():
            yield Fact(
                "backend_circuit_open",
                "Whether the circuit breaker of a backend is open or half-open.",
                int(not breaker.is_closed),
                (("upstream", name), ("backend", backend)),
            )
