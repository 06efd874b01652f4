"""The watchdog's rules in simulated time: who is replaced, when, and above all who is not."""

from collections.abc import Callable

import pytest

from spooky.config.watchdog import Watchdog
from spooky.control.watchdog import (
    SUCCESSOR_SECONDS,
    Act,
    Replace,
    Requests,
    Seen,
    ShowStack,
    Sign,
    Slept,
    Spare,
    WatchdogRules,
)

SETTINGS = Watchdog(timeout_error_rate_percent=60)
STALL = SETTINGS.poll_stall_timeout_ms / 1000
BOUND = SETTINGS.stall_bound_ms / 1000


class Machine:
    """Some workers and their supervisor, which looks at them once a second."""

    def __init__(self, slots: int, settings: Watchdog = SETTINGS) -> None:
        self.now = 1000.0
        self.rules = WatchdogRules(settings, lambda pid: pid in self.traced)
        self.workers = [Seen(slot, 100 + slot, self.now, serves=True) for slot in range(slots)]
        self.stopped: set[int] = set()
        self.traced: set[int] = set()
        self.acts: list[tuple[float, Act]] = []

    def run(self, seconds: float, work: Callable[[Seen], Seen] = lambda seen: seen) -> None:
        """Let time pass; workers that are not stopped turn, and do some work in each second."""
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            self.workers = [
                seen if seen.pid in self.stopped else work(seen._replace(beat=self.now))
                for seen in self.workers
            ]
            for act in self.rules.look(self.now, self.workers):
                self.acts.append((self.now, act))

    def succeed(self, slot: int) -> None:
        """Put another worker into a slot."""
        seen = self.workers[slot]
        self.workers[slot] = seen._replace(pid=seen.pid + 1000, beat=self.now)

    def replaced(self) -> list[int]:
        return [act.slot for _, act in self.acts if isinstance(act, Replace)]


def test_a_worker_that_stalls_shows_its_stack_and_is_killed_after_the_windows() -> None:
    machine = Machine(2)
    machine.run(3)
    machine.stopped.add(100)
    began = machine.now
    machine.run(STALL + 10)
    (shown, stack), (killed, replace) = machine.acts
    assert (stack, shown) == (ShowStack(0, STALL), began + STALL)
    assert isinstance(replace, Replace)
    assert (replace.slot, replace.sign, replace.grace) == (0, Sign.STALLED, None)
    assert began + STALL < killed <= began + BOUND


def test_a_worker_that_turns_again_in_time_is_left_alone() -> None:
    machine = Machine(2)
    machine.run(3)
    for _ in range(5):
        machine.stopped.add(100)
        machine.run(BOUND - 2)
        machine.stopped.clear()
        machine.run(2)
    assert machine.replaced() == []
    # Each stall is shown once.
    assert [type(act) for _, act in machine.acts] == [ShowStack] * 5


def test_a_machine_that_was_suspended_loses_no_worker() -> None:
    """All heartbeats are stale at once, and so was the supervisor."""
    machine = Machine(4)
    machine.run(3)
    machine.now += 3600
    machine.run(1, lambda seen: seen._replace(beat=1003.0))
    assert machine.acts == [(machine.now, Slept(3600.0))]
    # Some are slower to come back than the supervisor.
    machine.stopped = {100, 101, 102, 103}
    machine.run(STALL - 1)
    machine.stopped.clear()
    machine.run(60)
    assert machine.replaced() == []


def test_workers_that_all_stall_are_replaced_one_by_one() -> None:
    machine = Machine(3)
    machine.run(3)
    machine.stopped = {100, 101, 102}
    machine.run(BOUND + 30)
    assert machine.replaced() == [0]
    machine.succeed(0)
    machine.run(2)
    assert machine.replaced() == [0, 1]
    # What kept all of them is over: nobody else is killed.
    machine.stopped.clear()
    machine.succeed(1)
    machine.run(60)
    assert machine.replaced() == [0, 1]


def test_a_successor_that_never_begins_does_not_protect_the_next_for_ever() -> None:
    machine = Machine(2)
    machine.run(3)
    machine.stopped = {100, 101}
    machine.run(BOUND)
    machine.workers.pop(0)
    machine.run(SUCCESSOR_SECONDS + 5)
    assert machine.replaced() == [0, 1]


