"""Latencies that all workers saw, for the balancers of each that go by them.

Workers count them anyway (:mod:`spooky._core.outcomes`). A worker that asks a backend seldom would
else go by what it saw long ago, and each would have to find out by itself that one has become slow.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from spooky._core.balance import LatencyAware
from spooky._core.outcomes import ERRORS, LATENCIES, TIMED
from spooky._core.shared import Segment, Words
from spooky.runtime import Runtime
from spooky.upstream.outlier import milliseconds, outcome_words

LOOK_SECONDS: Final = 0.25
"""How often they are looked at."""


class _Counts(NamedTuple):
    """What is counted of a backend."""

    latencies: int
    timed: int
    errors: int


class UpstreamLatencies:
    """Tells a balancer what requests to each backend took, in all workers.

    Arguments:
        segment: Where they are counted.
        upstream: Name of the upstream.
        backends: Ids of the backends by their positions.
        balancer: Of this worker.
    """

    def __init__(
        self, segment: Segment, upstream: str, backends: Mapping[int, str], balancer: LatencyAware
    ) -> None:
        self._balancer = balancer
        self._words = {
            position: words
            for position, backend in backends.items()
            if (words := outcome_words(segment, upstream, backend)) is not None
        }
        self._seen: dict[int, _Counts] = {}

    def begin(self) -> None:
        """Count from now on."""
        self._seen = {position: _read(words) for position, words in self._words.items()}

    def look(self) -> None:
        """Take what came since the last look.

        Of a backend that fails, which a balancer holds for slow, nothing is taken: how soon its
        other answers came says nothing of it.
        """
        for position, words in self._words.items():
            before, now = self._seen[position], _read(words)
            if words.load(TIMED) != now.timed:
                # Some of what was added up is counted by now: the next look takes both.
                continue
            self._seen[position] = now
            count = now.timed - before.timed
            if count > 0 and now.errors == before.errors:
                units = (now.latencies - before.latencies) / count
                self._balancer.learn(position, milliseconds(max(0.0, units)), count)


def _read(words: Words) -> _Counts:
    # A worker adds to the sum first, so of a few the count may be missing, and none of the sum.
    timed = words.load(TIMED)
    return _Counts(words.load(LATENCIES), timed, words.load(ERRORS))


class LatencyWatch:
    """Has the balancers of a worker follow what all workers see.

    Arguments:
        runtime: The worker's.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._watched: set[UpstreamLatencies] = set()
        self._is_due = False

    def add(self, upstream: UpstreamLatencies) -> None:
        """Follow an upstream's from now on."""
        upstream.begin()
        self._watched.add(upstream)
        if not self._is_due:
            self._schedule()

    def remove(self, upstream: UpstreamLatencies) -> None:
        """Follow an upstream's no more."""
        self._watched.discard(upstream)

    def _schedule(self) -> None:
        self._is_due = True
        self._runtime.schedule(self._runtime.now() + LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._is_due = False
        if self._watched:
            self._schedule()
        for upstream in self._watched:
            upstream.look()
