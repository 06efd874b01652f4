"""How long a worker that died is waited for before another takes its place."""

from typing import Final

STABLE_SECONDS: Final = 10.0
"""A worker that lived so long is replaced at once."""

REPLACE_DELAY_MIN: Final = 0.1
REPLACE_DELAY_MAX: Final = 5.0
"""One that did not is replaced after a pause, which doubles up to this; seconds."""


class Pauses:
    """The pauses of all slots."""

    def __init__(self) -> None:
        self._next: dict[int, float] = {}

    def after(self, slot: int, lived: float) -> float:
        """Return how long to wait before a worker is replaced.

        Arguments:
            lived: How long it did; seconds.
        """
        if lived > STABLE_SECONDS:
            self._next[slot] = REPLACE_DELAY_MIN
            return 0.0
        return self.next(slot)

    def next(self, slot: int) -> float:
        """Return how long to wait for a slot this time; the next will be longer."""
        delay = self._next.get(slot, REPLACE_DELAY_MIN)
        self._next[slot] = min(2 * delay, REPLACE_DELAY_MAX)
        return delay
