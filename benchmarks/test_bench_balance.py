"""What it costs to pick one of 100 backends, compiled and as the twin does it."""

from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY
from benchmarks.loops import CALLS, time_calls, time_picks
from spooky._core import balance as compiled
from spooky._core.pure import balance as pure

BACKENDS = [b"backend-%d" % number for number in range(100)]
EQUAL = [100] * len(BACKENDS)
MIXED = [(50, 100, 200)[number % 3] for number in range(len(BACKENDS))]

SIDES = pytest.mark.parametrize(
    "kernel",
    [pytest.param(compiled, id="compiled", marks=COMPILED_ONLY), pytest.param(pure, id="pure")],
)


@SIDES
@pytest.mark.parametrize("strategy", ["RoundRobin", "Random", "LeastRequest", "RingHash", "Maglev"])
@pytest.mark.parametrize("weights", [EQUAL, MIXED], ids=["equal", "mixed"])
def test_pick(
    benchmark: BenchmarkFixture, kernel: ModuleType, strategy: str, weights: list[int]
) -> None:
    kind = "equal" if weights is EQUAL else "mixed"
    benchmark.group = f"pick: {strategy}, 100 backends, {kind} weights"
    time_picks(benchmark, getattr(kernel, strategy)(BACKENDS, weights))


@SIDES
@pytest.mark.parametrize("strategy", ["RingHash", "Maglev"])
def test_pick_with_bounded_load(
    benchmark: BenchmarkFixture, kernel: ModuleType, strategy: str
) -> None:
    benchmark.group = f"pick: {strategy}, 100 backends, bounded load"
    balancer = getattr(kernel, strategy)(BACKENDS, EQUAL, balance_factor=1.25)
    for key in range(CALLS):
        balancer.started(balancer.pick(kernel.hash_key(b"%d" % key)))
    time_picks(benchmark, balancer)


@SIDES
@pytest.mark.benchmark(group="pick: LatencyAware, 100 backends, equal weights")
def test_pick_latency_aware(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    balancer = kernel.LatencyAware(BACKENDS, EQUAL)
    for backend in range(len(BACKENDS)):
        balancer.started(backend)
        balancer.finished(backend, 10.0 + backend)
    time_picks(benchmark, balancer)


@SIDES
@pytest.mark.parametrize("length", [16, 64])
def test_hash_key(benchmark: BenchmarkFixture, kernel: ModuleType, length: int) -> None:
    benchmark.group = f"hash_key: {length} bytes"
    assert time_calls(benchmark, kernel.hash_key, bytes(range(length))) == pure.hash_key(
        bytes(range(length))
    )
