"""Counts of what a change removed are kept as long as promised, whatever change comes next."""

from types import SimpleNamespace
from typing import Any, cast

from spooky.edge.worker import FORGET_SECONDS, Worker


def test_a_second_change_gives_what_it_removed_its_own_time() -> None:
    due: list[tuple[float, Any]] = []
    runtime = SimpleNamespace(clock=0.0)
    runtime.now = lambda: runtime.clock
    runtime.schedule = lambda when, what: due.append((when, what)) or "timer"
    worker = Worker.__new__(Worker)
    worker.runtime = cast(Any, runtime)
    worker.counters = cast(Any, SimpleNamespace(is_scarce=False))
    worker._forgetting, worker._forget_at = None, 0.0
    forgotten: list[float] = []
    cast(Any, worker)._forget_counts = lambda: forgotten.append(runtime.clock)
    worker._forget_counts_later(0.0)
    runtime.clock = FORGET_SECONDS - 1
    worker._forget_counts_later(0.0)
    while due:
        runtime.clock, what = due.pop()
        what()
    assert forgotten == [2 * FORGET_SECONDS - 1]
