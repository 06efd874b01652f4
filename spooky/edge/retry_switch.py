"""When clients have to prove their addresses because of a flood, and when no longer."""

import logging
from typing import Final

from spooky._core.balance import hash_key
from spooky._core.timers import Timer
from spooky.edge.limits import SECOND, ConnectionCap
from spooky.observe.counters import Counters
from spooky.runtime import Runtime

logger = logging.getLogger(__name__)

HALF_OPEN_ON: Final = 0.25
"""Which share of the half-open connections there may be is a flood: clients that go on leave theirs
within a round trip, so even a rush of them takes few at a time."""

HALF_OPEN_OFF: Final = 0.1
"""Below which share it is over; what proved nothing before takes a handshake's timeout to go."""

ATTEMPTS_ON: Final = 0.5
"""Which share of the rate of new connections is a flood, counted over all listeners and workers."""

ATTEMPTS_OFF: Final = 0.25
"""Below which share of it that is over: a flood goes on though it gets nothing."""

CALM_SECONDS: Final = 5.0
"""How long it must have been calm: a flood that breathes does not get half-open connections with
each breath."""

WINDOW_SECONDS: Final = 1.0
"""For which time attempts may come at once, and how often it is looked whether it is calm."""

NOTED_MAX: Final = 4096
"""Attempts that are remembered: a client that sends its first packet again makes no other one."""

_ON: Final = hash_key(b"attempts that begin a flood")
_OFF: Final = hash_key(b"attempts that go on with a flood")


class RetrySwitch:
    """Follows half-open connections and attempts to open some.

    Arguments:
        runtime: The worker's.
        cap: Which connections there are, in all workers.
        counters: The worker's slots.

    Attributes:
        is_on: Whether new clients have to prove their address.
    """

    def __init__(self, runtime: Runtime, cap: ConnectionCap, counters: Counters) -> None:
        self.is_on = False
        self._runtime = runtime
        self._cap = cap
        self._segment = counters.segment
        self._values = counters.values
        self._gauge = counters.slot("quic_retry_active")
        self._noted: set[bytes] = set()
        self._stormy_at = 0.0
        self._timer: Timer | None = None

    def note_attempt(self, connection_id: bytes, now: float, rate: float) -> bool:
        """Count an attempt of a client to begin; return whether it has to prove its address.

        Arguments:
            connection_id: What the client chose for its first packets; each counts once.
            now: Seconds on the monotonic clock.
            rate: How many connections may begin in a second.
        """
        if connection_id in self._noted:
            return self.is_on
        if len(self._noted) >= NOTED_MAX:
            self._noted.clear()
        self._noted.add(connection_id)
        # Both each time: other workers may be on when this one is off.
        is_flood = not self._may_come(_ON, ATTEMPTS_ON * rate, now)
        is_calm = self._may_come(_OFF, ATTEMPTS_OFF * rate, now)
        if self.is_on and not is_calm:
            self._stormy_at = now
        if not self.is_on and (is_flood or self._cap.half_open_share >= HALF_OPEN_ON):
            self._turn(True, now)
        return self.is_on

    def close(self) -> None:
        """Look no more; idempotent."""
        if self.is_on:
            self._set(False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _may_come(self, key: int, rate: float, now: float) -> bool:
        """Count an attempt of those of all workers; return whether they stay within a rate."""
        burst = max(1, int(rate * WINDOW_SECONDS))
        return self._segment.take_rate(key, int(now * SECOND), max(1, int(SECOND / rate)), burst)

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
