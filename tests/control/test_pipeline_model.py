"""Every interleaving of changes, rollbacks and crashes leaves one committed generation in service.

The pipeline, the crew and the history are the real ones. Simulated are the clock, the threads and
the worker processes, which do with each message what :mod:`spooky.edge.agent` does with it.
"""

import asyncio
import mmap
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spooky._core import COMPILED
from spooky._core.shared import Segment, segment_size
from spooky.config.control import Control
from spooky.config.performance import Performance
from spooky.config.schema import Configuration
from spooky.control import changes as changes_module
from spooky.control import crew as crew_module
from spooky.control import slots as slots_module
from spooky.control.candidate import Candidate
from spooky.control.changes import (
    Asked,
    ChangeError,
    Changes,
    Committed,
    NextGeneration,
    Outcome,
    PrepareError,
    Step,
)
from spooky.control.crew import Crew
from spooky.control.first_generation import begin_with
from spooky.control.history import History, HistoryError, Record
from spooky.control.pauses import REPLACE_DELAY_MAX
from spooky.control.slots import Slots
from spooky.edge.messages import (
    Discard,
    Drain,
    Drained,
    Draining,
    Prepare,
    Prepared,
    PrepareFailed,
    Ready,
    Start,
    Stop,
    ToSupervisor,
    ToWorker,
)
from spooky.generation.materials import Materials
from spooky.protocol.quic.keys import Keys

WORKERS = 2 if COMPILED else 1
SLOTS = 12 if COMPILED else 1
KEYS = Keys.generate()


class StepLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still, and whose threads do nothing, until they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.errors: list[BaseException] = []
        self.set_exception_handler(lambda _, context: self.errors.append(context["exception"]))
        self.threads: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()

    def time(self) -> float:
        """Return the time."""
        return self.now

    def run_in_executor(self, _: Any, work: Callable[..., Any], *arguments: Any) -> Any:
        """Begin something in a thread."""
        future = self.create_future()
        self.threads.append((future, lambda: work(*arguments)))
        return future

    def finish_thread(self) -> None:
        """Have the oldest thread come to its end."""
        future, work = self.threads.popleft()
        try:
            result = work()
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    def turn(self) -> None:
        """Turn once: between two turns anything may happen."""
        self.call_soon(self.stop)
        self.run_forever()
        if self.errors:
            raise self.errors[0]


class SimulatedWorker:
    """A worker process as the crew sees it, and as requests do."""

    segment: ClassVar[Segment]
    every: ClassVar[dict[int, "SimulatedWorker"]]

    def __init__(
        self,
        slot: int,
        on_message: Callable[[Any, ToSupervisor], None],
        on_exit: Callable[[Any], None],
    ) -> None:
        self.slot, self._on_message, self._on_exit = slot, on_message, on_exit
        self.ready = self.leaves = self.draining = False
        self.prepared: int | None = None
        self.cut: int | None = None
        self.failure = ""
        self.pid, self.exit_text = 1000 + slot, "signal 9"
        self.started = asyncio.get_running_loop().time()
        self.alive = True
        self.finishes = False
        self.serves: tuple[int, int] | None = None
        self.candidate: tuple[int, int] | None = None
        self.inbox: deque[ToWorker] = deque()
        self.outbox: deque[ToSupervisor] = deque()
        self.every[slot] = self

    def send(self, message: ToWorker, _: Any = None) -> None:
        """Take a message; it is read later."""
        if self.alive:
            self.inbox.append(message)

    def kill(self) -> None:
        """Die; what was said before is heard all the same."""
        if self.alive:
            self.alive = False
            asyncio.get_running_loop().call_soon(self._exited)

    def read(self, can: bool) -> None:
        """Read a message.

        Arguments:
            can: Whether it can do what the message asks.
        """
        match self.inbox.popleft():
            case Start(generation=number, configuration=configuration, waits=waits):
                self.serves = number, configuration.control.history
                if not waits:
                    self.serve()
                self.outbox.append(Ready())
            case Drain():
                self.finishes = True
                self.outbox.append(Draining())
            case Stop():
                self.outbox.append(Drained(0))
                self.kill()
            case Prepare(generation=number, configuration=configuration):
                self.serve()
                if can:
                    self.candidate = number, configuration.control.history
                    self.outbox.append(Prepared(number))
                else:
                    self.outbox.append(PrepareFailed(number, "cannot"))
            case Discard(number):
                if self.candidate is not None and self.candidate[0] == number:
                    self.candidate = None

    def hear(self) -> None:
        """Have the supervisor hear what was said first."""
        self._on_message(self, self.outbox.popleft())

    def serve(self) -> tuple[int, int]:
        """Return what a request gets: the number of a generation, and its content.

        A worker that has not got what is in force would end. The pipeline never needs that.
        """
        number = self.segment.generation
        if self.serves is not None and self.serves[0] == number:
            return self.serves
        assert self.candidate is not None, f"{number} is in force, this has {self.serves}"
        assert self.candidate[0] == number, f"{number} is in force, {self.candidate} is prepared"
        self.serves, self.candidate = self.candidate, None
        return self.serves

    def _exited(self) -> None:
        while self.outbox:
            self.hear()
        if self.every.get(self.slot) is self:
            del self.every[self.slot]
        self._on_exit(self)


