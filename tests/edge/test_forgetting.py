"""What is forgotten in time: counts of what a change removed, and peers without a connection."""

from types import SimpleNamespace
from typing import Any, cast

from spooky.edge.peers import FORGET_MARGIN_SECONDS, Forgetting
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


def test_peers_are_forgotten_when_no_connection_of_theirs_can_be_left() -> None:
    """Of connections that began before a change too, which lasts longer than those after it."""
    due: list[tuple[float, Any]] = []
    forgotten: list[float] = []
    runtime = SimpleNamespace(clock=0.0)
    runtime.now = lambda: runtime.clock
    runtime.schedule = lambda when, what: due.append((when, what)) or "timer"
    timeouts = [30.0, 5.0, 60.0, 60.0]
    Forgetting(cast(Any, runtime), lambda: forgotten.append(runtime.clock), lambda: timeouts.pop(0))
    for _ in range(3):
        runtime.clock, what = due.pop()
        what()
    first = 30.0 + FORGET_MARGIN_SECONDS
    assert forgotten == [first, 2 * first, 2 * first + 60.0 + FORGET_MARGIN_SECONDS]
