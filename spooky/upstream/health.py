"""Whether a backend can serve: what all processes of the machine know, and what follows from it."""

from collections.abc import Mapping
from typing import Final

from spooky._core.balance import Balancer, hash_key
from spooky._core.reasons import TABLE, Reason
from spooky._core.shared import Segment, Words
from spooky.config.health import HealthCheck
from spooky.runtime import Runtime

LOOK_SECONDS: Final = 0.1
"""How often a worker looks for changes of health; so long a backend may go on getting requests."""

DELAY_FACTORS: Final = (1, 2, 4)
"""After no, one, and more failures in a row, so many intervals pass until the next check."""

# Positions of the words.
_FAILING_CHECKS: Final = 0
_EJECTED_FOR: Final = 1  # One more than the index of the reason; 0 where it is not ejected.
_EJECTED_UNTIL: Final = 2  # Milliseconds on the monotonic clock, which all processes share.
_EJECTIONS: Final = 3
_CALM_SINCE: Final = 4


def backend_words(segment: Segment, purpose: str, upstream: str, backend: str) -> Words | None:
    """Return words about a backend that all processes share; ``None`` if there is no room."""
    return segment.words(hash_key("\0".join((purpose, upstream, backend)).encode()))


class BackendHealth:
    """What is known of one backend, in the segment that all processes share.

    Only one process changes it: the one that checks backends and judges how requests end.

    Arguments:
        segment: The segment.
        upstream: Name of its upstream.
        backend: Its id.
    """

    __slots__ = ("_segment", "_words")

    def __init__(self, segment: Segment, upstream: str, backend: str) -> None:
        self._segment = segment
        self._words = backend_words(segment, "health", upstream, backend)

    @property
    def can_serve(self) -> bool:
        """Whether it should get requests; always where the segment has no room to say otherwise."""
        return not self.is_failing and self.ejected_for is None

    @property
    def is_failing(self) -> bool:
        """Whether its checks fail."""
        return self._load(_FAILING_CHECKS) != 0

    def set_failing(self, failing: bool) -> None:
        """Say whether its checks fail."""
        if self._words is not None and self.is_failing != failing:
            self._words.store(_FAILING_CHECKS, int(failing))
            self._segment.note_health()

    # --- ejection -----------------------------------------------------------------------------

    @property
    def ejected_for(self) -> Reason | None:
        """Why it is ejected, if it is."""
        code = self._load(_EJECTED_FOR)
        return TABLE[code - 1] if code else None

    @property
    def ejected_until(self) -> float:
        """When its ejection ends; seconds."""
        return self._load(_EJECTED_UNTIL) / 1000

    @property
    def ejections(self) -> int:
        """How many of its ejections followed closely on each other, up to now."""
        return self._load(_EJECTIONS)

    @property
    def calm_since(self) -> float:
        """Since when nothing was held against it; seconds."""
        return self._load(_CALM_SINCE) / 1000

    def eject(self, reason: Reason, until: float) -> None:
        """Say that it is ejected once more, until a time in seconds."""
        if self._words is not None:
            self._words.store(_EJECTED_UNTIL, int(until * 1000))
            self._words.add(_EJECTIONS)
            self._words.store(_EJECTED_FOR, reason.index + 1)
            self._segment.note_health()

    def readmit(self, now: float) -> None:
        """Say that its ejection is over."""
        if self._words is not None:
            self._words.store(_EJECTED_FOR, 0)
            self._words.store(_CALM_SINCE, int(now * 1000))
            self._segment.note_health()

    def forgive(self, now: float, ejections: int) -> None:
        """Count no more ejections than so many, as nothing was held against it for long."""
        if self._words is not None:
            self._words.store(_EJECTIONS, ejections)
            self._words.store(_CALM_SINCE, int(now * 1000))

    def _load(self, position: int) -> int:
        return self._words.load(position) if self._words is not None else 0


class UpstreamHealth:
    """Takes the backends that cannot serve out of an upstream's choice.

    Arguments:
        balancer: The upstream's.
        backends: Health of each enabled backend by its position; ``None`` for one that is
            neither checked nor ejected, and always can serve.
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
        """Whether any backend can be out of the choice."""
        return any(one is not None for one in self._backends.values())

    def apply(self) -> None:
        """Put each backend in or out of the choice."""
        serving = {at: one is None or one.can_serve for at, one in self._backends.items()}
        if not any(serving.values()):
            # Those that are ejected served some, at least.
            serving = {at: one is None or not one.is_failing for at, one in self._backends.items()}
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
