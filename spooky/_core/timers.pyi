"""One timer wheel for every timeout of a worker."""

from collections.abc import Callable

class Timer:
    """A timeout that can be moved and cancelled; create it with ``TimerWheel.schedule``.

    Attributes:
        deadline: When it fires, seconds on the caller's clock.
        active: Whether it will fire.
    """

    @property
    def deadline(self) -> float: ...
    @property
    def active(self) -> bool: ...
    def __lt__(self, other: Timer) -> bool:
        """Whether it fires before another that is due at the same ``advance``."""

    def cancel(self) -> None:
        """Make sure it does not fire; idempotent, O(1)."""

    def postpone(self, deadline: float) -> None:
        """Move the deadline; O(1), later deadlines touch no list. Reactivates nothing."""

class TimerWheel:
    """A hashed, hierarchical wheel; O(1) to schedule, postpone and cancel.

    Timers fire at the first ``advance`` at or after their deadline, never before it: those due
    in one ``advance`` by deadline, then in the order they were scheduled.

    Arguments:
        now: The current time, seconds.
        tick: Resolution, seconds.
    """

    def __init__(self, now: float, tick: float = 0.01) -> None: ...
    def __len__(self) -> int:
        """Return the number of active timers."""

    def schedule(self, deadline: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at ``deadline``; a past deadline fires at the next ``advance``."""

    def advance(self, now: float) -> None:
        """Fire what is due. An exception of a callback leaves the rest for the next call.

        What a callback schedules fires at the next call at the earliest.

        Raises:
            RuntimeError: Called from a callback.
        """

    def next_deadline(self) -> float | None:
        """Return when ``advance`` should be called next, or ``None`` if no timer is active.

        May be early (by design it is cheap, not exact), never late.
        """
