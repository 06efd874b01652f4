"""Worse is worse by much and not by chance: what little traffic cannot fake."""

import random
from bisect import bisect_left
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.shared import BUCKET_VALUES, LATENCY_BOUNDS
from spooky.control.regression import find_regression
from spooky.control.traffic import Traffic, UpstreamTraffic
from spooky.observe.quantiles import estimate


def latencies(*seconds: float) -> tuple[int, ...]:
    """Return the buckets of some latencies."""
    counts = [0] * BUCKET_VALUES
    for one in seconds:
        counts[next((i for i, bound in enumerate(LATENCY_BOUNDS) if one <= bound), -1)] += 1
    return tuple(counts)


def requests(count: int, failures: int = 0, slow: tuple[int, ...] | None = None) -> Traffic:
    """Return traffic of one upstream."""
    none = (0,) * BUCKET_VALUES
    return Traffic({"api": UpstreamTraffic(count, failures, none if slow is None else slow)})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (requests(1000, 1), requests(20, 20)),
        (requests(1000, 1), requests(60, 6)),
        (requests(100_000, 10), requests(10_000, 150)),
        (requests(400, 20), requests(400, 80)),
        # A service that nobody used before, and that fails whoever comes.
        (requests(0), requests(40, 30)),
        (Traffic(), requests(40, 40)),
    ],
)
def test_more_5xx_than_chance_would_have_is_a_regression(before: Traffic, after: Traffic) -> None:
    assert "5xx" in find_regression(before, after)
    assert "upstream api" in find_regression(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (requests(1000), requests(0)),
        (requests(1000), requests(19, 19)),
        (requests(1000), requests(1000, 4)),
        (requests(100_000, 10), requests(10_000, 50)),
        (requests(50, 5), requests(30, 7)),
        (requests(400, 100), requests(400, 180)),
        (requests(400, 400), requests(400, 400)),
        (requests(5), requests(40, 10)),
    ],
)
def test_little_traffic_and_what_failed_before_are_none(before: Traffic, after: Traffic) -> None:
    assert find_regression(before, after) == ""


def test_a_small_upstream_is_not_drowned_by_a_large_one() -> None:
    fine, broken = UpstreamTraffic(100_000), UpstreamTraffic(60, 60)
    before = Traffic({"large": fine, "small": UpstreamTraffic(60)})
    text = find_regression(before, Traffic({"large": fine, "small": broken}))
    assert text == "5xx: 100.0 % (0.0 % of 60 before) of 60 requests for upstream small"


def test_failed_handshakes_are_a_regression() -> None:
    before = Traffic(connections=500, failed_handshakes=20)
    assert find_regression(before, Traffic(connections=100, failed_handshakes=7)) == ""
    text = find_regression(before, Traffic(connections=100, failed_handshakes=60))
    assert text == "failed handshakes: 60.0 % (4.0 % of 500 before) of 100 connections"


def test_backends_that_can_serve_no_more_are_a_regression() -> None:
    before = Traffic(ready={"api": 1.0, "web": 0.5, "dead": 0.0})

    def after(**shares: float) -> str:
        return find_regression(before, Traffic(ready=shares))

    assert after(api=0.5, web=0.25, dead=0.0, new=0.0) == ""
    assert after(api=0.4) == "ready backends: 40 % of those of upstream api (100 % before)"
    assert "0 % of those of upstream web (50 % before)" in after(api=1.0, web=0.0)


def test_slower_responses_are_a_regression_and_as_slow_ones_are_none() -> None:
    fast, slow = latencies(*[0.004] * 200), latencies(*[0.2] * 100)
    assert find_regression(requests(200, slow=fast), requests(100, slow=fast)) == ""
    assert find_regression(requests(200, slow=slow), requests(100, slow=slow)) == ""
    assert "p50 of 100 requests for upstream api" in find_regression(
        requests(200, slow=fast), requests(100, slow=slow)
    )
    # An upstream that is new has nothing to be slower than.
    assert find_regression(Traffic(), requests(100, slow=slow)) == ""
    # From 0.2 to 0.8 ms nobody notices.
    quick, less = latencies(*[0.0002] * 200), latencies(*[0.0008] * 200)
    assert find_regression(requests(200, slow=quick), requests(200, slow=less)) == ""


