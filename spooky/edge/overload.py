"""Following the pressures on a worker, and doing against overload what the rules say."""

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from spooky._core import reasons
from spooky._core.exchange import UNLIMITED
from spooky._core.reasons import Reason
from spooky._core.timers import Timer
from spooky.config.overload_manager import Overload
from spooky.edge.limits import ConnectionCap
from spooky.edge.listener import Listener
from spooky.observe.counters import Counters
from spooky.overload.largest import Held, fewest
from spooky.overload.manager import (
    Action,
    LagMeter,
    Measures,
    OverloadManager,
    Resource,
    Transition,
    action_slots,
)
from spooky.overload.places import shared_places
from spooky.overload.pressures import MachinePressure, WorkerPressure
from spooky.overload.trim import RELEASE_SECONDS, TRIM_SECONDS, find_trim
from spooky.runtime import Runtime

logger = logging.getLogger(__name__)

CLOSE_INTERVAL_SECONDS: Final = 1.0
"""How often idle connections are closed: to look at all of many takes some milliseconds."""

RESET_INTERVAL_SECONDS: Final = 1.0
"""How often streams are reset: until then the supervisor has measured what was freed."""

CLOSES_MAX: Final = 500
"""How many are closed each time, about 20 ms, so that requests need not wait for it."""


