"""Workers that cannot be started: tried again, each time later."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spooky._core import COMPILED
from spooky.config.watchdog import Watchdog
from spooky.control import crew as crew_module
from spooky.control import pauses
from spooky.control.change import NextGeneration, PrepareError
from spooky.control.crew import Crew, StartError
from spooky.control.slots import Slots
from spooky.control.watchdog import WatchdogRules
from spooky.control.worker_watch import WorkerWatch
from spooky.edge.messages import Drain, Steer
from spooky.observe.segment import create_segment
from spooky.protocol.quic.steering import steering_table
from tests.support.proxy import run
from tests.support.waiting import until


class Worker:
    """A worker that serves at once; some cannot be started."""

    made = 0
    failing: range = range(0)
    deaf: range = range(0)

    def __init__(self, slot: int, on_message: Any, on_exit: Callable[["Worker"], None]) -> None:
        number = Worker.made
        Worker.made += 1
        if number in Worker.failing:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.slot, self.pid, self.on_exit = slot, number, on_exit
        self.ready, self.failure, self.exit_text, self.cut = True, "", "signal 9", 0
        self.started = asyncio.get_running_loop().time()
        self.told: list[object] = []
        self.draining, self.prepared = False, None

    def send(self, message: object, descriptors: object = None) -> None:
        """Tell it something."""
        if self.pid in Worker.deaf:
            raise OSError(24, "Too many open files")
        self.told.append(message)

    def kill(self) -> None:
        """End it."""
        asyncio.get_running_loop().call_soon(self.on_exit, self)


def crew_with(monkeypatch: pytest.MonkeyPatch, failing: range, workers: int = 1) -> Crew:
    monkeypatch.setattr(Worker, "made", 0)
    monkeypatch.setattr(Worker, "failing", failing)
    monkeypatch.setattr(Worker, "deaf", range(0))
    monkeypatch.setattr(crew_module, "WorkerProcess", Worker)
    monkeypatch.setattr(pauses, "REPLACE_DELAY_MIN", 0.01)
    segment, _ = create_segment(workers)
    return Crew(Slots(workers), segment, lambda *_: (None, {}), lambda *_: None, lambda _: None)


def test_a_slot_whose_worker_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        crew = crew_with(monkeypatch, range(1, 4))
        await crew.start()
        (worker,) = crew._workers.values()
        assert isinstance(worker, Worker)
        worker.on_exit(worker)
        await until(lambda: crew.pids == {0: 4})

    run(scenario)


def test_a_dead_worker_has_a_successor_whatever_it_left_in_the_segment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise IndexError("nonsense")

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        crew = crew_with(monkeypatch, range(0))
        await crew.start()
        monkeypatch.setattr(crew_module, "forget_gauges", fail)
        (worker,) = crew._workers.values()
        assert isinstance(worker, Worker)
        asyncio.get_running_loop().call_soon(worker.on_exit, worker)
        await until(lambda: crew.pids == {0: 1})

    run(scenario)


def test_the_watchdog_looks_again_after_a_look_that_failed() -> None:
    at: list[float] = []
    runtime = SimpleNamespace(
        now=lambda: 5.0, schedule=lambda when, _: at.append(when), call_soon=None
    )
    watch = WorkerWatch.__new__(WorkerWatch)
    watch._runtime = cast(Any, runtime)
    watch._crew = cast(Any, SimpleNamespace(workers={0: None}))
    watch._rules = WatchdogRules(Watchdog(), lambda _: False)
    with pytest.raises(AttributeError):
        watch._look()
    assert len(at) == 1


def test_a_worker_that_cannot_be_started_at_first_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        crew = crew_with(monkeypatch, range(1))
        with pytest.raises(StartError, match="worker 0 cannot be started: Resource temporarily"):
            await crew.start()

    run(scenario)


@pytest.mark.skipif(not COMPILED, reason="the twin has one worker")
def test_a_worker_that_is_to_finish_gives_new_clients_to_the_others_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        crew = crew_with(monkeypatch, range(0), workers=3)
        await crew.start()
        worker = cast(Worker, crew._workers[1])
        worker.told.clear()
        crew.replace(1, 5.0)
        steer, drain = worker.told
        assert isinstance(steer, Steer)
        assert (steer.steering.active, steer.steering.leaving) == ((0, 2), (1,))
        assert drain == Drain(5.0)
        # Whatever its slot would be: what is new is for one of the others.
        table = steering_table(steer.steering.active)
        assert set(table) == {0, 2}
        worker.on_exit(worker)
        await until(lambda: 1 in crew.pids and crew.pids[1] == 3)
        successor = cast(Worker, crew._workers[1])
        assert crew._steering_of(cast(Any, successor)).active == (0, 1, 2)

    run(scenario)


def test_the_only_worker_finishes_with_nobody_to_give_clients_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        crew = crew_with(monkeypatch, range(0))
        await crew.start()
        worker = cast(Worker, crew._workers[0])
        crew.replace(0, 5.0)
        steer = worker.told[-2]
        assert isinstance(steer, Steer)
        assert steer.steering.active == (0,)

    run(scenario)


def test_a_worker_that_cannot_be_told_what_to_do_is_ended_and_has_a_successor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        crew = crew_with(monkeypatch, range(0))
        await crew.start()
        monkeypatch.setattr(Worker, "deaf", range(1, 3))
        first = cast(Worker, crew._workers[0])
        first.kill()
        ended: list[int] = []
        kill = Worker.kill

        def note(worker: Worker) -> None:
            ended.append(worker.pid)
            kill(worker)

        monkeypatch.setattr(Worker, "kill", note)
        await until(lambda: crew.pids == {0: 3})
        assert ended == [1, 2]
        # One that is no more the slot's takes nothing from who is.
        first.on_exit(first)
        assert crew.pids == {0: 3}

    run(scenario)


def change_of(number: int, *, rolling: bool = False) -> NextGeneration:
    return NextGeneration(number, cast(Any, None), rolling)


@pytest.mark.skipif(not COMPILED, reason="the twin has one worker")
def test_a_change_waits_for_no_worker_that_finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(slot: int) -> tuple[Any, dict[str, int]]:
        return f"prepare {slot}", {}

    async def scenario() -> None:
        crew = crew_with(monkeypatch, range(0), workers=2)
        await crew.start()
        replaced, other = (cast(Worker, crew._workers[slot]) for slot in (0, 1))
        crew.replace(0, 5.0)
        for number in (2, 3):
            preparing = asyncio.ensure_future(
                crew.prepare(
                    change_of(number),
                    lambda slot: (cast(Any, f"prepare {slot}"), {}),
                    cast(Any, None),
                )
            )
            await asyncio.sleep(0)
            assert "prepare 0" not in replaced.told
            assert "prepare 1" in other.told
            cast(Any, other).prepared = number
            crew._changed.set()
            await asyncio.sleep(0.01)
            # Not before it finishes: else it would find itself behind.
            assert preparing.done() == (number == 3)
            replaced.draining = True
            crew._changed.set()
            await preparing
            crew.check_prepared()
            crew.committed()

    run(scenario)


@pytest.mark.skipif(not COMPILED, reason="the twin has one worker")
def test_a_slot_without_an_inbox_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    async def scenario() -> None:
        crew = crew_with(monkeypatch, range(0))
        left: list[int] = []
        crew._on_left = left.append
        await crew.start()
        monkeypatch.setattr(crew_module.socket, "socketpair", fail)
        crew._slots.coming = (1, 2)
        with pytest.raises(PrepareError, match="Too many open files"):
            await crew.prepare(
                change_of(2, rolling=True), lambda _: (cast(Any, None), {}), cast(Any, None)
            )
        assert left == [1, 2]

    run(scenario)
