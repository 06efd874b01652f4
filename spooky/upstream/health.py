"""Whether a backend can serve: what all processes of the machine know, and what follows from it."""

from collections.abc import Collection, Mapping
from typing import Final

from spooky._core.balance import Balancer, hash_key
from spooky._core.reasons import TABLE, Reason
from spooky._core.shared import Segment, Words
from spooky.config.health import HealthCheck
from spooky.config.slow_start import SlowStart
from spooky.runtime import Runtime

LOOK_SECONDS: Final = 0.1
"""How often a worker looks for changes of health; so long a backend may go on getting requests."""

FULL_SHARE: Final = 100
"""Percent of its weight that a backend has after its slow start."""

DELAY_FACTORS: Final = (1, 2, 4)
"""After no, one, and more failures in a row, so many intervals pass until the next check."""

SAME_BEGINNING_SECONDS: Final = 5.0
"""Workers begin with a new generation within this time of each other."""

SHARE_STEP: Final = 1.1
"""A share that grows is applied when it has grown so many times: each step costs balancers work."""

# Positions of the words.
_FAILING_CHECKS: Final = 0
_EJECTED_FOR: Final = 1  # One more than the index of the reason; 0 where it is not ejected.
_EJECTED_UNTIL: Final = 2  # Milliseconds on the monotonic clock, which all processes share.
_EJECTIONS: Final = 3
_CALM_SINCE: Final = 4
_SERVING_SINCE: Final = 5  # 0 for always.


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

    def set_failing(self, failing: bool, now: float) -> None:
        """Say whether its checks fail."""
        if self._words is not None and self.is_failing != failing:
            self._words.store(_FAILING_CHECKS, int(failing))
            self._note_serving(now)
            self._segment.note_health()

    @property
    def serving_since(self) -> float:
        """Since when it can serve, now that it can; seconds, 0 for as long as anybody knows."""
        return self._load(_SERVING_SINCE) / 1000

    def begin(self, now: float) -> None:
        """Say that it is new; all workers may, and the first of them counts."""
        if self._words is None:
            return
        since = self._words.load(_SERVING_SINCE)
        if since < (now - SAME_BEGINNING_SECONDS) * 1000:
            self._words.swap(_SERVING_SINCE, since, int(now * 1000))

    # --- ejection -----------------------------------------------------------------------------

    @property
    def ejected_for(self) -> Reason | None:
        """Why it is ejected, if it is."""
        code = self._load(_EJECTED_FOR)
        return TABLE[code - 1] if 0 < code <= len(TABLE) else None

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
            self._note_serving(now)
            self._segment.note_health()

    def forgive(self, now: float, ejections: int) -> None:
        """Count no more ejections than so many, as nothing was held against it for long."""
        if self._words is not None:
            self._words.store(_EJECTIONS, ejections)
            self._words.store(_CALM_SINCE, int(now * 1000))

    def _note_serving(self, now: float) -> None:
        if self._words is not None and self.can_serve:
            self._words.store(_SERVING_SINCE, int(now * 1000))

    def _load(self, position: int) -> int:
        return self._words.load(position) if self._words is not None else 0


class UpstreamHealth:
    """Takes the backends that cannot serve out of an upstream's choice.

    Arguments:
        balancer: The upstream's.
        backends: Health of each enabled backend by its position; ``None`` for one that is
            neither checked nor ejected, and always can serve.
        panic_threshold_percent: Where fewer can serve, all get requests, unless none can.
        slow_start: How the weight of one grows that begins or returns; ``None`` for at once.
        new: Positions of those that begin with this generation.
    """

    def __init__(
        self,
        balancer: Balancer,
        backends: Mapping[int, BackendHealth | None],
        panic_threshold_percent: int,
        slow_start: SlowStart | None = None,
        new: Collection[int] = (),
    ) -> None:
        self._balancer = balancer
        self._backends = backends
        self._panic_threshold_percent = panic_threshold_percent
        self._slow_start = slow_start
        self._new = new
        self._shares = dict.fromkeys(backends, FULL_SHARE)
        self._is_growing = False

    @property
    def can_change(self) -> bool:
        """Whether any backend can be out of the choice, or have less than its weight."""
        return any(one is not None for one in self._backends.values())

    @property
    def is_growing(self) -> bool:
        """Whether the weight of any backend still grows."""
        return self._is_growing

    def prepare(self, now: float) -> None:
        """Put the balancer in the state of now, before it comes in force.

        Only if no other balancer has the same loads: else theirs would change too.
        """
        self.apply(now)
        if self._slow_start is not None:
            for position in self._new:
                self._balancer.set_share(position, share_after(self._slow_start, 0.0))

    def begin(self, now: float) -> None:
        """Come in force."""
        for position in self._new:
            health = self._backends.get(position)
            if health is not None:
                health.begin(now)
        for position in self._backends:
            # What grew under the generation before may not have to any more.
            self._balancer.set_share(position, FULL_SHARE)
            self._shares[position] = FULL_SHARE
        self.apply(now)

    def apply(self, now: float) -> None:
        """Put each backend in or out of the choice, with the weight that it has by now."""
        serving = {at: one is None or one.can_serve for at, one in self._backends.items()}
        if not any(serving.values()):
            # Those that are ejected served some, at least.
            serving = {at: one is None or not one.is_failing for at, one in self._backends.items()}
        count = sum(serving.values())
        panic = count > 0 and count * 100 < self._panic_threshold_percent * len(serving)
        for position, can_serve in serving.items():
            self._balancer.set_eligible(position, can_serve or panic)
        self.grow(now)

    def grow(self, now: float) -> None:
        """Give each backend the weight that it has by now."""
        if self._slow_start is None:
            return
        for position, health in self._backends.items():
            share = share_of(self._slow_start, health, now) if health is not None else FULL_SHARE
            before = self._shares[position]
            if share == FULL_SHARE or share < before or share >= before * SHARE_STEP:
                self._shares[position] = share
                self._balancer.set_share(position, share)
        self._is_growing = any(share < FULL_SHARE for share in self._shares.values())


def share_of(slow_start: SlowStart, health: BackendHealth, now: float) -> int:
    """Return the share of its weight that a backend has by now; percent."""
    since = health.serving_since
    return share_after(slow_start, now - since) if since else FULL_SHARE


def share_after(slow_start: SlowStart, seconds: float) -> int:
    """Return the share of its weight that a backend has so long after it began; percent."""
    over = max(0.0, seconds) * 1000 / slow_start.window_ms
    if over >= 1:
        return FULL_SHARE
    return max(slow_start.min_weight_percent, int(FULL_SHARE * over ** (1 / slow_start.aggression)))


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
        upstream.begin(self._runtime.now())
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
        now, version = self._runtime.now(), self._segment.health_version
        changed, self._seen = version != self._seen, version
        for upstream in self._watched:
            if changed:
                upstream.apply(now)
            elif upstream.is_growing:
                upstream.grow(now)


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
