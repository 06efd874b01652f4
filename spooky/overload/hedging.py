"""When a second backend is asked because the first takes long."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import lt
from typing import Final

from spooky._core.shared import LATENCY_BOUNDS

WINDOW_SECONDS: Final = 10.0
"""A percentile is of the responses of at least so long, and at most twice."""

SAMPLES_MIN: Final = 50
"""A percentile of fewer responses says nothing."""

KEPT_SECONDS: Final = 0.1
"""How long a percentile is kept: it hardly moves meanwhile, and each request would make it anew."""

ReadBuckets = Callable[[], list[int]]
"""Returns how many responses there were so far in each bucket of ``LATENCY_BOUNDS``, and above."""


@dataclass(frozen=True, slots=True, eq=False)
class HedgePolicy:
    """When requests to one upstream are hedged.

    Attributes:
        methods: Of requests that are, if they have no body.
        delay: Says how long the first backend has.
    """

    methods: frozenset[bytes]
    delay: "HedgeDelay"


class HedgeDelay:
    """How long the first backend has: a fixed time, or a percentile of recent times to a response.

    Arguments:
        fixed: Where no percentile is asked for, or too few responses were seen; seconds.
        percentile: Which, of 100; ``None`` for the fixed time.
        read: Gives the distribution.
    """

    __slots__ = (
        "_before", "_due", "_fixed", "_kept", "_looked", "_percentile", "_read", "_recent",
    )  # fmt: skip

    def __init__(self, fixed: float, percentile: float | None, read: ReadBuckets) -> None:
        self._fixed = fixed
        self._percentile = percentile
        self._read = read
        # The distribution as it was one to two windows ago, and up to one window ago. Not read
        # before it is asked for: what is only prepared has no effect, and makes no counters.
        self._before: list[int] = []
        self._recent: list[int] = []
        self._looked = 0.0
        self._kept = fixed
        self._due = -math.inf

    def seconds(self, now: float) -> float:
        """Return the delay of a request that begins now."""
        if self._percentile is None:
            return self._fixed
        if now >= self._due:
            self._due = now + KEPT_SECONDS
            self._kept = self._measured(now, self._percentile)
        return self._kept

    def _measured(self, now: float, percentile: float) -> float:
        so_far = self._read()
        if not self._recent or any(map(lt, so_far, self._recent)):
            # The first look, or the counters were forgotten meanwhile, and began anew.
            self._before, self._recent, self._looked = so_far, so_far, now
        elif now - self._looked >= WINDOW_SECONDS:
            self._before, self._recent, self._looked = self._recent, so_far, now
        counts = [count - old for count, old in zip(so_far, self._before, strict=True)]
        if sum(counts) < SAMPLES_MIN:
            return self._fixed
        return percentile_of(counts, percentile)


def percentile_of(counts: list[int], percentile: float) -> float:
    """Return a percentile of a distribution, as if each bucket were filled evenly; seconds.

    Arguments:
        counts: How many lie in each bucket, the last above all bounds.
        percentile: Which, of 100.
    """
    rank = sum(counts) * percentile / 100
    lower = 0.0
    for count, upper in zip(counts, LATENCY_BOUNDS, strict=False):
        if count and rank <= count:
            return lower + (upper - lower) * rank / count
        rank -= count
        lower = upper
    return LATENCY_BOUNDS[-1]
