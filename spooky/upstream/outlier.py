"""Finding backends that serve worse than the others, and how long they are ejected for it.

Workers count how tries end (:mod:`spooky._core.outcomes`), one process looks at the counts of all
and decides; the time is an argument.
"""

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2, sqrt
from typing import Final, TypeVar

from spooky._core import reasons
from spooky._core.balance import hash_key
from spooky._core.breaker import OPEN, Breaker
from spooky._core.outcomes import (
    CONSECUTIVE_ERRORS,
    CONSECUTIVE_GATEWAY_ERRORS,
    ERRORS,
    LATENCIES,
    TIMED,
    TRIES,
    UNITS_PER_DOUBLING,
    Tally,
)
from spooky._core.reasons import Reason
from spooky._core.shared import Segment, Words
from spooky.config.outlier_detection import OutlierDetection
from spooky.upstream.health import BackendHealth, backend_words

logger = logging.getLogger(__name__)

ERROR_SHARE_RISE_MIN: Final = 0.03
"""The share of errors must be above that of the others by this: below it, retries do."""

LATENCY_RISE_MIN_MS: Final = 10.0
"""A typical latency must be above that of the others by this: nobody notices less."""

NORMAL_DEVIATIONS: Final = 1.4826
"""Standard deviations of a normal distribution for one median absolute deviation."""

_ALARM_KEY: Final = hash_key(b"outlier alarm")

Key = TypeVar("Key")


def make_tally(segment: Segment, upstream: str, backend: str, settings: OutlierDetection) -> Tally:
    """Return where a worker counts how tries at a backend end.

    It counts even where nothing is detected: others want to know, too.
    """
    enabled = settings.enabled
    return Tally(
        outcome_words(segment, upstream, backend),
        alarm_words(segment),
        (settings.consecutive_errors or 0) if enabled else 0,
        (settings.consecutive_gateway_errors or 0) if enabled else 0,
    )


def outcome_words(segment: Segment, upstream: str, backend: str) -> Words | None:
    """Return the words where the outcomes at a backend are counted."""
    return backend_words(segment, "outcomes", upstream, backend)


def alarm_words(segment: Segment) -> Words | None:
    """Return the words whose first one changes when some backend has too many errors in a row."""
    return segment.words(_ALARM_KEY)


# --- comparing --------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Sample:
    """What became of the tries at a backend in an interval.

    Attributes:
        tries: How many there were.
        errors: How many of them were errors.
        latencies: Sum of the latency units of successes.
        timed: How many of them are in that sum.
    """

    tries: int
    errors: int
    latencies: int = 0
    timed: int = 0

    @property
    def error_share(self) -> float:
        """Which share were errors."""
        return self.errors / self.tries

    @property
    def typical_latency(self) -> float:
        """The geometric mean of the latencies, in latency units."""
        return self.latencies / self.timed


def find_failing(samples: Mapping[Key, Sample], factor: float) -> list[Key]:
    """Return whose share of errors deviates from that of the others, the worst first.

    The yardstick is the median of the others, and the standard deviation what they differ by
    among themselves and what chance does to shares of so many. A second bad backend moves
    neither much.

    Arguments:
        samples: Of the backends that had enough tries.
        factor: How many standard deviations are too many.
    """
    shares = sorted(sample.error_share for sample in samples.values())
    tries = sum(sample.tries for sample in samples.values())
    together = sum(sample.errors for sample in samples.values()) / tries if tries else 0.0
    # By middle, of which there are three at most: sorted once, whoever is left out.
    spreads: dict[float, list[float]] = {}
    deviating = []
    for key, sample in samples.items():
        middle = _median_without(shares, sample.error_share)
        rise = sample.error_share - middle
        if rise < ERROR_SHARE_RISE_MIN:
            continue
        if middle not in spreads:
            spreads[middle] = sorted(abs(share - middle) for share in shares)
        between = NORMAL_DEVIATIONS * _median_without(spreads[middle], abs(rise))
        chance = together * (1 - together) * (1 / sample.tries + 1 / (tries - sample.tries))
        if rise > factor * sqrt(between * between + chance):
            deviating.append((rise, key))
    deviating.sort(key=lambda one: -one[0])
    return [key for _, key in deviating]


