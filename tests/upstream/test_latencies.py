"""Balancers of several workers that go by what all of them see."""

import mmap
from types import SimpleNamespace
from typing import Any, cast

from spooky._core import reasons
from spooky._core.balance import LatencyAware
from spooky._core.outcomes import LATENCIES, TIMED
from spooky._core.shared import Segment, segment_size
from spooky.config.outlier_detection import OutlierDetection
from spooky.upstream.latencies import LOOK_SECONDS, LatencyWatch, UpstreamLatencies
from spooky.upstream.outlier import make_tally

NAMES = {0: "a", 1: "b"}


class Worker:
    """One worker's balancer and tallies."""

    def __init__(self, segment: Segment) -> None:
        self.balancer = LatencyAware([name.encode() for name in NAMES.values()], [1, 1])
        settings = OutlierDetection()
        self.tallies = [make_tally(segment, "api", name, settings) for name in NAMES.values()]
        self.latencies = UpstreamLatencies(segment, "api", NAMES, self.balancer)
        self.latencies.begin()

    def answered(self, backend: int, latency_ms: float, times: int = 1) -> None:
        for _ in range(times):
            self.balancer.started(backend)
            self.balancer.finished(backend, latency_ms)
            self.tallies[backend].answered(200, latency_ms)

    def picks(self, count: int) -> str:
        return "".join("ab"[self.balancer.pick()] for _ in range(count))


def two_workers() -> tuple[Worker, Worker]:
    segment = Segment(mmap.mmap(-1, segment_size(2)), 2)
    busy, quiet = Worker(segment), Worker(segment)
    for worker in (busy, quiet):
        worker.answered(0, 5.0)
        worker.answered(1, 8.0)
        worker.latencies.look()
    return busy, quiet


def test_a_worker_learns_from_others_that_a_backend_has_become_slow_and_quick_again() -> None:
    busy, quiet = two_workers()
    assert quiet.picks(4) == "aaaa"
    busy.answered(0, 80.0, 50)
    assert quiet.picks(4) == "aaaa"
    quiet.latencies.look()
    assert quiet.picks(4) == "bbbb"
    busy.answered(0, 5.0, 50)
    quiet.latencies.look()
    assert quiet.picks(4) == "aaaa"


def test_a_sum_that_moves_under_a_look_is_left_to_the_next() -> None:
    busy, quiet = two_workers()
    busy.answered(0, 80.0, 50)
    words = quiet.latencies._words[0]

    class Moving:
        """Words to which another worker adds between two reads."""

        moves = True

        def load(self, word: int) -> int:
            """Read one."""
            found = words.load(word)
            if word == TIMED and self.moves:
                self.moves = False
                words.add(LATENCIES, 10**6)
                words.add(TIMED, 1)
            return found

    quiet.latencies._words[0] = cast(Any, Moving())
    learnt: list[int] = []
    cast(Any, quiet.latencies)._balancer = SimpleNamespace(
        learn=lambda position, _, count: learnt.append(count)
    )
    quiet.latencies.look()
    assert learnt == []
    quiet.latencies.look()
    assert learnt == [51]


def test_of_a_backend_that_fails_nothing_is_learnt() -> None:
    busy, quiet = two_workers()
    quiet.balancer.started(0)
    quiet.balancer.failed(0, 1.0)
    assert quiet.picks(4) == "bbbb"
    busy.answered(0, 5.0, 50)
    busy.tallies[0].failed(reasons.UPSTREAM_RESET)
    quiet.latencies.look()
    assert quiet.picks(4) == "bbbb"
    busy.answered(0, 5.0, 50)
    quiet.latencies.look()
    assert quiet.picks(4) == "aaaa"


def test_it_is_looked_as_long_as_there_is_anybody_to_tell() -> None:
    due: list[tuple[float, Any]] = []
    runtime = SimpleNamespace(now=lambda: 7.0, schedule=lambda at, then: due.append((at, then)))
    watch = LatencyWatch(cast(Any, runtime))
    busy, quiet = two_workers()
    watch.add(quiet.latencies)
    watch.remove(quiet.latencies)
    watch.add(quiet.latencies)
    ((at, look),) = due
    assert at == 7.0 + LOOK_SECONDS
    busy.answered(0, 80.0, 50)
    due.clear()
    look()
    assert quiet.picks(2) == "bb"
    ((_, look),) = due
    watch.remove(quiet.latencies)
    due.clear()
    look()
    assert due == []
