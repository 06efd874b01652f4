"""Outlier detection in simulated time: who is ejected, for how long, and who never is."""

import math
import random
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core import reasons
from spooky._core.balance import RoundRobin, hash_key
from spooky._core.breaker import REFUSED, Breaker
from spooky._core.outcomes import ERRORS, TRIES
from spooky.config.outlier_detection import OutlierDetection
from spooky.observe.segment import private_segment
from spooky.upstream.health import BackendHealth, UpstreamHealth
from spooky.upstream.outlier import (
    ObservedBackend,
    OutlierDetector,
    Sample,
    _median_without,
    alarm_words,
    ejection_seconds,
    find_failing,
    find_slow,
    make_tally,
    outcome_words,
)

LOOK = 0.05
DEFAULTS = OutlierDetection()

Answer = Callable[[int, random.Random], tuple[int, float]]
"""Gives status and latency of a backend's answer, by its position."""


class Simulation:
    """An upstream of several backends, with the workers' side and the judge's."""

    def __init__(self, count: int, settings: OutlierDetection = DEFAULTS) -> None:
        self.segment = private_segment()
        names = [f"b{at}" for at in range(count)]
        self.health = [BackendHealth(self.segment, "api", name) for name in names]
        self.tallies = [make_tally(self.segment, "api", name, settings) for name in names]
        self.balancer = RoundRobin([name.encode() for name in names], [1] * count)
        self.upstream = UpstreamHealth(self.balancer, dict(enumerate(self.health)), 50)
        self.observed = [ObservedBackend(self.segment, "api", name) for name in names]
        self.detector = OutlierDetector(settings, self.observed, settings.interval_ms / 1000)
        self.random = random.Random(7)
        self.now = 0.0
        self.alarms = 0
        self.requests = [0] * count

    @property
    def ejected(self) -> set[int]:
        return {at for at, one in enumerate(self.health) if one.ejected_for is not None}

    def look(self) -> None:
        """Have the judge look, and the worker follow."""
        alarm = alarm_words(self.segment)
        assert alarm is not None
        alarms = alarm.load(0)
        self.detector.look(self.now, alarms != self.alarms)
        self.alarms = alarms
        self.upstream.apply(self.now)

    def run(self, seconds: float, rate: float, answer: Answer) -> None:
        """Have requests served, so many a second."""
        end = self.now + seconds
        while self.now < end:
            for _ in range(round(rate * LOOK)):
                at = self.balancer.pick()
                self.requests[at] += 1
                self.tallies[at].answered(*answer(at, self.random))
            self.now += LOOK
            self.look()


def good(at: int, randoms: random.Random) -> tuple[int, float]:
    return 200, randoms.lognormvariate(2.0, 1.0)


def dead(*which: int) -> Answer:
    return lambda at, randoms: (503, 0.5) if at in which else good(at, randoms)


def failing(share: float, *which: int) -> Answer:
    def answer(at: int, randoms: random.Random) -> tuple[int, float]:
        return (500, 1.0) if at in which and randoms.random() < share else good(at, randoms)

    return answer


def slow(factor: float, *which: int) -> Answer:
    def answer(at: int, randoms: random.Random) -> tuple[int, float]:
        status, latency = good(at, randoms)
        return status, latency * (factor if at in which else 1)

    return answer


def test_a_backend_that_fails_every_request_is_ejected_at_once_and_comes_back() -> None:
    simulation = Simulation(4)
    simulation.run(5, 400, good)
    assert simulation.ejected == set()
    simulation.run(0.2, 400, dead(2))
    assert simulation.ejected == {2}
    assert simulation.health[2].ejected_for is reasons.EJECTED_CONSECUTIVE_GATEWAY_ERRORS
    before = simulation.requests[2]
    simulation.run(29, 400, good)
    assert simulation.requests[2] == before
    simulation.run(2, 400, good)
    assert simulation.ejected == set()
    assert simulation.requests[2] > before


def test_errors_of_other_kinds_in_a_row_eject_too_and_those_with_successes_between_do_not() -> None:
    simulation = Simulation(2)
    for tally in simulation.tallies[:1]:
        for _ in range(8):
            for _ in range(4):
                tally.answered(500, 1.0)
            tally.answered(200, 1.0)
    simulation.look()
    assert simulation.ejected == set()
    for _ in range(5):
        simulation.tallies[0].answered(500, 1.0)
    simulation.look()
    assert simulation.health[0].ejected_for is reasons.EJECTED_CONSECUTIVE_ERRORS