class OverloadWatch:
    """Measures, decides and acts for one worker.

    Arguments:
        runtime: The worker's.
        counters: The worker's slots.
        slot: The worker's slot.
        settings: The thresholds.
        caps: Which connections there are.
        listeners: Gives the worker's listeners.
        shed: Has requests shed by priority for a pressure, with a reason.
    """

    def __init__(
        self,
        runtime: Runtime,
        counters: Counters,
        slot: int,
        settings: Overload,
        caps: Iterable[ConnectionCap],
        listeners: Callable[[], list[Listener]],
        shed: Callable[[float, Reason], None],
    ) -> None:
        self._shed = shed
        self._runtime = runtime
        self._caps = tuple(caps)
        self._listeners = listeners
        self._manager = OverloadManager(settings)
        self._lag = LagMeter()
        self._machine = MachinePressure(counters.segment)
        self._own = WorkerPressure(counters.segment, slot)
        self._values = counters.values
        self._counts = action_slots(counters)
        self._gauges = {
            action: counters.slot("overload_actions_active", {"action": action.value})
            for action in Action
        }
        self._timer: Timer | None = None
        self._next_close = 0.0
        self._trim = find_trim()
        self._next_trim = 0.0
        # Workers start together, and each holds up its allocations: not all at once.
        self._next_release = runtime.now() + RELEASE_SECONDS * random.uniform(0.5, 1.5)
        # What streams hold in each worker, as long as they are to be reset.
        self._held = shared_places(counters, "bytes held by streams")
        self._own_held = 0
        self._next_reset = 0.0

    @property
    def measures(self) -> Measures:
        """What is done now, for those who do it."""
        return self._manager.measures

    def use(self, settings: Overload) -> None:
        """Go by other thresholds from now on."""
        self._manager.settings = settings

    def start(self) -> None:
        """Begin to measure."""
        self._schedule()

    def close(self) -> None:
        """Measure no more; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._say_held(0)

    def _schedule(self) -> None:
        deadline = self._runtime.now() + self._manager.settings.refresh_interval_ms / 1000
        self._timer = self._runtime.schedule(deadline, lambda: self._look(deadline))

    def _look(self, deadline: float) -> None:
        now = self._runtime.now()
        self._lag.note(now - deadline, self._manager.settings.event_loop_max_lag_ms / 1000)
        pressures = self._measure()
        for transition in self._manager.update(pressures, now):
            self._tell(transition)
        self._shed(self._manager.shedding, reasons.OVERLOAD_SHED)
        if self._manager.is_taken(Action.SHORTEN_IDLE_TIMEOUTS) and now >= self._next_close:
            self._next_close = now + CLOSE_INTERVAL_SECONDS
            self._close_idle()
        self._follow_largest(pressures[Resource.MEMORY], now)
        self._schedule()
        self._give_back(now)

    def _give_back(self, now: float) -> None:
        """Give the system what was freed, now and then, and more often while memory is short.

        Else it counts as used: an action that is taken for memory would not end.
        """
        if self._trim is None:
            return
        is_due = self._manager.is_short_of_memory and now >= self._next_trim
        if is_due or now >= self._next_release:
            self._next_trim = now + TRIM_SECONDS
            self._next_release = now + RELEASE_SECONDS
            try:
                self._runtime.loop.run_in_executor(None, self._trim)
            except RuntimeError as error:
                # The first needs a thread, and the system may allow no more: at the next time.
                logger.warning("could not give freed memory back: %s", error)

    def _measure(self) -> dict[Resource, float]:
        # Rounded, as an average comes near the greatest lag, which is 1, but never quite there.
        lag = round(1000 * self._lag.seconds / self._manager.settings.event_loop_max_lag_ms, 3)
        self._own.event_loop = lag
        return {
            Resource.MEMORY: self._machine.memory,
            Resource.EVENT_LOOP: lag,
            Resource.DESCRIPTORS: self._own.descriptors,
            Resource.CONNECTIONS: max(cap.share for cap in self._caps),
        }

    def _tell(self, transition: Transition) -> None:
        action, begins, resource, pressure = transition
        self._values[self._gauges[action]] = int(begins)
        if begins:
            logger.warning(
                "overload: %s begins, as the pressure on %s is %.2f",
                action.value, resource.value, pressure,
            )  # fmt: skip
        else:
            logger.info(
                "overload: %s ends, as the pressure on %s is %.2f",
                action.value, resource.value, pressure,
            )  # fmt: skip

    def _close_idle(self) -> None:
        left = CLOSES_MAX
        for listener in self._listeners():
            left -= listener.close_idle(self._manager.idle_share, left)
        self._values[self._counts[Action.SHORTEN_IDLE_TIMEOUTS]] += CLOSES_MAX - left

    def _follow_largest(self, pressure: float, now: float) -> None:
        """Reset the largest streams while that has to be, after a look at what all workers hold."""
        if not self._manager.is_taken(Action.RESET_LARGEST_STREAMS):
            self._say_held(0)
            self._next_reset = 0.0
        elif self._next_reset == 0.0:
            self._next_reset = now
            self._say_held(sum(stream.size for stream in self._streams()))
        elif now >= self._next_reset:
            self._next_reset = now + RESET_INTERVAL_SECONDS
            self._reset_largest(self._manager.memory_to_free(pressure))

    def _reset_largest(self, share: float) -> None:
        """Reset the fewest streams that hold what this worker has to free.

        Arguments:
            share: Of all memory, that all workers have to free together.
        """
        streams = list(self._streams())
        self._say_held(sum(stream.size for stream in streams))
        if not self._own_held:
            return
        own = self._own_held / max(self._held.total, self._own_held)
        chosen = fewest(streams, int(share * self._machine.memory_limit * own))
        for stream in chosen:
            stream.reset()
        if chosen:
            self._values[self._counts[Action.RESET_LARGEST_STREAMS]] += len(chosen)
            size = sum(stream.size for stream in chosen)
            logger.warning(
                "overload: %d streams were reset, which held %d bytes", len(chosen), size
            )
            # So that the next look sees it.
            self._next_trim = 0.0

    def _streams(self) -> Iterator[Held]:
        for listener in self._listeners():
            yield from listener.held()

    def _say_held(self, size: int) -> None:
        """Tell other workers what the streams of this one hold."""
        if size > self._own_held:
            self._held.take(UNLIMITED, size - self._own_held)
        elif size < self._own_held:
            self._held.give(self._own_held - size)
        self._own_held = size
