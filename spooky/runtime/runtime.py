"""The clock, the timer wheel and the end-of-turn flush that all parts of one worker share."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, Protocol

from spooky._core.turns import Turns

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.001
"""Timer resolution: paced packets leave in bursts of 16; a coarser tick would limit their rate."""


class Kept(Protocol):
    """What the loop would not end with itself."""

    def end(self) -> None:
        """End at once."""


class Runtime(Turns):
    """One event loop's clock, timers and turn, and its tasks.

    All timeouts of a worker go through one timer wheel, and everything that was sent during a
    turn of the loop is flushed once at its end.

    Arguments:
        loop: The loop to live on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, time.monotonic, TICK_SECONDS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kept: set[Kept] = set()

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine that belongs to the worker; :meth:`close` cancels it."""
        task: asyncio.Task[None] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def keep(self, kept: Kept) -> None:
        """End it at the end, unless it is let go before."""
        self._kept.add(kept)

    def let_go(self, kept: Kept) -> None:
        """Let it end by itself, if it was kept."""
        self._kept.discard(kept)

    async def close(self) -> None:
        """Stop the clockwork: no timer fires any more, tasks are cancelled and awaited."""
        self.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for kept in list(self._kept):
            try:
                kept.end()
            except Exception:
                self.report(kept)

    def report(self, broken: object) -> None:
        """Log the exception that is being handled; timeouts will end what has it."""
        logger.exception("could not go on with %r", broken)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of the worker failed: %s", task.get_name(), exc_info=error)
