"""What it costs to bound a QPACK block, compiled and as the twin does it."""

from types import ModuleType

import pylsqpack
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY, REQUEST
from benchmarks.loops import time_calls
from spooky._core import qpack as compiled
from spooky._core.pure import qpack as pure


@pytest.mark.parametrize(
    "kernel",
    [pytest.param(compiled, id="compiled", marks=COMPILED_ONLY), pytest.param(pure, id="pure")],
)
@pytest.mark.benchmark(group="qpack scan: 15 fields")
def test_scan(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    _, block = pylsqpack.Encoder().encode(0, REQUEST)
    assert time_calls(benchmark, kernel.scan, block, 128, 16384) == kernel.WITHIN_LIMITS
