# cython: annotation_typing=False
"""The turns of an event loop: timers that fire in it, and output that is flushed at its end.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. Tasks and their end are
in ``runtime/runtime.py``, whose class extends this one.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, Protocol

from spooky._core.timers import Timer, TimerWheel

FEW: Final = 4
"""While no more requests than this are under way, what comes is likely alone: what it causes is
sent at once, as the way to the end of a turn is long. Of more, others have something to send."""

# C numbers.
_SHORTEST_WAIT = 0.0005
_FEW = FEW


class Flushable(Protocol):
    """What has output pending until the end of the turn."""

    def flush(self) -> None:
        """Hand everything pending to the socket."""


class Turns:
    """One event loop's clock, timers and turn.

    Arguments:
        loop: The loop to live on.
        now: The clock; seconds.
        tick: Resolution of the timers, seconds.

    Attributes:
        loop: The loop to live on.
        now: The clock; seconds.
        under_way: How many requests are.
    """

    def __init__(self, loop: Any, now: Callable[[], float], tick: float) -> None:
        self.loop = loop
        self.now = now
        self.under_way = 0
        self._wheel = TimerWheel(now(), tick)
        self._wakeup: Any = None
        self._wakeup_at = 0.0
        self._pending: list[Flushable] = []
        self._flush_scheduled = False
        self._closed = False

    def clock(self) -> float:
        """Return the time; what :attr:`now` does, here for its type."""
        return self.now()

    def schedule(self, deadline: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at ``deadline``, in seconds on :attr:`now`'s clock."""
        timer = self._wheel.schedule(deadline, callback)
        if self._wakeup is None or deadline < self._wakeup_at:
            self._set_wakeup()
        return timer

    def follow(
        self, timer: Timer | None, due: float | None, callback: Callable[[], None]
    ) -> Timer | None:
        """Call back when it is due, and no more when a timer would; return what does so.

        Arguments:
            timer: What would call back so far, if anything.
            due: As for :meth:`schedule`; ``None`` for never.
        """
        if due is None:
            if timer is not None:
                timer.cancel()
            return None
        deadline = due
        if timer is not None:
            if deadline >= timer.deadline:
                timer.postpone(deadline)
                return timer
            timer.cancel()
        return self.schedule(deadline, callback)

    def mark(self, flushable: Flushable) -> None:
        """Flush it at the end of this turn; mark each at most once until it was flushed."""
        self._pending.append(flushable)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self.flush)

    def hold(self) -> None:
        """Flush nothing that is marked from now on until :meth:`flush`, which has to follow."""
        self._flush_scheduled = True

    def hold_if_few(self) -> bool:
        """Hold if few requests are under way; return whether :meth:`flush` has to follow."""
        if self.under_way > _FEW:
            return False
        self.hold()
        return True

    def flush(self) -> None:
        """Flush what was marked, now. One connection's defect is not the others'."""
        self._flush_scheduled = False
        pending = self._pending
        self._pending = []
        for flushable in pending:
            try:
                flushable.flush()
            except Exception:
                self.report(flushable)

    def stop(self) -> None:
        """Fire no timer any more."""
        self._closed = True
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None

    @abstractmethod
    def report(self, broken: object) -> None:
        """Say that something could not go on; the exception is being handled."""

    def _set_wakeup(self) -> None:
        """Have the loop call when the next timer is due."""
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        deadline = self._wheel.next_deadline()
        if deadline is None or self._closed:
            return
        self._wakeup_at = deadline
        delay = deadline - self.clock()
        if delay > _SHORTEST_WAIT:
            # Loops count milliseconds: a timer that was rounded down comes to nothing, twice.
            delay += _SHORTEST_WAIT
        self._wakeup = self.loop.call_later(max(0.0, delay), self._advance)

    def _advance(self) -> None:
        self._wakeup = None
        try:
            self._wheel.advance(self.clock())
        finally:
            self._set_wakeup()
