"""The workers: started, replaced when they die, taken over from, told to stop."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from spooky._core.shared import Segment
from spooky.control.change import NextGeneration, PrepareError
from spooky.control.pauses import Pauses
from spooky.control.slots import Slots, StartError
from spooky.control.strangers import Strangers, Told
from spooky.control.worker_process import WorkerProcess
from spooky.edge.messages import (
    Begin,
    Discard,
    Drain,
    Drained,
    Draining,
    Failed,
    Prepare,
    Prepared,
    PrepareFailed,
    Ready,
    Resolve,
    Start,
    Steer,
    Stop,
    ToSupervisor,
    ToWorker,
)
from spooky.observe.counters import forget_gauges
from spooky.protocol.quic.steering import Steering

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 60.0
"""How long a worker may take to begin; slow disks and machines included."""

PREPARE_SECONDS: Final = 60.0
"""How long workers may take to prepare a change; as long as they may take to begin."""

SILENT_SECONDS: Final = 10.0
"""A worker whose loop has not turned for so long is not counted on: it misses ten beats, which a
busy machine alone does not do."""

DRAINING_SECONDS: Final = 10.0
"""How long workers may take to begin to finish when another program takes over."""

EXIT_SECONDS: Final = 10.0
"""How long workers may take to exit beyond the time they have for draining; then they are
killed."""


HANDLES: Final = ("inbox", "way", "process")
"""What it takes to follow another program's worker."""

MakePrepare = Callable[[int], tuple[Prepare, dict[str, int]]]
"""Gives what a slot's worker has to be told of a change, and its new descriptors by name."""

MakeStart = Callable[[int, dict[str, int]], tuple[Start, dict[str, int]]]
"""Gives what a slot's worker has to know, and its descriptors by name; takes its ways to others."""


@dataclass(slots=True)
class _Preparation:
    """A change that workers prepare.

    Attributes:
        change: The change.
        make: Gives what those that serve are told.
        failure: Why it cannot be; empty so far.
    """

    change: NextGeneration
    make: MakePrepare
    failure: str = ""