def test_a_slow_tail_is_a_regression_where_enough_came_to_tell() -> None:
    before = requests(1000, slow=latencies(*[0.004] * 998, *[0.02] * 2))
    tail = requests(1000, slow=latencies(*[0.004] * 960, *[0.4] * 40))
    assert "p99" in find_regression(before, tail)
    assert find_regression(before, requests(30, slow=latencies(*[0.004] * 28, 0.4, 0.4))) == ""


def test_chance_alone_is_hardly_ever_a_regression() -> None:
    """One of 500 probations, each asked 60 times, at several rates of failure and of traffic."""
    numbers = random.Random(20261128)
    wrong = 0
    for probation in range(500):
        share = (0.001, 0.01, 0.05, 0.2)[probation % 4]
        rate = (1, 5, 50)[probation % 3]

        def failures(count: int, share: float = share) -> int:
            return sum(numbers.random() < share for _ in range(count))

        before = requests(rate * 20, failures(rate * 20))
        count = failed = 0
        for _ in range(60):
            count, failed = count + rate, failed + failures(rate)
            if find_regression(before, requests(count, failed)):
                wrong += 1
                break
    assert wrong <= 1


def test_one_slow_request_of_few_is_no_regression() -> None:
    before = requests(1003, slow=latencies(*[0.0008] * 993, *[0.002] * 10))
    after = latencies(*[0.0008] * 17, *[0.002] * 4, 0.02)
    assert find_regression(before, requests(22, slow=after)) == ""
    assert find_regression(before, requests(22, slow=latencies(*[0.0008] * 16, *[0.2] * 6)))


LATENCY_KINDS: dict[str, Callable[[random.Random], float]] = {
    "steady": lambda numbers: numbers.lognormvariate(-5.5, 0.3),
    "wide": lambda numbers: numbers.lognormvariate(-5.5, 1.2),
    "fast": lambda numbers: 0.02 if numbers.random() < 0.005 else numbers.uniform(0.0005, 0.0009),
    "two kinds": lambda numbers: 0.3 if numbers.random() < 0.02 else 0.001,
    "rarely slow": lambda numbers: 0.3 if numbers.random() < 0.008 else 0.001,
    "heavy": lambda numbers: 0.001 * numbers.paretovariate(1.1),
}
"""Latencies as services have them, seconds."""


def buckets(kind: str, factor: float = 1.0) -> list[int]:
    """Return the buckets of 10,000 latencies, each so many times what it would be."""
    numbers, draw = random.Random(kind), LATENCY_KINDS[kind]
    return [bisect_left(LATENCY_BOUNDS, factor * draw(numbers)) for _ in range(10_000)]


def slowed(numbers: random.Random, rate: int, before: list[int], after: list[int]) -> str:
    """Return what is said within 60 seconds of requests whose latencies are of these buckets."""
    old, new = [0] * BUCKET_VALUES, [0] * BUCKET_VALUES
    for bucket in numbers.choices(before, k=20 * rate):
        old[bucket] += 1
    earlier = requests(20 * rate, slow=tuple(old))
    for second in range(1, 61):
        for bucket in numbers.choices(after, k=rate):
            new[bucket] += 1
        if text := find_regression(earlier, requests(second * rate, slow=tuple(new))):
            return text
    return ""


@pytest.mark.parametrize("factor", [1.0, 1.5])
@pytest.mark.parametrize("kind", LATENCY_KINDS)
def test_chance_and_a_little_more_hardly_ever_make_responses_slower(
    kind: str, factor: float
) -> None:
    """One of 60 probations, each asked 60 times, at several rates of traffic."""
    numbers, same, after = random.Random(20261129), buckets(kind), buckets(kind, factor)
    found = [slowed(numbers, (1, 5, 20)[at % 3], same, after) for at in range(60)]
    assert sum(map(bool, found)) <= 1, found


@pytest.mark.parametrize("kind", LATENCY_KINDS)
def test_responses_that_are_twenty_times_slower_are_found(kind: str) -> None:
    numbers, fast, slow = random.Random(20261129), buckets(kind), buckets(kind, 20)
    for rate in (2, 5, 20):
        assert "latency: p" in slowed(numbers, rate, fast, slow)


@given(
    st.lists(st.integers(0, 50), min_size=BUCKET_VALUES, max_size=BUCKET_VALUES).filter(any),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_quantile_lies_in_its_bucket_and_grows(counts: list[int], one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert 0 <= estimate(low, tuple(counts)) <= estimate(high, tuple(counts)) <= LATENCY_BOUNDS[-1]
