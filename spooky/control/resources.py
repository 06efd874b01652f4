"""Measuring what workers must not look at themselves: memory, and how many files they have open."""

import logging
import os
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from spooky._core.shared import Segment
from spooky._core.timers import Timer
from spooky.config.schema import Configuration
from spooky.observe.metrics import Fact
from spooky.overload.manager import Resource
from spooky.overload.memory import MemoryReader, Usage
from spooky.overload.places import shared_total
from spooky.overload.pressures import MachinePressure, WorkerPressure
from spooky.runtime import Runtime

logger = logging.getLogger(__name__)

LISTED_SECONDS: Final = 2.0
"""How often open files are listed where the kernel does not count them: ten thousands take it some
milliseconds."""

_NAME: Final = "overload_pressure"
_HELP: Final = "Pressure on a resource, from 0 to 1; of all workers the greatest."


class ResourceWatch:
    """Writes pressures into the segment, where workers read them.

    Arguments:
        runtime: The supervisor's.
        segment: What all share.
        workers: Gives the process of each worker's slot.
        serves: Whether what the machine has is ours to say: one program does while another takes
            over.
    """

    def __init__(
        self,
        runtime: Runtime,
        segment: Segment,
        workers: Callable[[], Mapping[int, int]],
        serves: Callable[[], bool] = lambda: True,
    ) -> None:
        self._runtime = runtime
        self._segment = segment
        self._workers = workers
        self._serves = serves
        self._memory = MemoryReader()
        self._files = FileCounter()
        self._machine = MachinePressure(segment)
        self._own: dict[int, WorkerPressure] = {}
        self._usage = Usage(0, 0, "")
        self._configuration: Configuration | None = None
        self._timer: Timer | None = None
        self._said_hidden = False

    def follow(self, configuration: Configuration) -> None:
        """Go by a configuration from now on."""
        self._configuration = configuration
        if self._timer is None:
            self._look()

    def close(self) -> None:
        """Measure no more; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell of pressures."""
        if self._configuration is None:
            return
        own = list(self._own.values())
        maximum = self._configuration.performance.max_active_connections
        open_now = max(
            shared_total(self._segment, "connections", transport) for transport in ("quic", "tcp")
        )
        for resource_, pressure in (
            (Resource.MEMORY, self._machine.memory),
            (Resource.EVENT_LOOP, max((each.event_loop for each in own), default=0.0)),
            (Resource.DESCRIPTORS, max((each.descriptors for each in own), default=0.0)),
            (Resource.CONNECTIONS, open_now / maximum),
        ):
            yield Fact(_NAME, _HELP, pressure, (("resource", resource_.value),))
        yield Fact("memory_used_bytes", "Memory that counts against its limit.", self._usage.used)
        yield Fact(
            "memory_limit_bytes", "The nearest limit of memory: ours, a cgroup's or the machine's.",
            self._usage.limit,
        )  # fmt: skip

    def _look(self) -> None:
        assert self._configuration is not None
        settings = self._configuration.resilience.overload
        if settings.enabled:
            self._measure(settings.memory_max_bytes)
        deadline = self._runtime.now() + settings.refresh_interval_ms / 1000
        self._timer = self._runtime.schedule(deadline, self._look)

    def _measure(self, max_bytes: int | None) -> None:
        workers = self._workers()
        usage = self._memory.read({os.getpid(), *workers.values()}, max_bytes)
        if usage.source != self._usage.source:
            logger.info(
                "memory is limited by %s: %d of %d MiB",
                usage.source, usage.used >> 20, usage.limit >> 20,
            )  # fmt: skip
        self._usage = usage
        if self._serves():
            self._machine.memory = usage.pressure
            self._machine.memory_limit = usage.limit
        # Workers were started with what we may have.
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._own = {
            slot: self._own.get(slot) or WorkerPressure(self._segment, slot) for slot in workers
        }
        now = self._runtime.now()
        refused = []
        for slot, pid in workers.items():
            try:
                self._own[slot].descriptors = self._files.count(pid, now) / limit
            except PermissionError:
                refused.append(slot)
            except OSError:
                continue  # It is gone.
        self._files.forget_but(workers.values())
        self._say_what_is_hidden(workers, refused)

    def _say_what_is_hidden(self, workers: Mapping[int, int], refused: Sequence[int]) -> None:
        """Say once that workers cannot be measured: each is there until its exit was taken."""
        if self._said_hidden:
            return
        hidden = refused or [
            slot for slot, pid in workers.items() if not os.path.exists(f"/proc/{pid}/status")
        ]
        if hidden:
            self._said_hidden = True
            logger.warning(
                "cannot read /proc of worker %d: its memory or its open files do not count; is "
                "/proc mounted with hidepid, or ProtectProc= set?", hidden[0],
            )  # fmt: skip


def open_files(pid: int) -> int:
    """Return how many files a process has open.

    Raises:
        OSError: It is gone.
    """
    return _counted_files(pid) or len(os.listdir(f"/proc/{pid}/fd"))


class FileCounter:
    """Counts the open files of processes often, and lists them seldom."""

    def __init__(self) -> None:
        self._listed: dict[int, tuple[float, int]] = {}

    def count(self, pid: int, now: float) -> int:
        """Return how many files a process has open, or had lately where only a list tells.

        Raises:
            OSError: It is gone.
        """
        counted = _counted_files(pid)
        if counted:
            return counted
        until, count = self._listed.get(pid, (now, 0))
        if now >= until:
            count = open_files(pid)
            self._listed[pid] = now + LISTED_SECONDS, count
        return count

    def forget_but(self, pids: Iterable[int]) -> None:
        """Forget processes that are no more."""
        for pid in self._listed.keys() - set(pids):
            del self._listed[pid]


def _counted_files(pid: int) -> int:
    """Return how many files the kernel says that a process has open; 0 before Linux 6.2."""
    return Path(f"/proc/{pid}/fd").stat().st_size
