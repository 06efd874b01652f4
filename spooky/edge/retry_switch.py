"""When clients have to prove their addresses because of a flood, and when no longer."""

import logging
from typing import Final

from spooky._core.arrivals import WINDOW_SECONDS, Attempts
from spooky._core.timers import Timer
from spooky.edge.limits import ConnectionCap
from spooky.observe.counters import Counters
from spooky.runtime import Runtime

logger = logging.getLogger(__name__)

HALF_OPEN_OFF: Final = 0.1
"""Below which share it is over; what proved nothing before takes a handshake's timeout to go."""

CALM_SECONDS: Final = 5.0
"""How long it must have been calm: a flood that breathes does not get half-open connections with
each breath."""


class RetrySwitch(Attempts):
    """Follows half-open connections and attempts to open some.

    Arguments:
        runtime: The worker's.
        cap: Which connections there are, in all workers.
        counters: The worker's slots.

    Attributes:
        is_on: Whether new clients have to prove their address.
    """

    __slots__ = ("_gauge", "_runtime", "_timer", "_values")

    def __init__(self, runtime: Runtime, cap: ConnectionCap, counters: Counters) -> None:
        super().__init__(counters.segment, cap)
        self._runtime = runtime
        self._values = counters.values
        self._gauge = counters.slot("quic_retry_active")
        self._timer: Timer | None = None

    def close(self) -> None:
        """Look no more; idempotent."""
        if self.is_on:
            self._set(False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Turn off when it has been calm for long enough."""
        self._timer = None
        now = self._runtime.now()
        if self._cap.half_open_share >= HALF_OPEN_OFF:
            self._stormy_at = now
        if now - self._stormy_at >= CALM_SECONDS:
            self._turn(False, now)
        else:
            self._timer = self._runtime.schedule(now + WINDOW_SECONDS, self._look)

    def _set(self, on: bool) -> None:
        self.is_on = on
        # Other listeners of the worker are counted there, too.
        self._values[self._gauge] += 1 if on else -1

    def _turn(self, on: bool, now: float) -> None:
        self._set(on)
        if on:
            logger.warning("many handshakes begin: new clients have to prove their address (Retry)")
            self._stormy_at = now
            self._timer = self._runtime.schedule(now + WINDOW_SECONDS, self._look)
        else:
            logger.info("few handshakes begin: clients need not prove their address any more")
