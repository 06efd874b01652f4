"""How long a change holds the loop of a worker, which is in this process, at a time."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from typing import Final

from spooky.config.schema import Configuration
from spooky.edge.messages import Prepare, Prepared
from spooky.edge.reduced import reduced
from tests.support.told_worker import ToldWorker

SWITCH_SECONDS: Final = 0.1
"""A worker without requests has seen by then that another generation is in force."""


class HeldLoop:
    """Notes how long each turn of the running loop takes of the processor.

    Not by a clock on the wall: others that run meanwhile would count.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._longest = 0.0
        self._last = time.thread_time()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._longest = max(self._longest, time.thread_time() - self._last)
        self._last = time.thread_time()
        self._loop.call_soon(self._turn)

    def begin(self) -> None:
        """Count from now on."""
        self._longest = 0.0
        self._last = time.thread_time()

    def longest_ms(self) -> float:
        """Return the longest of the turns since then; milliseconds."""
        return 1000 * self._longest


class ChangingWorker:
    """A worker that changes are told to, one after the other.

    Arguments:
        configuration: What it begins with.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._told = ToldWorker(configuration)
        self._configuration = configuration
        self._number = 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it until the block ends."""
        async with self._told.running():
            try:
                yield
            finally:
                gc.unfreeze()

    async def change(self, configuration: Configuration, loop: HeldLoop) -> tuple[float, float]:
        """Put another configuration in force.

        Returns:
            The longest turn while it was prepared, and that from the commit on; milliseconds.
        """
        told, materials = self._told, self._told.materials
        number = self._number + 1
        less, base = reduced(configuration, self._number, self._configuration)
        prepare = Prepare(
            number, less, dict(materials.files), materials.authorities, (0,), 1.0, (), base
        )
        # What the supervisor makes of it is none of the worker's, as its process has it.
        gc.collect()
        gc.freeze()
        told.tell(prepare)
        loop.begin()
        assert await told.heard.get() == Prepared(number)
        preparing = loop.longest_ms()
        loop.begin()
        told.commit(number)
        await asyncio.sleep(SWITCH_SECONDS)
        worker = told.agent._worker
        assert worker is not None
        assert worker.service.generation.number == number
        while worker._afterwards:
            await asyncio.sleep(0)
        self._number, self._configuration = number, configuration
        return preparing, loop.longest_ms()