def find_slow(samples: Mapping[Key, Sample], factor: float) -> list[Key]:
    """Return whose typical latency is too many times that of the others, the slowest first.

    Arguments:
        samples: Of the backends that had enough successes.
        factor: How many times are too many.
    """
    latencies = sorted(sample.typical_latency for sample in samples.values())
    deviating = []
    for key, sample in samples.items():
        latency = sample.typical_latency
        middle = _median_without(latencies, latency)
        rise_ms = milliseconds(latency) - milliseconds(middle)
        if latency - middle > UNITS_PER_DOUBLING * log2(factor) and rise_ms >= LATENCY_RISE_MIN_MS:
            deviating.append((latency, key))
    deviating.sort(key=lambda one: -one[0])
    return [key for _, key in deviating]


def _median_without(ordered: Sequence[float], one: float) -> float:
    """Return the median of sorted numbers of which one is left out."""
    place = bisect_left(ordered, one)
    count = len(ordered) - 1
    lower, upper = (count - 1) // 2, count // 2
    return (ordered[lower + (lower >= place)] + ordered[upper + (upper >= place)]) / 2


def milliseconds(units: float) -> float:
    """Return the latency of so many latency units; ms."""
    return float(2 ** (units / UNITS_PER_DOUBLING) / 1000)


# --- ejecting ---------------------------------------------------------------------------------
class ObservedBackend:
    """A backend whose outcomes are looked at, for as long as it is the same.

    Arguments:
        segment: Where they are counted.
        upstream: Name of its upstream.
        backend: Its id.

    Attributes:
        health: What follows.
        ejections: How often it was ejected, by reason.
        breaker: Its circuit breaker, if it has one.
    """

    def __init__(self, segment: Segment, upstream: str, backend: str) -> None:
        self.health = BackendHealth(segment, upstream, backend)
        self.ejections: Counter[Reason] = Counter()
        self.breaker: Breaker | None = None
        self._opening_seen = 0
        self._name = f"backend {backend} of {upstream}"
        self._words = outcome_words(segment, upstream, backend)
        self._was_failing = False
        self._begun = self._counts()

    def take_sample(self) -> Sample:
        """Return what became of tries since the last time this was called."""
        before, self._begun = self._begun, self._counts()
        tries, errors, latencies, timed = (
            now - then for now, then in zip(self._begun, before, strict=True)
        )
        # Workers count meanwhile: an error may fall into the interval after that of its try.
        return Sample(tries, min(errors, tries), latencies, timed)

    def errors_in_a_row(self, settings: OutlierDetection) -> Reason | None:
        """Return which limit its errors in a row have reached, if any."""
        for position, limit, reason in (
            (CONSECUTIVE_GATEWAY_ERRORS, settings.consecutive_gateway_errors,
             reasons.EJECTED_CONSECUTIVE_GATEWAY_ERRORS),
            (CONSECUTIVE_ERRORS, settings.consecutive_errors, reasons.EJECTED_CONSECUTIVE_ERRORS),
        ):  # fmt: skip
            if limit is not None and self._load(position) >= limit:
                return reason
        return None

    def breaker_opened(self, now: float) -> bool:
        """Return whether its breaker has opened, if that was not returned of this time before.

        Where it is ejected meanwhile a breaker stays as it is, and says nothing new afterwards.
        """
        breaker = self.breaker
        if breaker is None or breaker.phase != OPEN:
            return False
        left = breaker.remaining(now)
        opening = round((now + left) * 1000)
        if left == 0.0 or opening == self._opening_seen:
            return False
        self._opening_seen = opening
        return True

    def eject(self, reason: Reason, settings: OutlierDetection, now: float) -> None:
        """Take it out of the choice; longer each time that this comes soon after the last."""
        seconds = ejection_seconds(settings, self.health.ejections + 1)
        self.health.eject(reason, now + seconds)
        self.ejections[reason] += 1
        self._was_failing = False
        logger.warning("%s is ejected for %.0f s: %s", self._name, seconds, reason.text)

    def look(self, settings: OutlierDetection, now: float) -> None:
        """Readmit it if it is ejected no more, or forgive it an ejection if that is long ago."""
        health = self.health
        if health.ejected_for is not None:
            has_recovered = self._was_failing and not health.is_failing
            self._was_failing = health.is_failing
            if has_recovered or now >= health.ejected_until:
                self.readmit(now)
        elif health.ejections:
            long = ejection_seconds(settings, health.ejections)
            if now >= health.calm_since + long:
                health.forgive(now, health.ejections - 1)

    def readmit(self, now: float) -> None:
        """Put it into the choice again; what came in meanwhile is not held against it."""
        if self._words is not None:
            self._words.store(CONSECUTIVE_ERRORS, 0)
            self._words.store(CONSECUTIVE_GATEWAY_ERRORS, 0)
        self._begun = self._counts()
        if self.health.ejected_for is not None:
            self.health.readmit(now)
            logger.info("%s is ejected no more", self._name)

    def forget(self, now: float) -> None:
        """Put it into the choice again, with nothing known of it."""
        self.readmit(now)
        self.health.forgive(now, 0)

    def _counts(self) -> tuple[int, int, int, int]:
        # Workers count a try before its error, so this reads them the other way about.
        errors = self._load(ERRORS)
        return self._load(TRIES), errors, self._load(LATENCIES), self._load(TIMED)

    def _load(self, position: int) -> int:
        return self._words.load(position) if self._words is not None else 0


