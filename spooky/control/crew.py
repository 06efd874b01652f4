"""The workers: started, replaced when they die, told to stop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from spooky._core.shared import Segment
from spooky.control.changes import PrepareError
from spooky.control.worker_process import WorkerProcess
from spooky.edge.messages import (
    Discard,
    Drain,
    Drained,
    Failed,
    Prepare,
    Prepared,
    PrepareFailed,
    Ready,
    Resolve,
    Start,
    Stop,
    ToSupervisor,
    ToWorker,
)
from spooky.observe.counters import forget_gauges

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 60.0
"""How long a worker may take to begin; slow disks and machines included."""

PREPARE_SECONDS: Final = 60.0
"""How long workers may take to prepare a change; as long as they may take to begin."""

HANG_SECONDS: Final = 30.0
"""A worker whose loop has not turned for so long is killed."""

SILENT_SECONDS: Final = 10.0
"""A worker whose loop has not turned for so long is not counted on: it misses ten beats, which a
busy machine alone does not do."""

CHECK_SECONDS: Final = 5.0
"""How often heartbeats are looked at."""

STABLE_SECONDS: Final = 10.0
"""A worker that lived so long is replaced at once."""

REPLACE_DELAY_MIN: Final = 0.1
REPLACE_DELAY_MAX: Final = 5.0
"""One that did not is replaced after a pause, which doubles up to this; seconds."""

EXIT_SECONDS: Final = 10.0
"""How long workers may take to exit beyond the time they have for draining; then they are
killed."""


class StartError(Exception):
    """The workers cannot serve; says why."""


@dataclass(slots=True)
class _Preparation:
    """A change that workers prepare.

    Attributes:
        number: The generation's.
        make: Gives what a slot's worker has to be told, and its new descriptors by name.
        failure: Why it cannot be; empty so far.
    """

    number: int
    make: Callable[[int], tuple[Prepare, dict[str, int]]]
    failure: str = ""


class Crew:
    """All workers of a supervisor.

    Arguments:
        slots: How many there are.
        segment: The segment they share.
        make_start: Gives what a slot's worker has to know, and its descriptors by name.
        on_resolve: Takes a worker's question for a name.

    Attributes:
        restarts: How often a worker was replaced.
    """

    def __init__(
        self,
        slots: int,
        segment: Segment,
        make_start: Callable[[int, dict[str, int]], tuple[Start, dict[str, int]]],
        on_resolve: Callable[[WorkerProcess, Resolve], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._segment = segment
        self._make_start = make_start
        self._on_resolve = on_resolve
        self._workers: dict[int, WorkerProcess] = {}
        self._slots = range(slots)
        self._delays = [REPLACE_DELAY_MIN] * slots
        self._started = False
        self._failure = ""
        self._ending = False
        self._all_finished = True
        self._changed = asyncio.Event()
        self._check: asyncio.TimerHandle | None = None
        self._preparation: _Preparation | None = None
        self.restarts = 0
        # A pair for each two workers; kept here, so that a successor finds what was sent to it.
        self._ways: dict[int, dict[int, socket.socket]] = {slot: {} for slot in self._slots}
        for one, other in combinations(self._slots, 2):
            self._ways[one][other], self._ways[other][one] = socket.socketpair(
                socket.AF_UNIX, socket.SOCK_SEQPACKET
            )

    @property
    def pids(self) -> dict[int, int]:
        """The process number of each slot's worker."""
        return {slot: worker.pid for slot, worker in self._workers.items()}

    @property
    def any_alive(self) -> bool:
        """Whether one worker at least serves, and its loop turns."""
        since = self._loop.time() - SILENT_SECONDS
        return any(
            worker.ready and self._segment.last_beat(slot) / 1000 >= since
            for slot, worker in self._workers.items()
        )

    async def start(self) -> None:
        """Start all workers, and wait until they serve.

        Raises:
            StartError: One cannot.
        """
        for slot in self._slots:
            self._spawn(slot)
        if not await self._wait(lambda: self._all_ready or self._ending, READY_SECONDS):
            self._fail(f"the workers did not begin within {READY_SECONDS:.0f} s")
        if self._failure:
            await self.stop()
            raise StartError(self._failure)
        self._started = True
        self._check = self._loop.call_later(CHECK_SECONDS, self._check_heartbeats)

    def tell(self, message: ToWorker, descriptors: Mapping[str, int] | None = None) -> None:
        """Tell all workers something."""
        for worker in self._workers.values():
            worker.send(message, descriptors)

    # --- changes ------------------------------------------------------------------------------

    async def prepare(
        self, number: int, make: Callable[[int], tuple[Prepare, dict[str, int]]]
    ) -> None:
        """Have all workers prepare a change; then it waits for the commit, or for a discard.

        Arguments:
            number: The generation's.
            make: Gives what a slot's worker has to be told, and its new descriptors by name.

        Raises:
            PrepareError: One cannot; none has anything of it left.
        """
        preparation = self._preparation = _Preparation(number, make)
        try:
            for worker in self._workers.values():
                worker.send(*make(worker.slot))
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
        if self._preparation is not None and not self._all_prepared:
            raise PrepareError(self._preparation.failure or "a worker is gone")

    def committed(self) -> None:
        """Take note that what was prepared is in force."""
        self._preparation = None

    def discard(self) -> None:
        """Have all workers undo what they prepared."""
        if self._preparation is not None:
            self.tell(Discard(self._preparation.number))
            self._preparation = None

    @property
    def _all_prepared(self) -> bool:
        number = self._preparation.number if self._preparation is not None else None
        return self._all_ready and all(
            worker.prepared == number for worker in self._workers.values()
        )

    # --- the end ------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> bool:
        """Have all workers finish what is in flight within so many seconds, and exit.

        Returns:
            Whether everything finished.
        """
        self._end()
        self.tell(Drain(seconds))
        await self._gone(seconds + EXIT_SECONDS)
        return self._all_finished

    async def stop(self) -> None:
        """Have all workers cut what is in flight, and exit."""
        self._end()
        self.tell(Stop())
        await self._gone(EXIT_SECONDS)

    def close(self) -> None:
        """Close the ways between workers; idempotent."""
        for ways in self._ways.values():
            for way in ways.values():
                way.close()

    # --- one worker ---------------------------------------------------------------------------

    def _spawn(self, slot: int) -> None:
        if self._ending:
            return
        try:
            worker = WorkerProcess(slot, self._on_message, self._on_exit)
        except OSError as error:
            self._cannot_spawn(slot, error)
            return
        self._workers[slot] = worker
        ways = {f"handover:{other}": way.fileno() for other, way in self._ways[slot].items()}
        worker.send(*self._make_start(slot, ways))
        if self._preparation is not None:
            worker.send(*self._preparation.make(slot))

    def _cannot_spawn(self, slot: int, error: OSError) -> None:
        """Try again later: what the machine lacks now it may have then."""
        text = f"worker {slot} cannot be started: {error.strerror or error}"
        if not self._started:
            self._fail(text)
            self._changed.set()
            return
        delay = self._next_delay(slot)
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
            case Drained(cut):
                worker.cut = cut
            case Resolve():
                self._on_resolve(worker, message)

    def _on_exit(self, worker: WorkerProcess) -> None:
        slot = worker.slot
        del self._workers[slot]
        self._segment.reclaim(slot)
        forget_gauges(self._segment, slot)
        self._changed.set()
        if self._ending:
            self._all_finished = self._all_finished and worker.cut == 0
            return
        text = worker.failure or f"worker {slot} (process {worker.pid}): {worker.exit_text}"
        if not self._started:
            self._fail(text)
            return
        if self._preparation is not None:
            self._fail_preparation(self._preparation.number, f"it died while preparing: {text}")
        delay = self._delay(worker)
        logger.error("a worker died, replacing it in %.1f s: %s", delay, text)
        self.restarts += 1
        self._loop.call_later(delay, self._spawn, slot)

    def _fail_preparation(self, number: int, text: str) -> None:
        """Give a change up; what was first said counts."""
        preparation = self._preparation
        if preparation is not None and preparation.number == number:
            preparation.failure = preparation.failure or text
            self._changed.set()

    def _delay(self, worker: WorkerProcess) -> float:
        """Return how long to wait before a worker is replaced."""
        if self._loop.time() - worker.started > STABLE_SECONDS:
            self._delays[worker.slot] = REPLACE_DELAY_MIN
            return 0.0
        return self._next_delay(worker.slot)

    def _next_delay(self, slot: int) -> float:
        """Return how long to wait for a slot this time; the next will be longer."""
        delay = self._delays[slot]
        self._delays[slot] = min(2 * delay, REPLACE_DELAY_MAX)
        return delay

    def _check_heartbeats(self) -> None:
        now = self._loop.time()
        for slot, worker in self._workers.items():
            alive = max(worker.started + READY_SECONDS, self._segment.last_beat(slot) / 1000)
            if now - alive > HANG_SECONDS:
                logger.error("worker %d has not moved for %.0f s; killing it", slot, now - alive)
                worker.kill()
        self._check = self._loop.call_later(CHECK_SECONDS, self._check_heartbeats)

    # --- all of them --------------------------------------------------------------------------

    @property
    def _all_ready(self) -> bool:
        return len(self._workers) == len(self._slots) and all(
            worker.ready for worker in self._workers.values()
        )

    def _fail(self, text: str) -> None:
        """End because the workers cannot begin; what was first said counts."""
        self._failure = self._failure or text
        self._ending = True

    def _end(self) -> None:
        self._ending = True
        self._changed.set()
        if self._check is not None:
            self._check.cancel()

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
