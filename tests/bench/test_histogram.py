"""The latency histogram, held against sorted lists."""

import math
import random

import pytest

pytest.importorskip("spooky.bench.histogram", reason="the load generator is not compiled")

from spooky.bench.histogram import Histogram

PRECISION = 1 / 256


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_percentiles_are_those_of_the_sorted_values_to_a_256th(share: float) -> None:
    random_ = random.Random(11)
    values = [int(random_.lognormvariate(8, 2)) for _ in range(20_000)]
    exact = sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
    found = filled(values).percentile(share)
    assert exact <= found <= exact * (1 + PRECISION)


def test_values_below_512_are_exact() -> None:
    histogram = filled(list(range(512)))
    assert [histogram.percentile((value + 1) / 512) for value in range(512)] == list(range(512))


@pytest.mark.parametrize("value", [0, 1, 511, 512, 513, 1023, 1024, 2**20 - 1, 2**20, 2**36 - 1])
def test_edges_of_buckets_hold_their_own_value(value: int) -> None:
    ((highest, count),) = filled([value]).buckets()
    assert count == 1
    assert value <= highest <= value * (1 + PRECISION)


def test_what_is_out_of_range_counts_as_the_nearest_value_in_it() -> None:
    histogram = filled([-5, 2**60])
    assert histogram.percentile(0.0) == 0
    assert histogram.maximum == 2**36 - 1


def test_the_largest_value_is_exact() -> None:
    histogram = filled([3, 1_234_567])
    assert histogram.percentile(1.0) == histogram.maximum == 1_234_567


def test_mean_count_and_sum() -> None:
    histogram = filled([10, 20, 60])
    assert (histogram.count, histogram.total, histogram.mean) == (3, 90, 30.0)


def test_an_empty_histogram_knows_nothing() -> None:
    histogram = Histogram()
    assert (histogram.percentile(0.5), histogram.maximum, histogram.mean) == (0, 0, 0.0)
    assert histogram.buckets() == []


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, not 99"):
        Histogram().percentile(99)


def test_added_histograms_are_as_one_that_saw_all() -> None:
    first, second = filled([5, 700, 90_000]), filled([5, 123_456])
    first.add(second)
    assert first.buckets() == filled([5, 5, 700, 90_000, 123_456]).buckets()
    assert (first.count, first.maximum) == (5, 123_456)


def test_a_histogram_survives_its_buckets() -> None:
    random_ = random.Random(3)
    whole = filled([random_.randrange(10**7) for _ in range(1000)])
    again = Histogram.of_buckets(whole.buckets())
    assert again.buckets() == whole.buckets()
    assert (again.maximum, again.count) == (whole.maximum, whole.count)