class Crew:
    """All workers of a supervisor.

    Arguments:
        slots: Which they have.
        segment: The segment they share.
        make_start: Gives what those that serve have to know.
        on_resolve: Takes a worker's question for a name.
        on_left: Called with the slot of a worker that is gone and has no successor there.

    Attributes:
        restarts: How often a worker was replaced.
        handed_over: Whether another program serves now.
    """

    def __init__(
        self,
        slots: Slots,
        segment: Segment,
        make_start: MakeStart,
        on_resolve: Callable[[WorkerProcess, Resolve], None],
        on_left: Callable[[int], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._segment = segment
        self._make_start = make_start
        self._on_resolve = on_resolve
        self._on_left = on_left
        self._workers: dict[int, WorkerProcess] = {}
        self._slots = slots
        self._pauses = Pauses()
        self._started = False
        self._failure = ""
        # Slots whose workers finish, for others to take their place there.
        self._replaced: set[int] = set()
        self._ending = False
        self._all_finished = True
        self._changed = asyncio.Event()
        self._preparation: _Preparation | None = None
        self.restarts = 0
        self.handed_over = False
        # What others hand over to a slot, and the way there; kept here, so that a successor finds
        # what was sent to it.
        self._inboxes: dict[int, tuple[socket.socket, socket.socket]] = {}
        self._strangers = Strangers(self._who_serves, self._on_stranger_gone)

    @property
    def pids(self) -> dict[int, int]:
        """The process number of each slot's worker."""
        return {slot: worker.pid for slot, worker in self._workers.items()}

    @property
    def workers(self) -> Mapping[int, WorkerProcess]:
        """Each slot's worker."""
        return self._workers

    @property
    def serving(self) -> tuple[int, ...]:
        """The slots of workers that serve."""
        return self._slots.active

    @property
    def any_alive(self) -> bool:
        """Whether one worker at least serves, and its loop turns."""
        since = self._loop.time() - SILENT_SECONDS
        return any(
            worker.ready and self._segment.last_beat(worker.slot) / 1000 >= since
            for worker in self._at(self._slots.active)
        )

    async def start(self) -> None:
        """Start all workers, and wait until they serve.

        Raises:
            StartError: One cannot.
        """
        for slot in self._slots.active:
            self._open_inbox(slot)
        for slot in self._slots.active:
            self._spawn(slot)
        try:
            begun = await self._wait(lambda: self.all_ready or self._ending, READY_SECONDS)
        except asyncio.CancelledError:
            await self.stop()
            raise
        if not begun:
            self._fail(f"the workers did not begin within {READY_SECONDS:.0f} s")
        if self._failure:
            await self.stop()
            raise StartError(self._failure)
        self._started = True

    # --- from one program to another ----------------------------------------------------------

    def inboxes(self) -> dict[str, int]:
        """Return the descriptors of all inboxes, of the ways there and of the processes, by name.

        Those of processes are new, and the caller's to close.
        """
        named: dict[str, int] = {}
        for slot, worker in self._workers.items():
            named[f"process:{slot}"] = os.pidfd_open(worker.pid)
        for slot, process in self._strangers.processes().items():
            named[f"process:{slot}"] = process
        for slot in (*self._workers, *self._strangers):
            inbox, way = self._inboxes[slot]
            named[f"inbox:{slot}"], named[f"way:{slot}"] = inbox.fileno(), way.fileno()
        return named

    def handles(self) -> dict[str, int]:
        """Return the same of the workers that serve, for a program that may have to follow them."""
        named = self.inboxes()
        served = {f"{kind}:{slot}" for kind in HANDLES for slot in self._slots.active}
        for name in named.keys() - served:
            if name.startswith("process:"):
                os.close(named[name])
        return {name: named[name] for name in sorted(served)}

    def inherit(self, slot: int, inbox: socket.socket, way: socket.socket, process: int) -> None:
        """Know another program's worker: its inbox, the way there, and its process."""
        self._inboxes[slot] = inbox, way
        self._strangers.add(slot, way, process)

    def adopt(self, slots: Iterable[int], named: Mapping[str, int]) -> None:
        """Follow the workers of a program that did not take over, until they have finished.

        Arguments:
            slots: Theirs.
            named: What that program's :meth:`handles` gave.
        """
        for slot in slots:
            inbox, way, process = (os.dup(named[f"{kind}:{slot}"]) for kind in HANDLES)
            self.inherit(slot, socket.socket(fileno=inbox), socket.socket(fileno=way), process)
        ways = self._ways(slots)
        self.tell(Steer(self._slots.steering, tuple(ways)), ways)
        self._strangers.follow()

    def begin(self) -> None:
        """Have those that wait serve clients, and see to it that the others finish."""
        # First: before ours hand anything over to the others, these have to know where it goes.
        self._strangers.follow()
        steering = self._slots.steering
        for worker in self._at(steering.active):
            worker.send(Steer(steering, ()))
            worker.send(Begin())

    def _who_serves(self) -> Told | None:
        if self.handed_over:
            return None
        steering = self._slots.steering
        return steering, {slot: self._inboxes[slot][1] for slot in steering.active}

    def _on_stranger_gone(self, slot: int) -> None:
        logger.info("worker %d of the other program has finished", slot)
        # The other program does the same, if it lives.
        self._segment.reclaim(slot)
        forget_gauges(self._segment, slot)
        self._give_free(slot)

    async def hand_over(self, steering: Steering, ways: Mapping[int, int], seconds: float) -> None:
        """Have all workers finish what they have; return when none takes anything new.

        Arguments:
            steering: Which slots there are from now on.
            ways: Descriptors of the ways to those that are new, by slot.
            seconds: How long they have.
        """
        self.handed_over = True
        self._end()
        named = {f"way:{slot}": descriptor for slot, descriptor in ways.items()}
        self.tell(Steer(steering, tuple(named)), named)
        self.tell(Drain(seconds, replaced=True))
        if not await self._wait(
            lambda: all(worker.draining for worker in self._workers.values()), DRAINING_SECONDS
        ):
            for worker in self._workers.values():
                if not worker.draining:
                    logger.error("worker %d does not begin to finish; killing it", worker.slot)
                    worker.kill()

    def tell(self, message: ToWorker, descriptors: Mapping[str, int] | None = None) -> None:
        """Tell all workers something."""
        for worker in self._workers.values():
            worker.send(message, descriptors)

    # --- changes ------------------------------------------------------------------------------

    async def prepare(
        self, change: NextGeneration, make: MakePrepare, make_start: MakeStart
    ) -> None:
        """Have all workers prepare a change, and start those that take over with it.

        Then they wait for the commit, or for a discard.

        Arguments:
            make: Gives what those that serve are told.
            make_start: Gives what those that take over have to know.

        Raises:
            PrepareError: One cannot; none has anything of it left.
        """
        preparation = self._preparation = _Preparation(change, make)
        try:
            for worker in self._at(self._slots.active):
                if not self._finishes(worker):
                    worker.send(*make(worker.slot))
            for slot in self._slots.coming:
                self._open_inbox(slot)
            for slot in self._slots.coming:
                self._start(slot, make_start)
            logger.debug("the workers prepare generation %d", change.number)
            done = await self._wait(
                lambda: bool(preparation.failure) or self._all_prepared or self._ending,
                PREPARE_SECONDS,
            )
            if not done:
                preparation.failure = f"the workers did not prepare within {PREPARE_SECONDS:.0f} s"
            if preparation.failure or self._ending:
                raise PrepareError(preparation.failure or "the workers are ending")
        except OSError as error:
            self.discard()
            raise PrepareError(f"the workers cannot be told: {error}") from error
        except BaseException:
            self.discard()
            raise

    def check_prepared(self) -> None:
        """Make sure that all workers still have what they prepared.

        Raises:
            PrepareError: One died meanwhile.
        """
        if self._ending:
            raise PrepareError("the workers are ending")
        preparation = self._preparation
        if preparation is not None and (preparation.failure or not self._all_prepared):
            raise PrepareError(preparation.failure or "a worker is gone")

    def committed(self) -> None:
        """Take note that what was prepared is in force; who takes over does so now."""
        preparation, self._preparation = self._preparation, None
        if preparation is None or not preparation.change.rolling:
            return
        steering = self._slots.steering
        ways = self._ways(steering.active)
        self._strangers.tell()
        for worker in self._at(steering.active):
            # One of those that leave may be gone since it was started.
            worker.send(Steer(steering, ()))
            worker.send(Begin())
        for worker in self._at(steering.leaving):
            worker.send(Steer(steering, tuple(ways)), ways)
            if not worker.leaves:
                worker.leaves = True
                worker.send(Drain(preparation.change.drain_seconds, replaced=True))

    def discard(self) -> None:
        """Have all workers undo what they prepared, and let those go that were to take over."""
        preparation, self._preparation = self._preparation, None
        if preparation is None:
            return
        for worker in self._at(self._slots.active):
            worker.send(Discard(preparation.change.number))
        for slot in self._slots.coming:
            if slot in self._workers:
                self._workers[slot].leaves = True
                self._workers[slot].send(Stop())
            else:
                # It could not even be started.
                if slot in self._inboxes:
                    self._close_inbox(slot)
                self._on_left(slot)

    @property
    def _all_prepared(self) -> bool:
        """Whether the change under way can come in force."""
        preparation = self._preparation
        return (
            self.all_ready
            and all(
                # One that has not begun to finish would miss this change.
                worker.draining
                if self._finishes(worker)
                else preparation is None or worker.prepared == preparation.change.number
                for worker in self._at(self._slots.active)
            )
            and len(self._at(self._slots.coming)) == len(self._slots.coming)
            and all(worker.ready for worker in self._at(self._slots.coming))
            # One that has not begun to leave would take this change for its own.
            and all(worker.draining for worker in self._at(self._slots.leaving))
        )

    def _finishes(self, worker: WorkerProcess) -> bool:
        """Whether a worker of a slot that serves follows no change any more."""
        return worker.draining or worker.slot in self._replaced

    # --- the end ------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> bool:
        """Have all workers finish what is in flight within so many seconds, and exit.

        Returns:
            Whether everything finished.
        """
        self._end()
        self.tell(Drain(seconds, replaced=self.handed_over))
        await self._gone(seconds + EXIT_SECONDS)
        return self._all_finished

    async def stop(self) -> None:
        """Have all workers cut what is in flight, and exit."""
        self._end()
        self.tell(Stop())
        await self._gone(EXIT_SECONDS)

    def close(self) -> None:
        """Close the ways between workers; idempotent."""
        for slot in list(self._inboxes):
            self._close_inbox(slot)
        self._strangers.close()

    # --- one worker ---------------------------------------------------------------------------

    def replace(self, slot: int, grace: float | None) -> None:
        """End the worker of a slot, so that another takes its place if it served.

        Arguments:
            grace: How long it has to finish what it has; seconds, ``None`` to kill it.
        """
        worker = self._workers.get(slot)
        if worker is None:
            return
        if grace is None:
            worker.kill()
            return
        # Else it would refuse the clients that the kernel still gives to its slot.
        self._replaced.add(slot)
        worker.send(Steer(self._steering_of(worker), ()))
        worker.send(Drain(grace))

    def _steering_of(self, worker: WorkerProcess) -> Steering:
        """Return what a worker goes by: if it is being replaced, that others take who is new."""
        steering = self._slots.steering
        others = tuple(slot for slot in steering.active if slot not in self._replaced)
        if worker.slot not in self._replaced or not others:
            return steering
        return replace(steering, active=others, leaving=(*steering.leaving, *self._replaced))

    def _spawn(self, slot: int) -> None:
        """Start the worker of a slot that serves, if it still does."""
        if self._ending or slot not in self._slots.active:
            return
        try:
            worker = self._start(slot, self._make_start)
            if self._preparation is not None:
                worker.send(*self._preparation.make(slot))
        except OSError as error:
            self._cannot_spawn(slot, error)

    def _start(self, slot: int, make_start: MakeStart) -> WorkerProcess:
        worker = self._workers[slot] = WorkerProcess(slot, self._on_message, self._on_exit)
        others = [other for other in self._inboxes if other != slot]
        ways = {"inbox": self._inboxes[slot][0].fileno(), **self._ways(others)}
        worker.send(*make_start(slot, ways))
        return worker

    def _cannot_spawn(self, slot: int, error: OSError) -> None:
        """Try again later: what the machine lacks now it may have then."""
        text = f"worker {slot} cannot be started: {error.strerror or error}"
        if slot in self._workers:
            # It runs, and was not told all: its exit brings a successor.
            self._workers[slot].failure = text
            self._workers[slot].kill()
            return
        if not self._started:
            self._fail(text)
            self._changed.set()
            return
        delay = self._pauses.next(slot)
        logger.error("%s; trying again in %.1f s", text, delay)
        self._loop.call_later(delay, self._spawn, slot)

    def _on_message(self, worker: WorkerProcess, message: ToSupervisor) -> None:
        match message:
            case Ready():
                worker.ready = True
                self._changed.set()
            case Failed(text):
                worker.failure = text
            case Prepared(number):
                worker.prepared = number
                self._changed.set()
            case PrepareFailed(number, text):
                self._fail_preparation(number, f"worker {worker.slot}: {text}")
            case Draining():
                worker.draining = True
                self._changed.set()
            case Drained(cut):
                worker.cut = cut
            case Resolve():
                self._on_resolve(worker, message)

    def _on_exit(self, worker: WorkerProcess) -> None:
        slot = worker.slot
        if self._workers.get(slot) is not worker:
            return
        self._replaced.discard(slot)
        del self._workers[slot]
        self._segment.reclaim(slot)
        self._changed.set()
        self._see_to_successor(worker)
        # Last: whatever a worker that went wrong left there, it has a successor.
        forget_gauges(self._segment, slot)

    def _see_to_successor(self, worker: WorkerProcess) -> None:
        slot = worker.slot
        if self._ending:
            self._all_finished = self._all_finished and worker.cut == 0
            return
        text = worker.failure or f"worker {slot} (process {worker.pid}): {worker.exit_text}"
        if slot not in self._slots.active:
            self._left(worker, text)
            return
        if not self._started:
            self._fail(text)
            return
        if self._preparation is not None and not worker.draining:
            number = self._preparation.change.number
            self._fail_preparation(number, f"it died while preparing: {text}")
        delay = self._pauses.after(slot, self._loop.time() - worker.started)
        logger.error("a worker died, replacing it in %.1f s: %s", delay, text)
        self.restarts += 1
        self._loop.call_later(delay, self._spawn, slot)

    def _left(self, worker: WorkerProcess, text: str) -> None:
        """Take note that a worker is gone which has no successor in its slot."""
        slot = worker.slot
        if slot in self._slots.coming and self._preparation is not None:
            number = self._preparation.change.number
            self._fail_preparation(number, f"a new worker died: {text}")
        elif worker.cut is None:
            logger.error("a worker died that was to finish what it had: %s", text)
        else:
            logger.info("worker %d has finished; %d requests were cut", slot, worker.cut)
        self._give_free(slot)

    def _give_free(self, slot: int) -> None:
        # A successor would have its own of what this one had views of.
        self._segment.give_up(slot, self._segment.references(slot))
        self._close_inbox(slot)
        self._on_left(slot)
        if self.handed_over:
            # Who takes new connections is for the program to say that serves.
            return
        steering = self._slots.steering
        for other in self._at((*steering.active, *steering.leaving)):
            other.send(Steer(self._steering_of(other), ()))
        self._strangers.tell()

    def _fail_preparation(self, number: int, text: str) -> None:
        """Give a change up; what was first said counts."""
        preparation = self._preparation
        if preparation is not None and preparation.change.number == number:
            preparation.failure = preparation.failure or text
            self._changed.set()

    # --- all of them --------------------------------------------------------------------------

    @property
    def all_ready(self) -> bool:
        """Whether all that shall serve do."""
        serving = self._at(self._slots.active)
        return len(serving) == len(self._slots.active) and all(worker.ready for worker in serving)

    def _at(self, slots: Iterable[int]) -> list[WorkerProcess]:
        """Return the workers of slots, as far as they have one."""
        return [self._workers[slot] for slot in slots if slot in self._workers]

    # --- the ways between them ----------------------------------------------------------------

    def _open_inbox(self, slot: int) -> None:
        self._inboxes[slot] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def _close_inbox(self, slot: int) -> None:
        for end in self._inboxes.pop(slot):
            end.close()

    def _ways(self, slots: Iterable[int]) -> dict[str, int]:
        """Return the ways to slots, as messages name them."""
        return {f"way:{slot}": self._inboxes[slot][1].fileno() for slot in slots}

    def _fail(self, text: str) -> None:
        """End because the workers cannot begin; what was first said counts."""
        self._failure = self._failure or text
        self._ending = True

    def _end(self) -> None:
        self._ending = True
        self._changed.set()

    async def _gone(self, seconds: float) -> None:
        """Wait until all workers have exited, and kill those that do not."""
        if not await self._wait(lambda: not self._workers, seconds):
            for worker in self._workers.values():
                logger.error("worker %d does not exit; killing it", worker.slot)
                worker.kill()
            await self._wait(lambda: not self._workers, EXIT_SECONDS)

    async def _wait(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Wait until a state is reached; return whether it was in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not reached():
                    self._changed.clear()
                    await self._changed.wait()
        return reached()
