"""Every interleaving of changes, rollbacks and crashes leaves one committed generation in service.

The supervisor's crashes are among them, after which it starts with what the history has. The
pipeline, the crew and the history are the real ones. Simulated are the clock, the threads and
the worker processes, which do with each message what :mod:`spooky.edge.agent` does with it.
"""

import asyncio
import mmap
from collections import deque
from collections.abc import Callable, Coroutine
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
from spooky.config.schema import Backend, Configuration, Upstream
from spooky.control import changes as changes_module
from spooky.control import crew as crew_module
from spooky.control import slots as slots_module
from spooky.control.backend_acts import reset_act, weight_act
from spooky.control.candidate import Candidate
from spooky.control.change import (
    Asked,
    ChangeError,
    Committed,
    NextGeneration,
    Outcome,
    PrepareError,
    Step,
)
from spooky.control.changes import Changes
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
STEPS_MAX = 200
"""More than anything takes that ends."""

Content = tuple[int, int]
"""What tells configurations apart: a number of the file's, and a backend's weight."""


class StepLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still, and whose threads do nothing, until they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.errors: list[BaseException] = []
        self.set_exception_handler(lambda _, context: self.errors.append(context["exception"]))
        self.threads: deque[tuple[asyncio.Future[Any], Callable[[], Any], Any]] = deque()

    def time(self) -> float:
        """Return the time."""
        return self.now

    def run_in_executor(self, _: Any, work: Callable[..., Any], *arguments: Any) -> Any:
        """Begin something in a thread."""
        future = self.create_future()
        # What a thread is told to call is called in a context.
        called = work.args[0] if isinstance(work, partial) else work
        self.threads.append((future, lambda: work(*arguments), called))
        return future

    def finish_thread(self) -> None:
        """Have the oldest thread come to its end."""
        future, work, _ = self.threads.popleft()
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
        self.serves: tuple[int, Content] | None = None
        self.candidate: tuple[int, Content] | None = None
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
                self.serves = number, content_of(configuration)
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
                    self.candidate = number, content_of(configuration)
                    self.outbox.append(Prepared(number))
                else:
                    self.outbox.append(PrepareFailed(number, "cannot"))
            case Discard(number):
                if self.candidate is not None and self.candidate[0] == number:
                    self.candidate = None

    def hear(self) -> None:
        """Have the supervisor hear what was said first."""
        self._on_message(self, self.outbox.popleft())

    def serve(self) -> tuple[int, Content]:
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
    """A history on a disk that may be full.

    Arguments:
        disk: What is there, by number.
    """

    def __init__(self, disk: dict[int, Record]) -> None:
        super().__init__(None, 1000)
        self.full = False
        self.disk = disk
        for number in sorted(disk):
            self.remember(disk[number])

    def write(self, record: Record) -> None:
        """Write, if there is room."""
        if self.full:
            raise HistoryError("No space left on device")
        self.disk[record.number] = record

    def remove(self, number: int) -> None:
        """Forget a generation."""
        self.disk.pop(number, None)
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


def candidate(file: int) -> Candidate:
    """Return a configuration that can be told from others."""
    # Another number of workers takes new ones.
    workers = WORKERS + (file % 2 if COMPILED else 0)
    made = Configuration(
        upstream={"u": Upstream(backends=(Backend(id="b", address="http://127.0.0.1:1"),))},
        control=Control(history=file),
        performance=Performance(worker_threads=workers),
    )
    return Candidate(made, str(file), "/spooky.yaml", Materials({}, b""), (), made)


def content_of(configuration: Configuration) -> Content:
    """Return what tells a configuration from others."""
    return configuration.control.history, configuration.upstream["u"].backends[0].weight