class BreakerSimulation(Simulation):
    """The same, where each backend has a breaker that opens after three failures."""

    def __init__(self, count: int, settings: OutlierDetection = DEFAULTS) -> None:
        super().__init__(count, settings)
        self.breakers = []
        for at, observed in enumerate(self.observed):
            words = self.segment.words(hash_key(b"breaker %d" % at))
            assert words is not None
            observed.breaker = Breaker(words, 3, 1000, 30_000, 1)
            self.breakers.append(observed.breaker)

    def fail(self, at: int, times: int) -> None:
        """Have requests to a backend fail, as long as its breaker lets them through."""
        for _ in range(times):
            ticket = self.breakers[at].enter(self.now)
            if ticket != REFUSED:
                self.tallies[at].failed(reasons.CONNECT_REFUSED)
                self.breakers[at].failed(ticket, self.now)

    def judge(self, seconds: float) -> None:
        """Have the judge look for some time."""
        end = self.now + seconds
        while self.now < end:
            self.now += LOOK
            self.look()
            self.detector.look_at_breakers(self.now)
            self.upstream.apply(self.now)


def test_a_backend_whose_breaker_opens_is_ejected_though_nothing_more_reaches_it() -> None:
    simulation = BreakerSimulation(4)
    simulation.judge(1)
    simulation.fail(2, 100)
    simulation.judge(0.1)
    assert simulation.ejected == {2}
    assert simulation.health[2].ejected_for is reasons.EJECTED_CIRCUIT_OPEN


def test_after_its_ejection_it_is_tried_before_it_is_ejected_again() -> None:
    simulation = BreakerSimulation(4, OutlierDetection(base_ejection_ms=500))
    simulation.fail(2, 100)
    # The breaker is open for a second, the ejection is half of that.
    simulation.judge(0.3)
    assert simulation.ejected == {2}
    simulation.judge(5)
    assert simulation.ejected == set()
    simulation.fail(2, 1)
    simulation.judge(0.1)
    assert simulation.ejected == {2}


def test_a_breaker_ejects_nobody_where_errors_in_a_row_have_no_limit() -> None:
    simulation = BreakerSimulation(4, OutlierDetection(consecutive_errors=None))
    simulation.fail(2, 100)
    simulation.judge(1)
    assert simulation.ejected == ({2} if DEFAULTS.consecutive_gateway_errors is not None else set())
    simulation = BreakerSimulation(
        4, OutlierDetection(consecutive_errors=None, consecutive_gateway_errors=None)
    )
    simulation.fail(2, 100)
    simulation.judge(1)
    assert simulation.ejected == set()


def test_a_sole_backend_is_never_ejected() -> None:
    simulation = Simulation(1, OutlierDetection(max_ejected_percent=100))
    simulation.run(30, 100, dead(0))
    assert simulation.ejected == set()


@pytest.mark.parametrize(
    ("count", "percent", "most"),
    [(2, 1, 1), (2, 100, 1), (3, 33, 1), (4, 33, 2), (4, 25, 1), (4, 100, 3), (10, 33, 4)],
)
def test_the_ejected_share_is_bounded_and_the_last_one_stays(
    count: int, percent: int, most: int
) -> None:
    simulation = Simulation(count, OutlierDetection(max_ejected_percent=percent))
    simulation.run(5, 400, dead(*range(count)))
    assert len(simulation.ejected) == most


def test_the_last_one_that_can_serve_stays_though_checks_fail_for_the_others() -> None:
    simulation = Simulation(3, OutlierDetection(max_ejected_percent=100))
    for health in simulation.health[1:]:
        health.set_failing(True, simulation.now)
    simulation.run(2, 100, dead(0))
    assert simulation.ejected == set()


def test_a_backend_that_answers_500_to_a_tenth_is_ejected_and_does_not_flap() -> None:
    """It is out ever longer: one interval to find it out each time, and no more."""
    simulation = Simulation(4)
    spells: list[float] = []
    while simulation.now < 830:
        was_out = 1 in simulation.ejected
        simulation.run(6 * LOOK, 400, failing(0.1, 1))
        assert simulation.ejected <= {1}
        if simulation.ejected and not was_out:
            spells.append(simulation.now)
    gaps = [after - before for before, after in pairwise(spells)]
    assert gaps == pytest.approx([40, 70, 130, 250, 305], abs=10)
    assert simulation.observed[1].ejections == {reasons.EJECTED_SUCCESS_RATE: len(spells)}