class FullHistory(History):
    """A history on a disk that may be full."""

    def __init__(self) -> None:
        super().__init__(None, 1000)
        self.full = False
        self.disk: set[int] = set()

    def write(self, record: Record) -> None:
        """Write, if there is room."""
        if self.full:
            raise HistoryError("No space left on device")
        self.disk.add(record.number)

    def remove(self, number: int) -> None:
        """Forget a generation."""
        self.disk.discard(number)
        super().remove(number)


class Resource:
    """A participant like the listeners: has something for each change, and may fail at the end."""

    def __init__(self) -> None:
        self.held = 0
        self.fails = False

    async def prepare(self, _: NextGeneration) -> Step:
        """Take something."""
        self.held += 1

        def give() -> None:
            self.held -= 1

        def check() -> None:
            if self.fails:
                raise PrepareError("another program listens there")

        return Step(give, give, check)


def candidate(content: int) -> Candidate:
    """Return a configuration that can be told from others."""
    # Another number of workers takes new ones.
    workers = WORKERS + (content % 2 if COMPILED else 0)
    made = Configuration(
        upstream={},
        control=Control(history=content),
        performance=Performance(worker_threads=workers),
    )
    return Candidate(made, str(content), "/spooky.yaml", Materials({}, b""), (), made)


class Pipeline(RuleBasedStateMachine):
    """What may happen, in any order."""

    @initialize()
    def start(self) -> None:
        """Start the workers."""
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(
            changes_module, "read_change", lambda path, *_: candidate(int(path.name))
        )
        self.patch.setattr(
            changes_module, "restore_candidate", lambda text, *_: candidate(int(text))
        )
        self.patch.setattr(crew_module, "WorkerProcess", SimulatedWorker)
        self.patch.setattr(slots_module, "SLOTS", SLOTS)
        self.segment = Segment(mmap.mmap(-1, segment_size(SLOTS)), SLOTS)
        SimulatedWorker.segment, SimulatedWorker.every = self.segment, {}
        self.loop = StepLoop()
        self.asked: list[asyncio.Task[Outcome]] = []
        self.committed: dict[int, int] = {}
        self.loop.run_until_complete(self._make())
        begun = self.loop.create_task(self.crew.start())
        for _ in range(9):
            self.go_on([0])
        assert begun.done()

    async def _make(self) -> None:
        first = candidate(1000)
        self.history = FullHistory()
        _, record = begin_with(first, self.history, 0.0)
        self.history.add(record)
        self.segment.commit(record.number)
        self.committed[record.number] = 1000
        self.resource = Resource()
        self.slots = Slots(WORKERS)
        self.crew = Crew(
            self.slots, self.segment, self._make_start, lambda *_: None, self.slots.free
        )
        participants = [self.slots, self.resource, self]
        self.changes = Changes(first, record, self.history, self.segment, participants)
        self.changes.starting = False
        self.changes.on_committed = self._on_committed

    def _make_start(self, slot: int, _: Any) -> tuple[Start, dict[str, int]]:
        running = self.changes.running.configuration
        return self._start(slot, self.segment.generation, running, waits=False)

    def _start(
        self, slot: int, number: int, configuration: Configuration, waits: bool
    ) -> tuple[Start, dict[str, int]]:
        steering = self.slots.steering
        start = Start(slot, number, configuration, {}, b"", KEYS, steering, (), waits, ())
        return start, {}

    async def prepare(self, change: NextGeneration) -> Step:
        """Take part in a change as the supervisor does."""
        made = change.candidate.configuration

        def make(_: int) -> tuple[Prepare, dict[str, int]]:
            return Prepare(change.number, made, {}, b"", (), 0.0, ()), {}

        def make_start(slot: int, _: Any) -> tuple[Start, dict[str, int]]:
            return self._start(slot, change.number, made, waits=True)

        await self.crew.prepare(change, make, make_start)
        return Step(self.crew.committed, self.crew.discard, self.crew.check_prepared)

    def _on_committed(self, commit: Committed) -> None:
        assert commit.number not in self.committed
        assert commit.number == self.segment.generation > max(self.committed)
        self.committed[commit.number] = self.changes.running.configuration.control.history

    @property
    def workers(self) -> list[SimulatedWorker]:
        """Those that are alive."""
        return [worker for _, worker in sorted(SimulatedWorker.every.items()) if worker.alive]

    @property
    def serving(self) -> list[SimulatedWorker]:
        """Those that clients are led to."""
        return [one for one in self.workers if one.slot in self.slots.active and one.ready]

    # --- what may happen ----------------------------------------------------------------------

    @precondition(lambda self: len(self.asked) < 3)
    @rule(content=st.integers(2, 9))
    def apply(self, content: int) -> None:
        """Somebody asks for a change."""
        work = self.changes.apply(Path(str(content)), Asked("a test"))
        self.asked.append(self.loop.create_task(work))
        self.loop.turn()

    @precondition(lambda self: len(self.asked) < 3)
    @rule(back=st.integers(0, 3))
    def roll_back(self, back: int) -> None:
        """Somebody asks to go back."""
        number = sorted(self.committed)[-back] if 0 < back <= len(self.committed) else None
        work = self.changes.rollback(number, Asked("a test"))
        self.asked.append(self.loop.create_task(work))
        self.loop.turn()

    @rule(choices=st.lists(st.integers(0, 11), min_size=1, max_size=12))
    def go_on(self, choices: list[int]) -> None:
        """What is due comes: threads end, workers read, the supervisor hears; in any order."""
        for choice in choices:
            due: list[Callable[[], None]] = []
            if self.loop.threads:
                due.append(self.loop.finish_thread)
            for worker in self.workers:
                due += [partial(worker.read, True)] if worker.inbox else []
                due += [worker.hear] if worker.outbox else []
            if due:
                self._run(due[choice % len(due)])
            else:
                self.loop.turn()

    @precondition(lambda self: self.loop.threads)
    @rule(full=st.booleans())
    def fail(self, full: bool) -> None:
        """The disk is full, or at the last moment a port is taken."""
        self.history.full, self.resource.fails = full, not full
        self._run(self.loop.finish_thread)
        for _ in range(4):
            self.loop.turn()
        self.history.full = self.resource.fails = False

    @precondition(lambda self: any(worker.inbox for worker in self.workers))
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        """A worker cannot do what it is told."""
        worker = data.draw(st.sampled_from([one for one in self.workers if one.inbox]))
        self._run(partial(worker.read, False))

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A worker dies, and is replaced at once or later."""
        self._run(data.draw(st.sampled_from(self.workers)).kill)
        if data.draw(st.booleans()):
            self.wait(REPLACE_DELAY_MAX)

    @precondition(lambda self: self.loop.threads and self.workers)
    @rule(data=st.data())
    def crash_meanwhile(self, data: st.DataObject) -> None:
        """A worker dies, and is replaced or not, while a file is read or written."""
        self.crash(data)
        self._run(self.loop.finish_thread)

    @precondition(lambda self: any(worker.finishes for worker in self.workers))
    @rule()
    def finish(self) -> None:
        """What a worker that leaves had is finished."""
        worker = next(one for one in self.workers if one.finishes)
        worker.outbox.append(Drained(0))
        self._run(worker.kill)

    @precondition(lambda self: self.serving)
    @rule(data=st.data())
    def request(self, data: st.DataObject) -> None:
        """A request comes to a worker, and is served by what is in force."""
        worker = data.draw(st.sampled_from(self.serving))
        number, content = worker.serve()
        assert number == self.changes.record.number
        assert content == self.committed[number]

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 6.0, 61.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.loop.now += seconds
        for worker in self.workers:
            self.segment.beat(worker.slot, int(1000 * self.loop.now))
        for _ in range(3):
            self.loop.turn()

    def _run(self, action: Callable[[], None]) -> None:
        self.loop.call_soon(action)
        self.loop.turn()

    # --- what must hold -----------------------------------------------------------------------

    @invariant()
    def one_generation_is_in_force_and_it_is_kept(self) -> None:
        """The word, the record, the history and what is running speak of the same."""
        number = self.segment.generation
        assert self.changes.record.number == number == max(self.committed)
        assert self.changes.running.configuration.control.history == self.committed[number]
        assert {record.number for record in self.history} == self.committed.keys()
        for record in self.history:
            assert int(record.text) == self.committed[record.number]
            assert self.committed[record.origin] == self.committed[record.number]

    @invariant()
    def what_comes_to_nothing_says_so_and_leaves_nothing(self) -> None:
        """A change is made, or refused with a reason and undone."""
        for asked in [one for one in self.asked if one.done()]:
            self.asked.remove(asked)
            error = asked.exception()
            assert error is None or isinstance(error, (ChangeError, HistoryError))
        if not self.asked:
            assert self.resource.held == 0
            assert self.history.disk == self.committed.keys()
            for worker in self.serving:
                if worker.candidate is not None and not worker.inbox:
                    assert worker.candidate[0] == self.segment.generation

    def teardown(self) -> None:
        """Let everything come to its end, and make one more change."""
        if not hasattr(self, "changes"):
            return
        try:
            self._finish()
            assert not self.asked
            self.apply(9 if self.committed[self.segment.generation] != 9 else 8)
            (asked,) = self.asked
            self._finish()
            assert asked.result().changed
            number = self.segment.generation
            assert len(self.serving) == len(self.slots.active)
            assert (
                len(self.serving) == self.changes.running.configuration.performance.worker_threads
            )
            for worker in self.serving:
                assert worker.serve() == (number, self.committed[number])
                assert worker.candidate is None
        finally:
            self.patch.undo()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.turn()
            self.crew.close()
            self.loop.close()

    def _finish(self) -> None:
        # Longer than workers may take to prepare, and many times the longest pause before one is
        # replaced.
        for _ in range(14):
            self.go_on([0] * 40)
            if any(worker.finishes for worker in self.workers):
                self.finish()
            self.wait(REPLACE_DELAY_MAX)
        self.what_comes_to_nothing_says_so_and_leaves_nothing()


TestPipeline = Pipeline.TestCase
TestPipeline.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
