"""The table of the kernels' benchmarks states the cost of one call, the harness subtracted."""

from typing import Any

import pytest

from spooky.bench.micro import lines
from tools.bench_table import medians


def run(group: str, param: str, median: float, **extra: float) -> dict[str, Any]:
    return {"group": group, "param": param, "stats": {"median": median}, "extra_info": extra}


def test_a_loop_is_divided_by_its_calls_after_its_harness_is_subtracted() -> None:
    loop = run("pick", "equal-compiled", 30e-6, calls=1000, harness_seconds=10e-6)
    assert medians([loop])["pick"]["compiled"] == pytest.approx(20.0)


def test_a_run_that_is_no_loop_counts_as_it_is() -> None:
    assert medians([run("fire", "pure", 2e-6)])["fire"]["pure"] == pytest.approx(2000.0)


def test_a_row_has_both_sides_and_their_ratio() -> None:
    table = medians([run("fire", "pure", 2e-6), run("fire", "compiled", 5e-8)])
    assert [cell.strip() for cell in lines(table)[2].strip("|").split("|")] == [
        "fire", "50.0 ns", "2,000 ns", "40.0",
    ]  # fmt: skip


def test_a_side_that_was_not_run_is_left_open() -> None:
    (row,) = lines(medians([run("fire", "pure", 2e-6)]))[2:]
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["fire", "-", "2,000 ns", "-"]


def test_two_runs_for_one_cell_are_refused() -> None:
    with pytest.raises(SystemExit, match="two benchmarks for pure in group 'fire'"):
        medians([run("fire", "pure", 2e-6), run("fire", "pure", 3e-6)])
