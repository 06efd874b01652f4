"""Whether a backend can serve: what all processes of the machine know, and what follows from it."""

from collections.abc import Mapping
from typing import Final

from spooky._core.balance import Balancer, hash_key
from spooky._core.shared import Segment
from spooky.config.health import HealthCheck
from spooky.runtime import Runtime

LOOK_SECONDS: Final = 0.1
"""How often a worker looks for changes of health; so long a backend may go on getting requests."""

DELAY_FACTORS: Final = (1, 2, 4)
"""After no, one, and more failures in a row, so many intervals pass until the next check."""

_FAILING_CHECKS: Final = 0  # position of the word


class BackendHealth:
    """What is known of one backend, in the segment that all processes share.

    Arguments:
        segment: The segment.
        upstream: Name of its upstream.
        backend: Its id.
    """

    __slots__ = ("_segment", "_words")

    def __init__(self, segment: Segment, upstream: str, backend: str) -> None:
        self._segment = segment
        self._words = segment.words(hash_key("\0".join(("health", upstream, backend)).encode()))

    @property
    def can_serve(self) -> bool:
        """Whether it should get requests; always where the segment has no room to say otherwise."""
        return self._words is None or self._words.load(_FAILING_CHECKS) == 0

    def set_failing(self, failing: bool) -> None:
        """Say whether its checks fail; one process alone may."""
        if self._words is not None and self._words.load(_FAILING_CHECKS) != failing:
            self._words.store(_FAILING_CHECKS, int(failing))
            self._segment.note_health()


class UpstreamHealth:
    """Takes the backends that cannot serve out of an upstream's choice.

    Arguments:
        balancer: The upstream's.
        backends: Health of each enabled backend by its position; ``None`` for one that is not
            checked and always can serve.
        panic_threshold_percent: Where fewer can serve, all get requests, unless none can.
    """

    def __init__(
        self,
        balancer: Balancer,
        backends: Mapping[int, BackendHealth | None],
        panic_threshold_percent: int,
    ) -> None:
        self._balancer = balancer
        self._backends = backends
        self._panic_threshold_percent = panic_threshold_percent

    @property
    def can_change(self) -> bool:
        """Whether any backend is checked."""
        return any(one is not None for one in self._backends.values())

    def apply(self) -> None:
        """Put each backend in or out of the choice."""
        serving = {at: one is None or one.can_serve for at, one in self._backends.items()}
        count = sum(serving.values())
        panic = count > 0 and count * 100 < self._panic_threshold_percent * len(serving)
        for position, can_serve in serving.items():
            self._balancer.set_eligible(position, can_serve or panic)


class HealthWatch:
    """Has the upstreams of a worker follow changes of health.

    Arguments:
        runtime: The worker's.
        segment: Where health is known.
    """

    def __init__(self, runtime: Runtime, segment: Segment) -> None:
        self._runtime = runtime
        self._segment = segment
        self._seen = 0
        self._watched: set[UpstreamHealth] = set()

    def add(self, upstream: UpstreamHealth) -> None:
        """Apply an upstream's health, now and when it changes."""
        upstream.apply()
        if upstream.can_change:
            if not self._watched:
                self._schedule()
            self._watched.add(upstream)

    def remove(self, upstream: UpstreamHealth) -> None:
        """Follow an upstream's health no more."""
        self._watched.discard(upstream)

    def _schedule(self) -> None:
        self._runtime.schedule(self._runtime.now() + LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if not self._watched:
            return
        self._schedule()
        version = self._segment.health_version
        if version != self._seen:
            self._seen = version
            for upstream in self._watched:
                upstream.apply()


class CheckState:
    """Judges a backend by the results of its checks.

    So many failures in a row make it unhealthy; then, after the cooldown, so
    many successes in a row make it healthy again. A failure meanwhile starts the cooldown anew.

    Arguments:
        check: Its thresholds and times.
        healthy: What it begins as.

    Attributes:
        healthy: The judgement.
        failures: Failures in a row.
    """

    def __init__(self, check: HealthCheck, healthy: bool = True) -> None:
        self.healthy = healthy
        self.failures = 0
        self._check = check
        self._successes = 0
        self._cool_at = 0.0

    def failed(self, now: float) -> None:
        """Count a failure; seconds on any steady clock."""
        self.failures += 1
        self._successes = 0
        if self.failures >= self._check.failure_threshold:
            self.healthy = False
        if not self.healthy:
            self._cool_at = now + self._check.cooldown_ms / 1000

    def succeeded(self, now: float) -> None:
        """Count a success."""
        self.failures = 0
        if self.healthy or now < self._cool_at:
            return
        self._successes += 1
        if self._successes >= self._check.success_threshold:
            self.healthy = True
            self._successes = 0

    @property
    def delay(self) -> float:
        """Seconds until the next check, before jitter."""
        factor = DELAY_FACTORS[min(self.failures, len(DELAY_FACTORS) - 1)]
        return self._check.interval / 1000 * factor