def test_successors_that_stall_too_are_replaced_no_faster_than_the_cooldown() -> None:
    machine = Machine(2)
    machine.run(3)
    began = machine.now
    for _ in range(300):
        stalled = machine.workers[0].pid
        machine.stopped = {stalled}
        machine.run(1)
        if len(machine.replaced()) and machine.workers[0].pid == stalled:
            last = max(now for now, act in machine.acts if isinstance(act, Replace))
            if last == machine.now:
                machine.succeed(0)
    cooldown = SETTINGS.restart_cooldown_ms / 1000
    assert 2 <= len(machine.replaced()) <= 1 + (machine.now - began) / cooldown


def test_a_worker_that_somebody_debugs_is_spared_and_that_is_said_once() -> None:
    machine = Machine(2)
    machine.run(3)
    machine.stopped = machine.traced = {100}
    machine.run(BOUND + 100)
    assert machine.replaced() == []
    assert [act for _, act in machine.acts if isinstance(act, Spare)] == [
        Spare(0, "a debugger holds it")
    ]
    machine.traced = set()
    machine.run(1)
    assert machine.replaced() == [0]


def busy(
    timed_out: dict[int, int], ended: int = 50, upstreams: tuple[str, ...] = ("api", "api")
) -> Callable[[Seen], Seen]:
    """Let so many requests to an upstream end in each window, some timed out, by slot."""

    def work(seen: Seen) -> Seen:
        upstream = upstreams[seen.slot]
        before = seen.requests.get(upstream, Requests(0, 0))
        now = Requests(before.ended + ended, before.timed_out + timed_out.get(seen.slot, 0))
        return seen._replace(requests={upstream: now})

    return work


def test_a_worker_whose_requests_alone_time_out_finishes_and_is_replaced() -> None:
    machine = Machine(2)
    machine.run(10, busy({1: 40}))
    (at, act), *rest = machine.acts
    assert isinstance(act, Replace)
    assert (act.slot, act.sign, act.grace) == (1, Sign.TIMEOUTS, SETTINGS.drain_grace_ms / 1000)
    assert at == 1000.0 + 1 + SETTINGS.unhealthy_consecutive_windows
    assert rest == []


@pytest.mark.parametrize(
    ("workers", "work"),
    [
        (2, busy({0: 40, 1: 40})),  # The backends are slow.
        (1, busy({0: 40})),  # Or may be.
        (2, busy({1: 40}, upstreams=("api", "reports"))),  # Or those of one upstream.
        (2, busy({1: 25})),  # Fewer than 60 %.
        (2, busy({1: 19}, ended=19)),  # Too few to tell.
    ],
)
def test_timeouts_that_are_no_sign_of_one_worker_replace_none(
    workers: int, work: Callable[[Seen], Seen]
) -> None:
    machine = Machine(workers)
    machine.run(30, work)
    assert machine.acts == []


def test_timeouts_are_no_sign_unless_they_are_asked_for() -> None:
    machine = Machine(2, Watchdog())
    machine.run(30, busy({1: 40}))
    assert machine.acts == []


def test_windows_that_are_not_in_a_row_replace_nobody() -> None:
    machine = Machine(2)
    for _ in range(10):
        machine.run(SETTINGS.unhealthy_consecutive_windows - 1, busy({1: 40}))
        machine.run(1, busy({}))
    assert machine.replaced() == []


def test_a_worker_that_stalls_while_it_is_to_finish_is_killed_once() -> None:
    machine = Machine(2)
    machine.run(5, busy({1: 40}))
    assert machine.replaced() == [1]
    machine.workers[1] = machine.workers[1]._replace(serves=False)
    machine.stopped.add(101)
    machine.run(60)
    graces = [act.grace for _, act in machine.acts if isinstance(act, Replace)]
    assert graces == [SETTINGS.drain_grace_ms / 1000, None]


def test_a_worker_that_finishes_is_watched_for_stalls_alone() -> None:
    machine = Machine(2)
    machine.workers[1] = machine.workers[1]._replace(serves=False)
    machine.run(30, busy({1: 50}))
    assert machine.acts == []
    machine.stopped.add(101)
    machine.run(BOUND + 1)
    assert machine.replaced() == [1]