class Pipeline(RuleBasedStateMachine):
    """What may happen, in any order."""

    @initialize()
    def start(self) -> None:
        """Start for the first time."""
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(
            changes_module, "read_change", lambda path, *_: candidate(int(path.name))
        )
        self.patch.setattr(
            changes_module,
            "restore",
            lambda record, _: candidate(int(record.text)).overridden(record.overrides),
        )
        self.patch.setattr(crew_module, "WorkerProcess", SimulatedWorker)
        self.patch.setattr(slots_module, "SLOTS", SLOTS)
        self.committed: dict[int, Content] = {}
        self._begin(candidate(1000), {})

    def _begin(self, first: Candidate, disk: dict[int, Record]) -> None:
        """Start the workers with what a file says."""
        self.segment = Segment(mmap.mmap(-1, segment_size(SLOTS)), SLOTS)
        SimulatedWorker.segment, SimulatedWorker.every = self.segment, {}
        self.loop = StepLoop()
        self.asked: list[asyncio.Task[Outcome]] = []
        self.loop.run_until_complete(self._make(first, disk))
        begun = self.loop.create_task(self.crew.start())
        self._go_on_until(begun.done)
        begun.result()
        kept = self.loop.create_task(self.changes.keep_first(inherited=False))
        self._go_on_until(kept.done)
        kept.result()
        self.changes.starting = False

    async def _make(self, first: Candidate, disk: dict[int, Record]) -> None:
        self.history = FullHistory(disk)
        first, record = begin_with(first, self.history, 0.0)
        self.segment.commit(record.number)
        self.committed[record.number] = content_of(first.configuration)
        self.resource = Resource()
        self.slots = Slots(first.configuration.performance.worker_threads)
        self.crew = Crew(
            self.slots, self.segment, self._make_start, lambda *_: None, self.slots.free
        )
        participants = [self.slots, self.resource, self]
        self.changes = Changes(first, record, self.history, self.segment, participants)
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
        self.committed[commit.number] = content_of(self.changes.running.configuration)

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
    @rule(file=st.integers(2, 9), probation=st.sampled_from([0.0, 60.0]))
    def apply(self, file: int, probation: float = 0.0) -> None:
        """Somebody asks for a change; none passes its probation here."""
        self._ask(self.changes.apply(Path(str(file)), Asked("a test", "", None, probation)))

    @precondition(lambda self: len(self.asked) < 3)
    @rule(weight=st.sampled_from([None, 1, 2, 100]))
    def override(self, weight: int | None) -> None:
        """Somebody gives the backend another weight, or the file's."""
        act = reset_act("u", "b") if weight is None else weight_act("u", "b", weight)
        self._ask(self.changes.override("u", "b", act, Asked("a test")))

    @precondition(lambda self: len(self.asked) < 3)
    @rule(back=st.integers(0, 3))
    def roll_back(self, back: int) -> None:
        """Somebody asks to go back."""
        number = sorted(self.committed)[-back] if 0 < back <= len(self.committed) else None
        self._ask(self.changes.rollback(number, Asked("a test")))

    def _ask(self, work: Coroutine[Any, Any, Outcome]) -> None:
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

    @rule(resume=st.booleans(), file=st.integers(2, 9))
    def supervisor_dies(self, resume: bool, file: int) -> None:
        """It dies at any step, and starts anew: with its file, or with the last good generation."""
        whole = self.history.disk.keys() - self.committed.keys()
        assert len(whole) <= 1
        # Nothing that was in force is lost, and what was written whole may count as such.
        assert self.committed.keys() <= self.history.disk.keys()
        disk = dict(self.history.disk)
        self._bury()
        for number in whole:
            record = disk[number]
            made = candidate(int(record.text)).overridden(record.overrides)
            self.committed[number] = content_of(made.configuration)
        proven = FullHistory(dict(disk)).newest_proven
        assert proven is not None
        overrides = disk[max(disk)].overrides
        self._begin(candidate(int(proven.text) if resume else file), disk)
        if resume:
            assert self.changes.record.text == proven.text
        # Set by hand, and so they stay whatever the file says.
        assert self.changes.record.overrides == self.changes.running.overrides == overrides

    @precondition(lambda self: self.asked)
    @rule(
        moment=st.sampled_from(["before it is written", "written", "in force"]),
        resume=st.booleans(),
        file=st.integers(2, 9),
    )
    def supervisor_dies_around_a_commit(self, moment: str, resume: bool, file: int) -> None:
        """It dies just before the history is written, or the commit word is, or just after."""
        self._go_on_until(lambda: self._writes or not self.asked_for)
        # Not before: an earlier change may have come in force on the way.
        newest = max(self.committed)
        if self._writes and moment != "before it is written":
            self._run(self.loop.finish_thread)
            assert max(self.history.disk) > newest == self.segment.generation
            if moment == "in force":
                self._go_on_until(lambda: max(self.committed) > newest or not self.asked_for)
        self.supervisor_dies(resume, file)

    @property
    def _writes(self) -> bool:
        """Whether the history is about to be written."""
        return bool(self.loop.threads) and self.loop.threads[0][2] == self.history.write

    @property
    def asked_for(self) -> bool:
        """Whether any change is under way."""
        return not all(asked.done() for asked in self.asked)

    def _go_on_until(self, holds: Callable[[], bool]) -> None:
        for step in range(1, STEPS_MAX + 1):
            if holds():
                return
            self.go_on([0])
            if step % 20 == 0:
                # It may wait for a worker that is replaced.
                self.wait(REPLACE_DELAY_MAX)
        raise AssertionError("it does not come to that")

    def _bury(self) -> None:
        """Have nothing go on of what was in the supervisor's memory."""
        self.loop.set_exception_handler(lambda *_: None)
        self.loop.errors.clear()
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.turn()
        self.crew.close()
        self.loop.close()

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
        assert content_of(self.changes.running.configuration) == self.committed[number]
        assert {record.number for record in self.history} == self.committed.keys()
        for record in self.history:
            assert int(record.text) == self.committed[record.number][0]
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
            assert self.history.disk.keys() == self.committed.keys()
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
            self.apply(9 if self.committed[self.segment.generation][0] != 9 else 8)
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
            self._bury()

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
