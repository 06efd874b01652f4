"""How long the first backend has until a second one is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.shared import LATENCY_BOUNDS
from spooky.overload.hedging import (
    KEPT_SECONDS,
    SAMPLES_MIN,
    WINDOW_SECONDS,
    HedgeDelay,
    percentile_of,
)

FIXED = 0.1
START = 1_000_000.0


class Seen:
    """How many responses took how long, so far."""

    def __init__(self):
        self.counts = [0] * (len(LATENCY_BOUNDS) + 1)

    def add(self, upper: float, count: int) -> None:
        self.counts[LATENCY_BOUNDS.index(upper)] += count

    def read(self) -> list[int]:
        return list(self.counts)


def test_without_a_percentile_the_delay_is_fixed():
    seen = Seen()
    delay = HedgeDelay(FIXED, None, seen.read)
    seen.add(5.0, 10_000)
    assert delay.seconds(START) == FIXED


def test_the_delay_is_fixed_until_enough_responses_were_seen():
    seen = Seen()
    delay = HedgeDelay(FIXED, 95, seen.read)
    assert delay.seconds(START) == FIXED
    seen.add(0.005, SAMPLES_MIN - 1)
    assert delay.seconds(START + KEPT_SECONDS) == FIXED
    seen.add(0.005, 1)
    assert 0.0025 < delay.seconds(START + 2 * KEPT_SECONDS) <= 0.005


def test_what_came_before_is_not_recent():
    seen = Seen()
    seen.add(10.0, 10_000)
    delay = HedgeDelay(FIXED, 50, seen.read)
    assert delay.seconds(START) == FIXED
    seen.add(0.005, 1_000)
    assert delay.seconds(START + KEPT_SECONDS) <= 0.005


def test_the_delay_follows_a_backend_that_becomes_slow():
    seen = Seen()
    delay = HedgeDelay(FIXED, 95, seen.read)
    assert delay.seconds(START) == FIXED
    seen.add(0.005, 1_000)
    assert delay.seconds(START + KEPT_SECONDS) <= 0.005
    for window in range(1, 4):
        seen.add(0.5, 1_000)
        latest = delay.seconds(START + window * WINDOW_SECONDS)
    assert 0.25 < latest <= 0.5
    for window in range(4, 7):
        latest = delay.seconds(START + window * WINDOW_SECONDS)
    assert latest == FIXED


def test_what_is_only_prepared_reads_nothing():
    reads = []
    delay = HedgeDelay(FIXED, 95, lambda: reads.append(1) or Seen().read())
    assert not reads
    delay.seconds(START)
    assert reads


def test_a_percentile_is_kept_for_a_moment_whenever_the_first_request_comes():
    reads = []
    seen = Seen()
    delay = HedgeDelay(FIXED, 95, lambda: reads.append(1) or seen.read())
    assert delay.seconds(0.0) == FIXED
    seen.add(0.005, 1_000)
    assert [delay.seconds(KEPT_SECONDS * part / 9) for part in range(9)] == [FIXED] * 9
    assert len(reads) == 1
    assert delay.seconds(KEPT_SECONDS) <= 0.005
    assert len(reads) == 2


def test_counters_that_were_forgotten_begin_anew():
    seen = Seen()
    delay = HedgeDelay(FIXED, 95, seen.read)
    delay.seconds(START)
    seen.add(0.5, 1_000)
    assert delay.seconds(START + WINDOW_SECONDS) > 0.25
    seen.counts = [0] * len(seen.counts)
    seen.add(0.005, 100)
    assert delay.seconds(START + WINDOW_SECONDS + 1) == FIXED
    seen.add(0.005, 100)
    assert 0.0025 < delay.seconds(START + WINDOW_SECONDS + 2) <= 0.005


@given(
    st.lists(st.integers(0, 1_000), min_size=18, max_size=18).filter(any),
    st.floats(50, 99.9),
)
def test_a_percentile_lies_in_the_bucket_of_its_rank(counts, percentile):
    value = percentile_of(counts, percentile)
    rank = sum(counts) * percentile / 100
    below = sum(c for c, upper in zip(counts, LATENCY_BOUNDS, strict=False) if upper < value)
    up_to = sum(
        c for c, lower in zip(counts, (0.0, *LATENCY_BOUNDS), strict=True) if lower < value
    )  # fmt: skip
    assert below <= rank + 1e-6
    assert up_to >= rank - 1e-6 or value == LATENCY_BOUNDS[-1]


@pytest.mark.parametrize(("percentile", "value"), [(50, 0.0075), (90, 0.0095)])
def test_a_bucket_counts_as_evenly_filled(percentile, value):
    seen = Seen()
    seen.add(0.01, 100)
    assert percentile_of(seen.counts, percentile) == pytest.approx(value)
