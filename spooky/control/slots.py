"""Worker slots: who has which, while workers take over from others."""

import asyncio
import math
import os
import time
from collections.abc import Iterable
from typing import Final

from spooky._core import COMPILED
from spooky._core.shared import SLOTS_MAX
from spooky.config.schema import Configuration
from spooky.control.change import NextGeneration, PrepareError, Step
from spooky.edge.handover import SWAP_SECONDS
from spooky.protocol.quic.steering import Steering

SLOTS: Final = SLOTS_MAX if COMPILED else 1
"""How many the shared segment has; pages of those that nobody had take no memory."""


class StartError(Exception):
    """The workers cannot serve; says why."""


class Slots:
    """Which slots there are, and what for.

    Arguments:
        count: How many workers there are at first.
        before: Those of a program that this one takes over from.

    Attributes:
        active: Of the workers that serve.
        coming: Of those that take over with the change under way; empty without.
        leaving: Of those that finish what they have.
    """

    def __init__(self, count: int, before: Steering | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.leaving: set[int] = set()
        self.active: tuple[int, ...] = ()
        self.coming: tuple[int, ...] = ()
        # Of workers that were started for a change that came to nothing, and did not exit yet.
        self._discarded: set[int] = set()
        self._before = b""
        self._swapped = 0.0
        if before is not None:
            self.leaving.update(before.active, before.leaving)
            self._before, self._swapped = before.table, math.inf
        self.active = self._free(count)

    @property
    def steering(self) -> Steering:
        """How datagrams are steered now."""
        if self._before and self._loop.time() - self._swapped > SWAP_SECONDS:
            self._before = b""
        leaving = tuple(sorted(self.leaving))
        return Steering(self.active, leaving, self._before, time.monotonic_ns())

    @property
    def coming_steering(self) -> Steering:
        """How they are steered after the change under way."""
        leaving = (*sorted(self.leaving), *self.active)
        return Steering(self.coming, leaving, self.steering.table, time.monotonic_ns())

    @property
    def count(self) -> int:
        """One more than the highest that is in use."""
        return 1 + max((*self.active, *self.coming, *self.leaving, *self._discarded))

    async def prepare(self, change: NextGeneration) -> Step:
        """Choose slots for new workers, if a change takes them.

        Raises:
            PrepareError: There are not enough.
        """
        if not change.rolling:
            return Step(lambda: None, lambda: None)
        if not COMPILED:
            raise PrepareError(
                "without the compiled kernels there is one worker, and no other can "
                "take over; start Spooky again"
            )
        try:
            self.coming = self._free(worker_count(change.candidate.configuration))
        except StartError as error:
            raise PrepareError(str(error)) from error
        return Step(self._commit, self._discard)

    def swapped(self) -> None:
        """Take note that new connections come here, from another program, from now on."""
        self._swapped = self._loop.time()

    def inherit(self, slots: Iterable[int]) -> None:
        """Take note of workers of another program that finish what they have."""
        self.leaving.update(slots)

    def free(self, slot: int) -> None:
        """Take note that the worker of a slot is gone, and none follows it there."""
        self._discarded.discard(slot)
        self.coming = tuple(one for one in self.coming if one != slot)
        if slot in self.leaving:
            self.leaving.remove(slot)
            if self._before:
                # Its handshakes are gone with it.
                table = self.steering.table
                self._before = bytes(
                    table[byte] if named == slot else named
                    for byte, named in enumerate(self._before)
                )

    def _commit(self) -> None:
        self._before, self._swapped = self.steering.table, self._loop.time()
        self.leaving.update(self.active)
        self.active, self.coming = self.coming, ()

    def _discard(self) -> None:
        self._discarded.update(self.coming)
        self.coming = ()

    def _free(self, count: int) -> tuple[int, ...]:
        taken = {*self.active, *self.leaving, *self._discarded}
        free = [slot for slot in range(SLOTS) if slot not in taken]
        if len(free) < count:
            raise StartError(
                f"{count} workers cannot begin while {len(taken)} of {SLOTS} slots are in use: "
                "wait until workers of earlier changes have finished"
            )
        return tuple(free[:count])


def worker_count(configuration: Configuration) -> int:
    """Return how many workers a configuration asks for on this machine.

    Raises:
        StartError: More than can be.
    """
    asked = configuration.performance.worker_threads
    if asked == "auto":
        return len(os.sched_getaffinity(0)) if COMPILED else 1
    if asked > 1 and not COMPILED:
        raise StartError(
            f"performance.worker_threads is {asked}, but without the compiled kernels there can be "
            "only 1 worker"
        )
    return asked