def test_backends_that_all_fail_alike_are_no_outliers() -> None:
    simulation = Simulation(4)
    simulation.run(600, 400, failing(0.1, 0, 1, 2, 3))
    assert simulation.ejected == set()


def test_two_bad_backends_do_not_hide_each_other() -> None:
    simulation = Simulation(4, OutlierDetection(max_ejected_percent=50))
    simulation.run(10.1, 400, failing(0.1, 0, 3))
    assert simulation.ejected == {0, 3}


def test_a_backend_ten_times_slower_is_ejected_for_its_latency_and_one_twice_as_slow_is_not() -> (
    None
):
    simulation = Simulation(4)
    simulation.run(30, 400, slow(2, 1))
    assert simulation.ejected == set()
    simulation.run(10.1, 400, slow(10, 3))
    assert simulation.ejected == {3}
    assert simulation.health[3].ejected_for is reasons.EJECTED_LATENCY


def test_a_few_very_slow_answers_are_no_slow_backend() -> None:
    def answer(at: int, randoms: random.Random) -> tuple[int, float]:
        return (200, 60_000.0) if at == 0 and randoms.random() < 0.02 else good(at, randoms)

    simulation = Simulation(4)
    simulation.run(60, 400, answer)
    assert simulation.ejected == set()


def test_too_few_requests_or_backends_are_not_compared() -> None:
    settings = OutlierDetection(consecutive_errors=None, consecutive_gateway_errors=None)
    simulation = Simulation(4, settings)
    simulation.run(60, 20, failing(0.3, 1))
    assert simulation.ejected == set()
    simulation = Simulation(2, settings)
    simulation.run(60, 400, failing(0.3, 1))
    assert simulation.ejected == set()


@pytest.mark.parametrize(
    "settings",
    [
        OutlierDetection(consecutive_errors=None, consecutive_gateway_errors=None),
        OutlierDetection(
            success_rate_stdev_factor=None,
            consecutive_errors=None,
            consecutive_gateway_errors=None,
        ),
    ],
)
def test_what_is_null_is_not_detected(settings: OutlierDetection) -> None:
    simulation = Simulation(4, settings)
    simulation.run(9.5, 400, dead(2))
    assert simulation.ejected == set()
    simulation.run(1, 400, dead(2))
    assert (simulation.ejected == {2}) is (settings.success_rate_stdev_factor is not None)


def test_ejections_grow_to_the_maximum_and_shrink_again_after_calm() -> None:
    settings = OutlierDetection(base_ejection_ms=1_000, max_ejection_ms=5_000, interval_ms=1_000)
    assert [ejection_seconds(settings, n) for n in (1, 2, 3, 4, 99)] == [1, 2, 4, 5, 5]
    simulation = Simulation(2, settings)
    for expected in (1, 2, 4, 5):
        simulation.run(0.2, 400, dead(0))
        assert simulation.ejected == {0}
        began = simulation.now
        while simulation.ejected:
            simulation.run(LOOK, 400, good)
        assert simulation.now - began == pytest.approx(expected, abs=0.3)
    assert simulation.health[0].ejections == 4
    # As long without anything as the last one took, then as the one before, and so on.
    simulation.run(7, 400, good)
    assert simulation.health[0].ejections == 3
    simulation.run(11, 400, good)
    assert simulation.health[0].ejections == 0


def test_checks_that_succeed_again_after_they_failed_end_an_ejection() -> None:
    simulation = Simulation(4)
    simulation.run(0.2, 400, dead(2))
    health = simulation.health[2]
    simulation.run(1, 400, good)
    assert simulation.ejected == {2}  # Checks that always succeeded say nothing new.
    health.set_failing(True, simulation.now)
    simulation.run(1, 400, good)
    assert simulation.ejected == {2}
    health.set_failing(False, simulation.now)
    simulation.run(LOOK, 400, good)
    assert simulation.ejected == set()


def test_an_ejected_backend_stays_out_while_its_checks_fail() -> None:
    simulation = Simulation(4)
    simulation.run(0.2, 400, dead(2))
    simulation.health[2].set_failing(True, simulation.now)
    simulation.run(31, 400, good)
    assert simulation.ejected == set()
    before = simulation.requests[2]
    simulation.run(1, 400, good)
    assert simulation.requests[2] == before


