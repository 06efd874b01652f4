"""Workers that cannot be started: tried again, each time later."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from spooky.control import crew as crew_module
from spooky.control.crew import Crew, StartError
from spooky.control.slots import Slots
from spooky.observe.segment import create_segment
from tests.control.serve import until
from tests.support.proxy import run


class Worker:
    """A worker that serves at once; some cannot be started."""

    made = 0
    failing: range = range(0)

    def __init__(self, slot: int, on_message: Any, on_exit: Callable[["Worker"], None]) -> None:
        number = Worker.made
        Worker.made += 1
        if number in Worker.failing:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.slot, self.pid, self.on_exit = slot, number, on_exit
        self.ready, self.failure, self.exit_text, self.cut = True, "", "signal 9", 0
        self.started = asyncio.get_running_loop().time()

    def send(self, message: object, descriptors: object = None) -> None:
        """Tell it something."""


def crew_with(monkeypatch: pytest.MonkeyPatch, failing: range) -> Crew:
    monkeypatch.setattr(Worker, "made", 0)
    monkeypatch.setattr(Worker, "failing", failing)
    monkeypatch.setattr(crew_module, "WorkerProcess", Worker)
    monkeypatch.setattr(crew_module, "REPLACE_DELAY_MIN", 0.01)
    segment, _ = create_segment(1)
    return Crew(Slots(1), segment, lambda *_: (None, {}), lambda *_: None, lambda _: None)


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


def test_a_worker_that_cannot_be_started_at_first_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        crew = crew_with(monkeypatch, range(1))
        with pytest.raises(StartError, match="worker 0 cannot be started: Resource temporarily"):
            await crew.start()

    run(scenario)
