"""Looking at the workers from outside: what they take, and whether the watchdog replaces one."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from spooky._core.shared import Segment
from spooky._core.timers import Timer
from spooky.config.schema import Configuration
from spooky.control.crew import READY_SECONDS, Crew
from spooky.control.resources import ResourceWatch
from spooky.control.watchdog import Act, Replace, Seen, ShowStack, Slept, Spare, WatchdogRules
from spooky.control.worker_counts import WorkerCountReader
from spooky.control.worker_process import WorkerProcess
from spooky.observe.metrics import Fact, Kind
from spooky.runtime import Runtime

logger = logging.getLogger(__name__)

STACK_SECONDS: Final = 0.5
"""How long a worker has to write its stack down. Any that can still run does so at once."""

_NOT_TRACED: Final = "TracerPid:\t0\n"


class WorkerWatch:
    """Replaces workers that stall or fail, and measures for them what they must not look at.

    The first as ``resilience.watchdog`` says, the second for ``resilience.overload``.

    Arguments:
        runtime: The supervisor's.
        segment: Where workers say that they turn, and count.
        crew: The workers.
        patience: How long the service manager hears nothing of us until it gives us up; seconds,
            ``None`` if it does not.
    """

    def __init__(
        self, runtime: Runtime, segment: Segment, crew: Crew, patience: float | None = None
    ) -> None:
        self._runtime = runtime
        self._segment = segment
        self._crew = crew
        self._patience = patience
        self._resources = ResourceWatch(
            runtime, segment, lambda: crew.pids, lambda: not crew.handed_over
        )
        self._counts = WorkerCountReader(segment)
        self._rules: WatchdogRules | None = None
        self._timer: Timer | None = None
        self._closed = False

    def follow(self, configuration: Configuration) -> None:
        """Go by a configuration from now on."""
        self._resources.follow(configuration)
        settings = configuration.resilience.watchdog
        if self._rules is None:
            self._rules = WatchdogRules(settings, is_traced)
        self._rules.settings = settings
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if settings.enabled and not self._closed:
            self._rules.forget()
            bound = settings.stall_bound_ms / 1000
            if self._patience is not None and bound >= self._patience:
                logger.warning(
                    "the service manager gives up after %.0f s, before the watchdog replaces a "
                    "worker that stalls, after %.0f s: raise WatchdogSec=", self._patience, bound,
                )  # fmt: skip
            self._schedule(self._rules)

    def close(self) -> None:
        """Replace no more workers; what they take is measured to the end. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell of it."""
        yield from self._resources.facts()
        if self._rules is None:
            return
        yield Fact(
            "watchdog_degraded_windows_total",
            "Windows in which a worker stalled, or alone failed.",
            self._rules.degraded,
            kind=Kind.COUNTER,
        )
        for sign, count in self._rules.replaced.items():
            yield Fact(
                "watchdog_replacements_total",
                "Workers that the watchdog replaced, by what for.",
                count,
                (("sign", sign.value),),
                Kind.COUNTER,
            )

    def _schedule(self, rules: WatchdogRules) -> None:
        seconds = rules.settings.check_interval_ms / 1000
        self._timer = self._runtime.schedule(self._runtime.now() + seconds, self._look)

    def _look(self) -> None:
        rules = self._rules
        assert rules is not None
        # First: whatever is met now, there is a next time.
        self._schedule(rules)
        workers = self._crew.workers
        seen = [self._see(worker) for worker in workers.values()]
        for act in rules.look(self._runtime.now(), seen):
            self._do(act)

    def _see(self, worker: WorkerProcess) -> Seen:
        beat = self._segment.last_beat(worker.slot) / 1000
        if beat < worker.started:
            # It is that of the worker before.
            beat = worker.started + READY_SECONDS
        serves = worker.slot in self._crew.serving and not worker.draining
        rules = self._rules
        if rules is None or rules.settings.timeout_error_rate_percent is None:
            return Seen(worker.slot, worker.pid, beat, serves)
        return Seen(worker.slot, worker.pid, beat, serves, self._counts.read(worker.slot))

    def _do(self, act: Act) -> None:
        workers = self._crew.workers
        match act:
            case Slept(seconds):
                logger.warning(
                    "the supervisor did not run for %.1f s: silence of workers until now does not "
                    "count", seconds,
                )  # fmt: skip
            case ShowStack(slot, seconds):
                logger.error("worker %d has not turned for %.1f s", slot, seconds)
                self._show_stack(workers[slot])
            case Spare(slot, why):
                logger.warning("worker %d stalls, and is not killed: %s", slot, why)
            case Replace(slot, sign, text, grace):
                logger.error("the watchdog replaces worker %d (%s): %s", slot, sign, text)
                self._crew.replace(slot, grace)

    def _show_stack(self, worker: WorkerProcess) -> None:
        """Have a worker write its stack, and log it when it has had the time."""
        worker.ask_for_stack()

        def show() -> None:
            stack = worker.read_stacks()
            if stack:
                logger.error("worker %d (process %d) is at:\n%s", worker.slot, worker.pid, stack)
            else:
                logger.error(
                    "worker %d (process %d) writes no stack: it is in state %s",
                    worker.slot, worker.pid, process_state(worker.pid),
                )  # fmt: skip

        self._runtime.schedule(self._runtime.now() + STACK_SECONDS, show)


def is_traced(pid: int) -> bool:
    """Return whether a debugger has attached to a process."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return "TracerPid:" in status and _NOT_TRACED not in status
    return False


def process_state(pid: int) -> str:
    """Return a process's state as proc_pid_stat(5) names it, such as ``T`` for stopped."""
    with contextlib.suppress(OSError):
        return os.fsdecode(Path(f"/proc/{pid}/stat").read_bytes()).rpartition(") ")[2][:1]
    return "gone"