def ejection_seconds(settings: OutlierDetection, ejections: int) -> float:
    """Return how long a backend is ejected, by how many ejections followed on each other."""
    # More doublings than this exceed every maximum.
    doublings = min(ejections - 1, 32)
    return float(min(settings.base_ejection_ms << doublings, settings.max_ejection_ms) / 1000)


class OutlierDetector:
    """Ejects the outliers among the backends of one upstream, and readmits them.

    Arguments:
        settings: How.
        backends: All enabled ones.
        compare_at: When they are compared first; seconds.

    Attributes:
        settings: How.
        compare_at: When they are compared next.
    """

    def __init__(
        self, settings: OutlierDetection, backends: Sequence[ObservedBackend], compare_at: float
    ) -> None:
        self.settings = settings
        self.compare_at = compare_at
        self._backends = backends
        self._ejected = {one for one in backends if one.health.ejected_for is not None}

    def look_at_breakers(self, now: float) -> None:
        """Eject backends whose breakers have opened, where errors in a row are limited.

        A breaker may open by fewer failures than that limit, and then lets too few through to
        reach it.
        """
        settings = self.settings
        if settings.consecutive_errors is None and settings.consecutive_gateway_errors is None:
            return
        for backend in self._backends:
            if backend.breaker_opened(now):
                self._eject(backend, reasons.EJECTED_CIRCUIT_OPEN, now)

    def look(self, now: float, alarmed: bool) -> None:
        """Do what there is to do.

        Arguments:
            now: Seconds.
            alarmed: Whether some backend, of this upstream or another, has too many errors in a
                row.
        """
        compares = now >= self.compare_at
        for backend in self._backends if compares else tuple(self._ejected):
            backend.look(self.settings, now)
            if backend.health.ejected_for is None:
                self._ejected.discard(backend)
        if compares or alarmed:
            self._eject_by_errors_in_a_row(now)
        if compares:
            self.compare_at = now + self.settings.interval_ms / 1000
            self._compare(now)

    def _eject_by_errors_in_a_row(self, now: float) -> None:
        for backend in self._backends:
            reason = backend.errors_in_a_row(self.settings)
            if reason is not None:
                self._eject(backend, reason, now)

    def _compare(self, now: float) -> None:
        settings = self.settings
        samples = {
            backend: backend.take_sample()
            for backend in self._backends
            if backend not in self._ejected
        }
        if settings.success_rate_stdev_factor is not None:
            enough = {
                backend: sample
                for backend, sample in samples.items()
                if sample.tries >= settings.request_volume
            }
            if len(enough) >= settings.min_hosts:
                for backend in find_failing(enough, settings.success_rate_stdev_factor):
                    self._eject(backend, reasons.EJECTED_SUCCESS_RATE, now)
        if settings.latency_factor is not None:
            enough = {
                backend: sample
                for backend, sample in samples.items()
                if sample.timed >= settings.request_volume
            }
            if len(enough) >= settings.min_hosts:
                for backend in find_slow(enough, settings.latency_factor):
                    self._eject(backend, reasons.EJECTED_LATENCY, now)

    def _eject(self, backend: ObservedBackend, reason: Reason, now: float) -> None:
        """Eject a backend unless it is ejected, or too many others are."""
        if backend in self._ejected:
            return
        share = len(self._backends) * self.settings.max_ejected_percent / 100
        others_serve = any(
            other.health.can_serve for other in self._backends if other is not backend
        )
        if others_serve and len(self._ejected) < ceil(share):
            backend.eject(reason, self.settings, now)
            self._ejected.add(backend)