def test_where_all_others_fail_their_checks_ejected_ones_get_requests() -> None:
    simulation = Simulation(2)
    simulation.run(0.2, 400, dead(0))
    assert simulation.ejected == {0}
    simulation.health[1].set_failing(True, simulation.now)
    simulation.upstream.apply(simulation.now)
    assert {simulation.balancer.pick() for _ in range(9)} == {0}


def test_another_process_goes_on_with_what_was_found() -> None:
    """As when a program takes over: all it has is the segment."""
    simulation = Simulation(4)
    simulation.run(0.2, 400, dead(2))
    names = [f"b{at}" for at in range(4)]
    simulation.observed = [ObservedBackend(simulation.segment, "api", name) for name in names]
    simulation.detector = OutlierDetector(OutlierDetection(), simulation.observed, 10.0)
    simulation.run(29, 400, good)
    assert simulation.ejected == {2}
    simulation.run(2, 400, good)
    assert simulation.ejected == set()
    simulation.run(0.2, 400, dead(2))
    assert simulation.health[2].ejected_until == pytest.approx(simulation.now + 60, abs=1)


def test_a_backend_that_is_forgotten_begins_anew() -> None:
    simulation = Simulation(4)
    simulation.run(0.2, 400, dead(2))
    simulation.observed[2].forget(simulation.now)
    assert simulation.ejected == set()
    assert simulation.health[2].ejections == 0
    assert ObservedBackend(simulation.segment, "api", "b2").take_sample() == Sample(0, 0)


def test_a_share_is_held_against_chance_and_against_how_the_others_differ() -> None:
    def shares(*errors: int, tries: int = 1_000) -> dict[int, Sample]:
        return {at: Sample(tries, count) for at, count in enumerate(errors)}

    assert find_failing(shares(0, 0, 0, 100), 4.0) == [3]
    assert find_failing(shares(0, 0, 0, 25), 4.0) == []  # Not worth it.
    assert find_failing(shares(0, 0, 0, 5, tries=100), 4.0) == []  # It may be chance.
    assert find_failing(shares(10, 60, 110, 160), 4.0) == []  # They all differ.
    assert find_failing(shares(0, 300, 100, 0, 0), 4.0) == [1, 2]  # The worst first.


def test_a_latency_is_held_against_the_others_by_factor_and_by_milliseconds() -> None:
    def samples(*milliseconds: float) -> dict[int, Sample]:
        tally_units = [int(1024 * math.log2(ms * 1000)) for ms in milliseconds]
        return {at: Sample(100, 0, 100 * units, 100) for at, units in enumerate(tally_units)}

    assert find_slow(samples(10, 12, 9, 100), 5.0) == [3]
    assert find_slow(samples(10, 12, 9, 40), 5.0) == []
    assert find_slow(samples(1, 1, 1, 8), 5.0) == []
    assert find_slow(samples(10, 100, 9, 200, 11), 5.0) == [3, 1]


def test_an_error_counted_in_the_interval_after_its_try_is_no_more_than_all_tries() -> None:
    segment = private_segment()
    observed = ObservedBackend(segment, "api", "b0")
    words = outcome_words(segment, "api", "b0")
    assert words is not None
    words.add(TRIES, 10)
    words.add(ERRORS, 12)
    assert observed.take_sample() == Sample(10, 10)
    assert find_failing({1: Sample(10, 10), 2: Sample(10, 10), 3: Sample(10, 10)}, 1.0) == []


@given(st.lists(st.integers(0, 9), min_size=2, max_size=9), st.data())
def test_the_median_without_one_is_that_of_the_others(numbers: list[int], data: Any) -> None:
    left_out = data.draw(st.integers(0, len(numbers) - 1))
    others = numbers[:left_out] + numbers[left_out + 1 :]
    assert _median_without(sorted(numbers), numbers[left_out]) == median(others)


def test_two_thousand_backends_are_compared_without_comparing_each_with_each() -> None:
    asked = 0

    class Counted(Sample):
        __slots__ = ()

        @property
        def error_share(self) -> float:
            nonlocal asked
            asked += 1
            return self.errors / self.tries

    samples = {at: Counted(1000, 0 if at < 1990 else 500) for at in range(2000)}
    assert find_failing(samples, 4.0) == list(range(1990, 2000))
    assert asked <= 10 * len(samples)
