# cython: annotation_typing=False
"""How many requests an upstream can take at once, found out from how long they take.

Workers share what is known in the words of the upstream's limit on what is in flight, where the
number in flight is the first. One worker at a time moves the limit: who first has enough latencies
when a window is over, and claims it. The latencies are that worker's, a sample of all.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

import math
from typing import Any, Final

from spooky._core.shared import Words

WINDOW_SECONDS: Final = 0.1
WINDOW_MINIMUMS: Final = 2
"""How often the limit moves at most: long enough to see what came of the last move, which only
requests that were let in after it can tell, and short enough to follow a load that rises."""

SAMPLES_MIN: Final = 20
"""Latencies that a window needs at least; fewer say more about chance than about load."""

SAMPLES_MAX: Final = 250
"""Latencies that a worker keeps of a window; more do not make the median better."""

INITIAL_LIMIT: Final = 64
"""Least limit to begin with: growth is quick, so it need not be what the upstream can take."""

GRADIENT_MIN: Final = 0.5
"""Most that a limit shrinks in one window; a median may be wrong once."""

GROWTH: Final = 0.25
"""Share that a limit grows by in a window, as long as requests take no longer for it."""

DIP: Final = 4
"""While the minimum is measured, so much smaller is the limit."""

LOWER_GAIN: Final = 0.1
"""How fast a shorter latency becomes the minimum: one lucky window must not."""

FEW: Final = 2
"""Up to so many times the least limit, slow requests are no sign of a queue. A measurement misses
those that take long, so where latencies vary much its minimum is too short for any limit."""

MEASURE_PAUSE_SECONDS: Final = 1.0
MEASURE_PAUSE_MEDIANS: Final = 20
"""Least time between measurements where the limit has collapsed."""

MEASURE_LONGEST_MINIMUMS: Final = 20
"""A measurement that lasts longer, in minimums, finds too few requests, and is given up."""

MUCH_LESS: Final = 0.75
"""A minimum that is measured as less than this share of the old one was that of a queue."""

INTERVAL_MINIMUMS: Final = 200
"""Least time between measurements: one takes several times the minimum, and must cost little."""

JITTER: Final = 0.1
"""Share by which the interval varies, so that several proxies do not measure at once."""

# Positions of words.
IN_FLIGHT: Final = 0
LIMIT: Final = 1
MINIMUM: Final = 2
WINDOW: Final = 3
MEASURED: Final = 4
MEASURING: Final = 5
BEFORE: Final = 6

_IN_FLIGHT = IN_FLIGHT
_LIMIT = LIMIT
_MINIMUM = MINIMUM
_WINDOW = WINDOW
_MEASURED = MEASURED
_MEASURING = MEASURING
_BEFORE = BEFORE

_SAMPLES_MIN = SAMPLES_MIN
_SAMPLES_MAX = SAMPLES_MAX

# Limits lie in the words in parts of one, so that small ones can change by less than one.
_PARTS = 256
_MICROSECONDS = 1e6


class AdaptiveLimit:
    """A limit that follows latencies; what all kinds share. By itself it learns nothing.

    Arguments:
        words: Of the upstream's limit on what is in flight; all workers give the same.
        min_limit: It is never less.
        max_limit: Nor more; what it is until enough is known.
    """

    def __init__(self, words: Words, min_limit: int, max_limit: int) -> None:
        if not 1 <= min_limit <= max_limit:
            raise ValueError("a limit needs 1 <= min_limit <= max_limit")
        self._words = words
        self._min = min_limit
        self._max = max_limit

    def limit(self) -> int:
        """Return how many requests may be in flight."""
        value = self._words.load(_LIMIT) // _PARTS
        if value == 0 or value > self._max:
            return self._max
        return value if value > self._min else self._min

    def observe(self, now: float, latency: float) -> None:
        """Learn from a request that ended, before it leaves.

        Arguments:
            now: Seconds on a clock that all workers share.
            latency: Seconds that its backend took; negative if there is nothing to learn from.
        """

    @property
    def minimum(self) -> float:
        """Latency of a request among few, in seconds; 0 if it is not known."""
        return self._words.load(_MINIMUM) / _MICROSECONDS

    def _set_limit(self, value: float) -> None:
        value = min(max(value, float(self._min)), float(self._max))
        self._words.store(_LIMIT, int(value * _PARTS))


class Gradient(AdaptiveLimit):
    """Follows the ratio of the least median latency, measured among few requests, to the present.

    A limit that is at least half used becomes, at the end of a window,
    ``limit * min(1, minimum * tolerance / median) + sqrt(limit)``; and a quarter larger if requests
    take no longer than the minimum and its tolerance.

    Arguments:
        tolerance: How many times the minimum a latency may be that means no queue.
        interval: Seconds between measurements of the minimum.
    """

    def __init__(
        self, words: Words, min_limit: int, max_limit: int, tolerance: float, interval: float
    ) -> None:
        super().__init__(words, min_limit, max_limit)
        if tolerance < 1.0 or interval <= 0.0:
            raise ValueError("a tolerance is at least 1, and an interval more than 0")
        self._tolerance = tolerance
        self._interval = interval
        self._samples: list[Any] = []
        self._count = 0
        self._window = 0
        self._start = 0.0
        self._end = 0.0
        self._measures = False
        self._peak = 0

    def observe(self, now: float, latency: float) -> None:
        """Take a latency into the window; at its end, move the limit."""
        if self._words.load(_WINDOW) != self._window:
            self._begin()
        # Who began the window says after that whether it measures.
        self._measures = self._words.load(_MEASURING) != 0
        if latency < 0.0 or now - latency < self._start:
            return
        in_flight = self._words.load(_IN_FLIGHT)
        if in_flight > self._peak:
            self._peak = in_flight
        if self._count < _SAMPLES_MAX:
            self._samples.append(latency)
            self._count += 1
        if now >= self._end and (self._count >= _SAMPLES_MIN or self._measures):
            self._close(now)

    def _begin(self) -> None:
        """Begin the window that another worker, or this one, made the present one."""
        words = self._words
        self._window = words.load(_WINDOW)
        self._start = self._window / _MICROSECONDS
        minimum = words.load(_MINIMUM) / _MICROSECONDS
        self._end = self._start + max(WINDOW_SECONDS, WINDOW_MINIMUMS * minimum)
        self._samples.clear()
        self._count = 0
        self._peak = 0

    def _close(self, now: float) -> None:
        """Learn from the window, if no other worker did, and begin the next."""
        words = self._words
        if self._measures and self._count < _SAMPLES_MIN:
            minimum = words.load(_MINIMUM) / _MICROSECONDS
            if now < self._start + max(WINDOW_SECONDS, MEASURE_LONGEST_MINIMUMS * minimum):
                return
        if words.swap(_WINDOW, self._window, int(now * _MICROSECONDS)):
            self._samples.sort()
            self._learn(now, max(1 / _MICROSECONDS, float(self._samples[self._count // 2])))
        self._begin()

    def _learn(self, now: float, median: float) -> None:
        words = self._words
        minimum = words.load(_MINIMUM) / _MICROSECONDS
        if self._measures:
            self._end_measurement(now, median)
        elif minimum == 0.0:
            # What came first may have waited already: measure as soon as the limit matters.
            self._store_minimum(median)
            self._set_limit(max(float(INITIAL_LIMIT), 2.0 * self._peak))
            words.store(_BEFORE, words.load(_LIMIT))
        else:
            if median < minimum:
                minimum += (median - minimum) * LOWER_GAIN
                self._store_minimum(minimum)
            self._move(now, median, minimum)

    def _move(self, now: float, median: float, minimum: float) -> None:
        """Move the limit, or see whether it is right."""
        limit = self._words.load(_LIMIT) / _PARTS
        measured = self._words.load(_MEASURED) / _MICROSECONDS
        is_due = measured == 0.0 or now - measured >= self._pause(minimum)
        if 2 * self._peak < limit:
            # Too few requests for the limit to matter, but perhaps few enough for the minimum.
            if is_due and DIP * self._peak <= limit:
                self._note_minimum(now, median)
            return
        if limit <= FEW * self._min and self._peak <= FEW * self._min:
            minimum = self._raise_minimum(now, median, minimum)
        gradient = minimum * self._tolerance / median
        grown = math.sqrt(limit)
        if gradient >= 1.0:
            grown = max(grown, limit * GROWTH)
        changed = limit * min(1.0, max(GRADIENT_MIN, gradient)) + grown
        is_pressed = gradient < 1.0 or self._peak >= limit
        if is_pressed and (is_due or self._has_collapsed(now, changed, median)):
            self._begin_measurement(now, limit)
        else:
            self._set_limit(changed)

    def _raise_minimum(self, now: float, median: float, minimum: float) -> float:
        """Take what is slow among so few for the minimum; return the minimum."""
        if minimum * self._tolerance >= median:
            return minimum
        self._note_minimum(now, median)
        self._words.store(_BEFORE, self._words.load(_LIMIT))
        return median

    def _pause(self, minimum: float) -> float:
        """Return how long after a measurement the next is due, in seconds."""
        part = self._words.load(_MEASURED) % 1024 / 1024.0
        jitter = 1.0 + JITTER * (2.0 * part - 1.0)
        return max(self._interval, INTERVAL_MINIMUMS * minimum) * jitter

    def _has_collapsed(self, now: float, limit: float, median: float) -> bool:
        """Tell whether requests are still slow at half the limit: then the minimum is wrong."""
        if 2.0 * limit > self._words.load(_BEFORE) / _PARTS:
            return False
        pause = max(MEASURE_PAUSE_SECONDS, MEASURE_PAUSE_MEDIANS * median)
        return now - self._words.load(_MEASURED) / _MICROSECONDS >= pause

    # --- measuring the minimum ----------------------------------------------------------------

    def _begin_measurement(self, now: float, limit: float) -> None:
        # Who is let in from now on finds few others there, so nobody has to wait for a queue to go.
        self._words.store(_BEFORE, int(limit * _PARTS))
        self._words.store(_MEASURING, 1)
        self._set_limit(limit / DIP)

    def _end_measurement(self, now: float, median: float) -> None:
        words = self._words
        before = words.load(_BEFORE) / _PARTS
        minimum = words.load(_MINIMUM) / _MICROSECONDS
        words.store(_MEASURING, 0)
        words.store(_MEASURED, int(now * _MICROSECONDS))
        if self._count >= _SAMPLES_MIN:
            self._store_minimum(median)
            if median < minimum * MUCH_LESS:
                # There was a queue: perhaps there still is one, so measure again right away.
                before *= median / minimum
                words.store(_MEASURED, 0)
        self._set_limit(before)
        words.store(_BEFORE, words.load(_LIMIT))

    def _note_minimum(self, now: float, minimum: float) -> None:
        self._store_minimum(minimum)
        self._words.store(_MEASURED, int(now * _MICROSECONDS))

    def _store_minimum(self, minimum: float) -> None:
        # 0 means that it is not known.
        self._words.store(_MINIMUM, max(1, int(minimum * _MICROSECONDS)))


class Aimd(AdaptiveLimit):
    """Grows by a step with each request that is quick enough, shrinks by one with each that is not.

    Arguments:
        increase: The step up.
        decrease: The step down.
        high_latency: What is too slow; seconds.
    """

    def __init__(
        self,
        words: Words,
        min_limit: int,
        max_limit: int,
        increase: int,
        decrease: int,
        high_latency: float,
    ) -> None:
        super().__init__(words, min_limit, max_limit)
        if increase < 1 or decrease < 1 or high_latency <= 0.0:
            raise ValueError("steps are at least 1, and a high latency is more than 0")
        self._increase = increase
        self._decrease = decrease
        self._high_latency = high_latency

    def observe(self, now: float, latency: float) -> None:
        """Move the limit."""
        if latency < 0.0:
            return
        value = self._words.load(_LIMIT)
        limit = self.limit()
        if latency >= self._high_latency:
            limit = max(limit - self._decrease, self._min)
        else:
            limit = min(limit + self._increase, self._max)
        # If another worker moved it meanwhile, that counts for both.
        if limit * _PARTS != value:
            self._words.swap(_LIMIT, value, limit * _PARTS)
