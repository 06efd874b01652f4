"""A server of stated concurrency and service time, in simulated time, behind an adaptive limit."""

import heapq
import mmap
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from spooky._core.concurrency import AdaptiveLimit
from spooky._core.shared import Limit, Segment, Words, segment_size

KEY = 7


def shared_places(slot: int = 0) -> tuple[Segment, Limit, Words]:
    """Return a segment, and the places and words of one limit in it."""
    segment = Segment(mmap.mmap(-1, segment_size(2)), 2)
    places, words = segment.limit(KEY, slot), segment.words(KEY)
    assert places is not None
    assert words is not None
    return segment, places, words


@dataclass
class Server:
    """Serves so many requests at once, the others wait in turn.

    Attributes:
        concurrency: How many.
        seconds: How long each takes.
        spread: Each takes longer or shorter by up to this share.
        skew: Return by how many times longer one takes; instead of the spread.
    """

    concurrency: int
    seconds: float
    spread: float = 0.1
    skew: Callable[[random.Random], float] | None = None
    busy: int = 0
    waiting: deque[tuple[AdaptiveLimit, float]] = field(default_factory=deque)

    @property
    def capacity(self) -> float:
        """Requests in a second."""
        return self.concurrency / self.seconds


@dataclass
class Outcome:
    """What became of requests: when each ended or was refused, how long it took, the limits."""

    done: list[tuple[float, float]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)

    def goodput(self, start: float, end: float) -> float:
        """Return requests done in a second of this time."""
        return sum(start <= at < end for at, _ in self.done) / (end - start)

    def latency(self, percent: float, start: float, end: float) -> float:
        """Return a percentile of the latencies in this time."""
        found = sorted(latency for at, latency in self.done if start <= at < end)
        return found[min(len(found) - 1, int(len(found) * percent / 100))]

    def limit(self, start: float, end: float) -> float:
        """Return the median of the limit in this time."""
        found = sorted(limit for at, limit in self.limits if start <= at < end)
        return found[len(found) // 2]


class Simulation:
    """Sends requests through an adaptive limit to a server.

    Arguments:
        policies: The limit as each worker has it; requests take turns over the workers.
        places: What is in flight.
        server: Who serves.
        seed: Of the random times.
    """

    def __init__(
        self, policies: list[AdaptiveLimit], places: Limit, server: Server, seed: int = 1
    ) -> None:
        self.now = 0.0
        self.outcome = Outcome()
        self._policies = policies
        self._places = places
        self._server = server
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def run(self, rate: Callable[[float], float], until: float) -> Outcome:
        """Send requests at a rate that depends on the time, in a second, until a time."""
        self._arrive(rate)
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self._events.clear()
        return self.outcome

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Do something at a time."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, event))

    def _arrive(self, rate: Callable[[float], float]) -> None:
        self.ask()
        self.at(self.now + self._random.expovariate(rate(self.now)), lambda: self._arrive(rate))

    def ask(self) -> None:
        """Send one request now."""
        policy = self._policies[self._count % len(self._policies)]
        limit = policy.limit()
        self.outcome.limits.append((self.now, limit))
        if self._places.take(limit):
            self._serve(policy, self.now)
        else:
            self.outcome.refused.append(self.now)

    def _serve(self, policy: AdaptiveLimit, began: float) -> None:
        server = self._server
        if server.busy >= server.concurrency:
            server.waiting.append((policy, began))
            return
        server.busy += 1
        if server.skew is None:
            times = self._random.uniform(1 - server.spread, 1 + server.spread)
        else:
            times = server.skew(self._random)
        self.at(self.now + server.seconds * times, lambda: self._end(policy, began))

    def _end(self, policy: AdaptiveLimit, began: float) -> None:
        self._server.busy -= 1
        latency = self.now - began
        policy.observe(self.now, latency)
        self._places.give()
        self.outcome.done.append((self.now, latency))
        if self._server.waiting and self._server.busy < self._server.concurrency:
            self._serve(*self._server.waiting.popleft())
