"""Round-robin, random, least-request and latency-aware: whom they prefer; in both builds."""

import mmap
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import _core
from spooky._core import balance as compiled
from spooky._core.pure import balance as pure
from spooky._core.shared import Segment, segment_size

BUILDS = [pure, compiled] if _core.COMPILED else [pure]


@pytest.fixture(params=BUILDS, ids=lambda build: "compiled" if build is compiled else "pure")
def balance(request: pytest.FixtureRequest) -> ModuleType:
    return request.param  # type: ignore[no-any-return]


def names(count: int) -> list[bytes]:
    return [b"b%d" % number for number in range(count)]


def picks(balancer: Any, count: int) -> str:
    """Return the next picks as letters."""
    return "".join("ABCDEFGH"[balancer.pick()] for _ in range(count))


# --- round-robin ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("weights", "cycle"),
    [
        ([100, 200], "BAB"),  # The example of the reference.
        ([7, 7, 7], "ABC"),
        ([5, 1, 1], "ABAAACA"),
        ([1000, 2000 // 2], "AB"),
        ([3, 2, 1], "ABACBA"),
    ],
)
def test_round_robin_interleaves(balance: ModuleType, weights: list[int], cycle: str) -> None:
    balancer = balance.RoundRobin(names(len(weights)), weights)
    assert picks(balancer, 3 * len(cycle)) == 3 * cycle


@given(weights=st.lists(st.integers(1, 12), min_size=1, max_size=8), seed=st.integers(0, 9))
@pytest.mark.parametrize("build", BUILDS)
def test_round_robin_is_exact_over_a_cycle_and_smooth_within(
    build: ModuleType, weights: list[int], seed: int
) -> None:
    """Within a cycle nobody is a whole round of the others ahead or behind."""
    balancer = build.RoundRobin(names(len(weights)), weights, seed)
    counts: Counter[int] = Counter()
    total = sum(weights)
    for number in range(1, total + 1):
        counts[balancer.pick()] += 1
        for backend, weight in enumerate(weights):
            assert abs(counts[backend] - number * weight / total) < len(weights)
    assert [counts[backend] for backend in range(len(weights))] == weights


def test_round_robin_stores_no_sequence(balance: ModuleType) -> None:
    """Five hundred coprime weights have a cycle of a quarter of a million picks."""
    weights = list(range(501, 1001))
    balancer = balance.RoundRobin(names(500), weights)
    counts = Counter(balancer.pick() for _ in range(20_000))
    assert len(counts) == 500
    for backend, weight in enumerate(weights):
        assert abs(counts[backend] - 20_000 * weight / sum(weights)) <= 2


def test_round_robin_goes_on_where_it_was_when_membership_changes(balance: ModuleType) -> None:
    balancer = balance.RoundRobin(names(4), [1] * 4)
    assert picks(balancer, 2) == "AB"
    balancer.set_eligible(3, False)
    assert picks(balancer, 4) == "CABC"
    balancer.set_eligible(3, True)
    assert picks(balancer, 4) == "ABCD"


def test_round_robin_begins_at_its_seed(balance: ModuleType) -> None:
    assert picks(balance.RoundRobin(names(3), [1] * 3, 2), 4) == "CABC"


# --- random -----------------------------------------------------------------------------------
def chi_square(counts: Counter[int], weights: list[int]) -> float:
    total = sum(counts.values())
    expected = [total * weight / sum(weights) for weight in weights]
    return sum((counts[b] - fair) ** 2 / fair for b, fair in enumerate(expected))


@pytest.mark.parametrize("kind", ["Random", "LeastRequest"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_draws_follow_weights(balance: ModuleType, kind: str, seed: int) -> None:
    """For 9 degrees of freedom, chi-square exceeds 27.9 once in a thousand seeds."""
    weights = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    balancer = getattr(balance, kind)(names(10), weights, seed)
    assert chi_square(Counter(balancer.pick() for _ in range(20_000)), weights) < 27.9


@pytest.mark.parametrize("kind", ["RoundRobin", "Random", "LeastRequest"])
def test_second_tries_follow_weights(balance: ModuleType, kind: str) -> None:
    weights = [1, 2, 3, 4, 90]
    balancer = getattr(balance, kind)(names(5), weights, 5)
    counts = Counter(balancer.pick_other(0, 4) for _ in range(10_000))
    assert set(counts) == {0, 1, 2, 3}
    assert chi_square(counts, weights[:4]) < 16.3  # 3 degrees of freedom.


def test_seeds_give_different_sequences(balance: ModuleType) -> None:
    one, other = (balance.Random(names(8), [1] * 8, seed) for seed in (1, 2))
    assert picks(one, 40) != picks(other, 40)


# --- least request ----------------------------------------------------------------------------
def test_least_request_prefers_the_less_loaded(balance: ModuleType) -> None:
    balancer = balance.LeastRequest(names(2), [1, 1], 3)
    balancer.started(0)
    counts = Counter(balancer.pick() for _ in range(4000))
    # Both draws of a pick, and the one drawn again, must fall on the loaded one: 1 in 8.
    assert abs(counts[0] / 4000 - 1 / 8) < 0.03


def test_least_request_compares_load_for_the_weight(balance: ModuleType) -> None:
    balancer = balance.LeastRequest(names(2), [10, 1], 3)
    for _ in range(5):
        balancer.started(0)
    balancer.started(1)
    counts = Counter(balancer.pick() for _ in range(4000))
    assert counts[1] < 10  # Half of a request for a unit of weight is less than one.


def test_least_request_evens_out_what_random_does_not(balance: ModuleType) -> None:
    """Two choices: the greatest load stays near the mean (Mitzenmacher, 2001)."""
    greatest = {}
    for kind in ("LeastRequest", "Random"):
        balancer = getattr(balance, kind)(names(50), [1] * 50, 9)
        for _ in range(2500):
            balancer.started(balancer.pick())
        greatest[kind] = max(balancer.active(backend) for backend in range(50))
    assert greatest["LeastRequest"] <= 54
    assert greatest["Random"] > 58


def test_least_request_second_tries_prefer_the_less_loaded(balance: ModuleType) -> None:
    balancer = balance.LeastRequest(names(3), [1] * 3, 3)
    balancer.started(1)
    counts = Counter(balancer.pick_other(0, 0) for _ in range(2000))
    assert abs(counts[1] / 2000 - 1 / 4) < 0.05


# --- latency-aware ----------------------------------------------------------------------------
def sampled(balance: ModuleType, latencies: list[float], weights: list[int] | None = None) -> Any:
    """Return a balancer with one sample for each backend."""
    balancer = balance.LatencyAware(names(len(latencies)), weights or [100] * len(latencies))
    for backend, latency in enumerate(latencies):
        balancer.finished(backend, latency)
    return balancer


def test_the_fastest_is_picked(balance: ModuleType) -> None:
    assert picks(sampled(balance, [30.0, 20.0, 25.0]), 4) == "BBBB"


def test_an_active_request_costs_ten_milliseconds(balance: ModuleType) -> None:
    balancer = sampled(balance, [29.0, 20.0, 31.0])
    balancer.started(1)
    assert picks(balancer, 1) == "A"
    balancer.started(0)
    assert picks(balancer, 1) == "B"


def test_ties_go_to_the_fewer_active_then_to_the_first(balance: ModuleType) -> None:
    balancer = sampled(balance, [20.0, 30.0, 20.0])
    assert picks(balancer, 1) == "A"
    balancer.started(0)
    balancer.started(2)
    assert picks(balancer, 1) == "B"  # 30 ms each; two of them active, and B is not.
    balancer = sampled(balance, [20.0, 30.0])
    balancer.started(0)
    assert picks(balancer, 1) == "B"


def test_weights_divide_the_score(balance: ModuleType) -> None:
    assert picks(sampled(balance, [20.0, 30.0], [100, 200]), 2) == "BB"


def test_the_estimate_moves_a_fifth_of_the_way(balance: ModuleType) -> None:
    balancer = sampled(balance, [100.0, 81.0, 79.0])
    balancer.finished(0, 0.5)  # Taken as 1 ms: the estimate becomes 80.2.
    balancer.set_eligible(2, False)
    assert picks(balancer, 1) == "A"
    balancer.set_eligible(2, True)
    assert picks(balancer, 1) == "C"


def test_samples_are_clamped_to_a_minute(balance: ModuleType) -> None:
    balancer = sampled(balance, [1e9, 59_999.0])
    assert picks(balancer, 1) == "B"
    balancer.finished(0, 1.0)  # From 60,000 to 48,000.8; from 1e9 it would be far above.
    assert picks(balancer, 1) == "A"


def test_fast_errors_attract_no_traffic(balance: ModuleType) -> None:
    balancer = sampled(balance, [5.0, 900.0])
    balancer.failed(0, 1.0)
    assert picks(balancer, 1) == "B"
    balancer.failed(1, 1500.0)
    assert picks(balancer, 1) == "A"
    balancer.failed(0, 2.0)  # Never falls: still a second.
    balancer.failed(1, 1.0)
    assert picks(balancer, 1) == "A"


def test_a_failure_ends_a_request_and_gives_an_estimate(balance: ModuleType) -> None:
    balancer = balance.LatencyAware(names(2), [1, 1])
    balancer.started(0)
    balancer.failed(0, float("nan"))
    assert balancer.active(0) == 0
    balancer.finished(1, 999.0)
    assert picks(balancer, 1) == "B"


def test_what_others_saw_counts_like_so_many_samples(balance: ModuleType) -> None:
    learnt, sampled_ = (
        balance.LatencyAware(names(2), [1, 1]),
        balance.LatencyAware(names(2), [1, 1]),
    )
    for balancer in (learnt, sampled_):
        balancer.finished(0, 10.0)
        balancer.finished(1, 40.0)
    learnt.learn(0, 100.0, 3)
    for _ in range(3):
        sampled_.finished(0, 100.0)
    # An estimate of 54 ms: more than that of the other, until others say that it is quick again.
    assert picks(learnt, 5) == picks(sampled_, 5) == "B" * 5
    learnt.learn(0, 10.0, 1_000)
    assert picks(learnt, 5) == "A" * 5
    for nothing in ((-1.0, 5), (float("nan"), 5), (500.0, 0)):
        learnt.learn(0, *nothing)
    assert picks(learnt, 5) == "A" * 5


def test_a_negative_latency_or_nan_is_no_sample(balance: ModuleType) -> None:
    balancer = balance.LatencyAware(names(2), [1, 1])
    for latency in (-1.0, float("nan")):
        balancer.started(0)
        balancer.finished(0, latency)
    balancer.finished(1, 50_000.0)
    assert picks(balancer, 15) == "B" * 15  # A has no estimate: only a probe would find it.


def test_a_backend_without_estimate_is_probed_every_sixteenth_pick_while_idle(
    balance: ModuleType,
) -> None:
    balancer = balance.LatencyAware(names(3), [1] * 3)
    balancer.finished(1, 5.0)
    assert picks(balancer, 32) == ("B" * 15 + "A") * 2
    balancer.started(0)
    assert picks(balancer, 16) == "B" * 15 + "C"
    balancer.started(2)
    assert picks(balancer, 16) == "B" * 16


def test_without_any_estimate_the_fewest_active_for_the_weight_decide(balance: ModuleType) -> None:
    balancer = balance.LatencyAware(names(3), [1, 2, 1])
    for expected in "ABCB":
        backend = balancer.pick()
        assert "ABC"[backend] == expected
        balancer.started(backend)


def test_a_slow_backend_is_tried_again(balance: ModuleType) -> None:
    """After 128 picks for each backend its estimate is stale; else one blip were for ever."""
    balancer = sampled(balance, [5.0, 5.0])
    balancer.failed(1, 1.0)
    seen = ""
    for _ in range(600):
        backend = balancer.pick()
        seen += "AB"[backend]
        balancer.finished(backend, 5.0)
    first = seen.index("B")
    assert 256 < first < 256 + 17
    assert seen.count("B") < 4  # Its sample is one more step away from the fastest.


def test_a_stuck_backend_is_not_probed(balance: ModuleType) -> None:
    balancer = sampled(balance, [5.0, 5.0])
    balancer.failed(1, 1.0)
    balancer.started(1)
    for _ in range(600):
        assert balancer.pick() == 0
        balancer.finished(0, 5.0)


def test_second_tries_take_the_next_best(balance: ModuleType) -> None:
    assert sampled(balance, [10.0, 20.0, 30.0]).pick_other(0, 0) == 1


# --- what all workers have in flight ----------------------------------------------------------
def segments(count: int) -> list[Segment]:
    """Return views of one segment, as workers have them."""
    memory = mmap.mmap(-1, segment_size(count))
    return [Segment(memory, count), *(Segment(memory) for _ in range(count - 1))]


def test_least_request_goes_by_what_all_workers_have_in_flight(balance: ModuleType) -> None:
    """Another worker has three on the first; this one has one on the second, and none there."""
    ours, theirs = segments(2)
    balancer = balance.LeastRequest(names(2), [100, 100], seed=3)
    balancer.started(1)
    limits = [theirs.limit(2 * number + 1, 1) for number in range(2)]
    for number in range(2):
        mine = ours.limit(2 * number + 1, 0)
        assert mine is not None
        assert mine.take(9, number)
        balancer.count_by(number, mine)
    for backend, taken, preferred in ((0, 3, 1), (1, 8, 0)):
        limit = limits[backend]
        assert limit is not None
        assert limit.take(99, taken)
        found = Counter(balancer.pick() for _ in range(100))
        # Of three draws all may be of the other.
        assert found[preferred] > 75
        assert {balancer.pick_other(0, 1 - preferred) for _ in range(9)} == {preferred}


def test_others_go_by_what_their_worker_has_in_flight(balance: ModuleType) -> None:
    ours, theirs = segments(2)
    balancer = balance.LatencyAware(names(2), [100, 100])
    for number in range(2):
        limit = ours.limit(2 * number + 1, 0)
        assert limit is not None
        balancer.count_by(number, limit)
        balancer.finished(number, 20.0)
    other = theirs.limit(1, 1)
    assert other is not None
    assert other.take(99, 50)
    balancer.started(1)
    assert balancer.pick() == 0
    with pytest.raises(IndexError):
        balancer.count_by(2, other)


@given(
    weights=st.lists(st.integers(1, 1000), min_size=4, max_size=4),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), max_size=40),
)
@pytest.mark.skipif(not _core.COMPILED, reason="compares the twin with the kernel")
def test_both_builds_choose_alike_by_what_all_have_in_flight(
    weights: list[int], steps: list[tuple[int, int]]
) -> None:
    ours, theirs = segments(2)
    balancers = [build.LeastRequest(names(4), weights, 7) for build in (pure, compiled)]
    limits = []
    for number in range(4):
        mine, limit = ours.limit(2 * number + 1, 0), theirs.limit(2 * number + 1, 1)
        assert mine is not None
        assert limit is not None
        limits.append(limit)
        for balancer in balancers:
            balancer.count_by(number, mine)
    for backend, change in steps:
        if change > 0:
            limits[backend].take(99, change)
        else:
            limits[backend].give(min(limits[backend].share, -change))
        picks = [(one.pick(), one.pick_other(0, backend)) for one in balancers]
        assert picks[0] == picks[1]
