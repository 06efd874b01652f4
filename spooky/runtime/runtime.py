"""The clock, the timer wheel and the end-of-turn flush that all parts of one worker share."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from spooky._core.timers import Timer, TimerWheel

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.001
"""Timer resolution: paced packets leave in bursts of 16; a coarser tick would limit their rate."""


class Flushable(Protocol):
    """What has output pending until the end of the turn."""

    def flush(self) -> None:
        """Hand everything pending to the socket."""


class Runtime:
    """One event loop's clock, timers and turn.

    All timeouts of a worker go through one timer wheel, and everything that was sent during a
    turn of the loop is flushed once at its end.

    Arguments:
        loop: The loop to live on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now: Callable[[], float] = time.monotonic
        self._wheel = TimerWheel(self.now(), TICK_SECONDS)
        self._wakeup: asyncio.TimerHandle | None = None
        self._wakeup_at = 0.0
        self._pending: list[Flushable] = []
        self._flush_scheduled = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def schedule(self, deadline: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at ``deadline``, in seconds on :attr:`now`'s clock."""
        timer = self._wheel.schedule(deadline, callback)
        if self._wakeup is None or deadline < self._wakeup_at:
            self._set_wakeup()
        return timer

    def mark(self, flushable: Flushable) -> None:
        """Flush it at the end of this turn; mark each at most once until it was flushed."""
        self._pending.append(flushable)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine that belongs to the worker; :meth:`close` cancels it."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    async def close(self) -> None:
        """Stop the clockwork: no timer fires any more, tasks are cancelled and awaited."""
        self._closed = True
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of the worker failed: %s", task.get_name(), exc_info=error)

    def _flush(self) -> None:
        self._flush_scheduled = False
        pending = self._pending
        self._pending = []
        for flushable in pending:
            try:
                flushable.flush()
            except Exception:
                # One connection's defect is not the others'; its own timeouts will end it.
                logger.exception("could not flush %r", flushable)

    def _set_wakeup(self) -> None:
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        deadline = self._wheel.next_deadline()
        if deadline is None or self._closed:
            return
        self._wakeup_at = deadline
        delay = max(0.0, deadline - self.now())
        self._wakeup = self.loop.call_later(delay, self._advance)

    def _advance(self) -> None:
        self._wakeup = None
        try:
            self._wheel.advance(self.now())
        finally:
            self._set_wakeup()
