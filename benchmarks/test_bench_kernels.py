"""The cases of ``spooky bench micro`` under pytest-benchmark, on the side of this process."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from spooky import _core
from spooky.bench.kernels.case import Case
from spooky.bench.kernels.cases import CASES
from spooky.bench.micro import bare_seconds

SIDE = "compiled" if _core.COMPILED else "pure"
ROUNDS = 25


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.name}-{SIDE}") for case in CASES if case.offered]
)
def test_kernel(benchmark: BenchmarkFixture, case: Case) -> None:
    benchmark.group = case.name
    work = case.prepare()
    try:
        benchmark.extra_info["calls"] = work.calls
        benchmark.extra_info["harness_seconds"] = bare_seconds(work)
        result = benchmark.pedantic(
            work.run, setup=lambda: (work.before(), {}), rounds=ROUNDS, warmup_rounds=1
        )
        assert work.right(result)
    finally:
        work.close()
