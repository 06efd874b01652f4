"""One timer wheel for every timeout of a worker: the twin, a heap with lazy deletion."""

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

MIN_SWEEP: Final = 64
"""Stale heap entries below which sweeping them out is not worth its cost."""

_NOT_FILED: Final = -1


class Timer:
    """A timeout that can be moved and cancelled; create it with ``TimerWheel.schedule``.

    Attributes:
        deadline: When it fires, seconds on the caller's clock.
        active: Whether it will fire.
    """

    __slots__ = ("_callback", "_filed", "_filing", "_sequence", "_wheel", "deadline")

    deadline: float
    _callback: Callable[[], None] | None
    _filed: float
    _filing: int
    _sequence: int
    _wheel: "TimerWheel"

    @property
    def active(self) -> bool:
        return self._callback is not None

    def __lt__(self, other: "Timer") -> bool:
        """Whether it fires before another that is due at the same ``advance``."""
        return (self.deadline, self._sequence) < (other.deadline, other._sequence)

    def cancel(self) -> None:
        """Make sure it does not fire; idempotent, O(1)."""
        if self._callback is not None:
            self._callback = None
            self._wheel._forget(self)

    def postpone(self, deadline: float) -> None:
        """Move the deadline; O(1), later deadlines touch no list. Reactivates nothing."""
        _check(deadline)
        if self._callback is not None:
            self.deadline = deadline
            if deadline < self._filed:
                self._wheel._stale += 1
                self._wheel._file(self)


class TimerWheel:
    """A hashed wheel; O(1) to schedule, postpone and cancel.

    Timers fire at the first ``advance`` at or after their deadline, never before it: those due
    in one ``advance`` by deadline, then in the order they were scheduled.

    Arguments:
        now: The current time, seconds.
        tick: Resolution, seconds.
    """

    __slots__ = ("_active", "_advancing", "_due", "_filings", "_heap", "_sequence", "_stale")

    def __init__(self, now: float, tick: float = 0.01) -> None:
        if not math.isfinite(now):
            raise ValueError("a time must be a number")
        if not 0.0 < tick < math.inf:
            raise ValueError("tick must be positive")
        self._heap: list[tuple[float, int, Timer]] = []
        self._due: list[Timer] = []
        self._active = 0
        self._stale = 0
        self._sequence = 0
        self._filings = 0
        self._advancing = False

    def __len__(self) -> int:
        """Return the number of active timers."""
        return self._active

    def schedule(self, deadline: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at ``deadline``; a past deadline fires at the next ``advance``."""
        _check(deadline)
        timer = Timer()
        timer.deadline = deadline
        timer._callback = callback
        timer._wheel = self
        timer._sequence = self._sequence
        self._sequence += 1
        self._active += 1
        self._file(timer)
        return timer

    def advance(self, now: float) -> None:
        """Fire what is due. An exception of a callback leaves the rest for the next call.

        What a callback schedules fires at the next call at the earliest.

        Raises:
            RuntimeError: Called from a callback.
        """
        _check(now)
        if self._advancing:
            raise RuntimeError("advance was called from a timer's callback")
        self._collect(now)
        self._advancing = True
        try:
            while self._due:
                self._fire(self._due.pop(), now)
        finally:
            self._advancing = False

    def next_deadline(self) -> float | None:
        """Return when ``advance`` should be called next, or ``None`` if no timer is active.

        May be early (by design it is cheap, not exact), never late.
        """
        deadlines = [timer.deadline for timer in self._due if timer.active]
        while self._heap and self._is_stale(self._heap[0]):
            heappop(self._heap)
            self._stale -= 1
        if self._heap:
            deadlines.append(self._heap[0][0])
        return min(deadlines, default=None)

    def _file(self, timer: Timer) -> None:
        """Put a timer in the heap; an entry it had there becomes stale."""
        timer._filed = timer.deadline
        timer._filing = self._filings
        heappush(self._heap, (timer.deadline, self._filings, timer))
        self._filings += 1

    def _forget(self, timer: Timer) -> None:
        """Drop a cancelled timer; sweep the heap when most of it is stale."""
        self._active -= 1
        if timer._filing == _NOT_FILED:
            return
        timer._filing = _NOT_FILED
        self._stale += 1
        if self._stale > MIN_SWEEP and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not self._is_stale(entry)]
            heapify(self._heap)
            self._stale = 0

    @staticmethod
    def _is_stale(entry: tuple[float, int, Timer]) -> bool:
        """Return whether an entry's timer was cancelled or filed elsewhere since."""
        return entry[1] != entry[2]._filing

    def _collect(self, now: float) -> None:
        """Move what is due from the heap to ``_due``, which is kept last first."""
        due = [timer for timer in self._due if timer.active]
        while self._heap and self._heap[0][0] <= now:
            entry = heappop(self._heap)
            timer = entry[2]
            if self._is_stale(entry):
                self._stale -= 1
            elif timer.deadline > now:
                self._file(timer)
            else:
                timer._filing = _NOT_FILED
                timer._filed = -math.inf  # While due, no postponement files it again.
                due.append(timer)
        due.sort(reverse=True)
        self._due = due

    def _fire(self, timer: Timer, now: float) -> None:
        """Call a timer that is due, unless an earlier callback cancelled or postponed it."""
        callback = timer._callback
        if callback is None:
            return
        if timer.deadline > now:
            self._file(timer)
            return
        timer._callback = None
        self._active -= 1
        callback()


def _check(time: float) -> None:
    if math.isnan(time):
        raise ValueError("a time must be a number")
