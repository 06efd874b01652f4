"""What counting and limits in the shared segment cost, compiled and as the twin does it."""

import mmap
from array import array
from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY
from spooky._core import shared as compiled
from spooky._core.pure import shared as pure

SIDES = pytest.mark.parametrize(
    "kernel",
    [pytest.param(compiled, id="compiled", marks=COMPILED_ONLY), pytest.param(pure, id="pure")],
)


def segment(kernel: ModuleType) -> pure.Segment:
    """Return a segment of four slots."""
    made: pure.Segment = kernel.Segment(mmap.mmap(-1, kernel.segment_size(4)), 4)
    return made


@pytest.mark.parametrize("values", ["segment", "array"])
@pytest.mark.benchmark(group="shared: count 1,000, in the segment and in an array of our own")
def test_count(benchmark: BenchmarkFixture, values: str) -> None:
    slots = segment(compiled).values(1) if values == "segment" else array("q", bytes(80))

    def count() -> None:
        for _ in range(1_000):
            slots[7] += 1

    benchmark(count)
    assert slots[7] > 0


@SIDES
@pytest.mark.benchmark(group="shared: take a place and give it back")
def test_limit(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    limit = segment(kernel).limit(6, 1)
    assert limit is not None

    def take_and_give() -> None:
        limit.take(10)
        limit.give()

    benchmark(take_and_give)
    assert limit.total == 0


@SIDES
@pytest.mark.benchmark(group="shared: a token for one source of a thousand")
def test_source_rate(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    made = segment(kernel)
    for source in range(1_000):
        made.take_source_rate(source * 7919, 10**12, 1, 100)
    assert benchmark(made.take_source_rate, 7919, 10**12, 1, 10**9)


@SIDES
@pytest.mark.benchmark(group="shared: observe a duration")
def test_observe(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    made = segment(kernel)
    benchmark(made.histogram(1, 20).observe, 0.012)
    assert made.load(1, 20 + 6) > 0
