# cython: annotation_typing=False
"""Limits on how many are in flight: places, and a gate with a short queue for those who may wait.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from spooky._core.shared import Limit, Words


class Places:
    """How many places of a limit are taken: shared by all workers, or counted by one alone.

    Arguments:
        shared: This worker's view of what all share; ``None`` to count alone.
    """

    def __init__(self, shared: Limit | None = None) -> None:
        self._shared = shared
        self._own = 0

    @property
    def total(self) -> int:
        """How many are taken, by all workers that share them."""
        return self.taken()

    def taken(self) -> int:
        """Return what ``total`` is; here for its type."""
        if self._shared is not None:
            return self._shared.taken()
        return self._own

    @property
    def shared(self) -> Limit | None:
        """This worker's view of what all share; ``None`` if it counts alone."""
        return self._shared

    @property
    def share(self) -> int:
        """How many of them by this worker."""
        return self._own if self._shared is None else self._shared.share

    def take(self, maximum: int, count: int = 1) -> bool:
        """Take places, all or none, if not more than ``maximum`` are taken then."""
        if self._shared is not None:
            return self._shared.take(maximum, count)
        if self._own > maximum or count > maximum - self._own:
            return False
        self._own += count
        return True

    def give(self, count: int = 1) -> None:
        """Give some of this worker's places back.

        Raises:
            ValueError: It took fewer.
        """
        if self._shared is not None:
            self._shared.give(count)
        elif count > self._own:
            raise ValueError("fewer places were taken")
        else:
            self._own -= count


class PeakPlaces(Places):
    """Places that note how many were taken at most, by all who share them.

    Arguments:
        shared: As for :class:`Places`.
        words: Where that is noted; ``None`` for nowhere.
        position: Which of them.
    """

    def __init__(self, shared: Limit | None, words: Words | None, position: int) -> None:
        super().__init__(shared)
        self._words = words
        self._position = position

    def take(self, maximum: int, count: int = 1) -> bool:
        """Take places, all or none, if not more than ``maximum`` are taken then."""
        if not Places.take(self, maximum, count):
            return False
        words = self._words
        if words is not None:
            taken = self.taken()
            most = words.load(self._position)
            while taken > most and not words.swap(self._position, most, taken):
                most = words.load(self._position)
        return True


class _Waiting(NamedTuple):
    """Who waits at a gate, and how many may be inside for them to enter."""

    retry: Callable[[], None]
    limit: int


class Gate:
    """Counts what is inside, and refuses what would exceed a limit.

    The limit is whose turn it is to enter: two generations with different limits share one gate.

    Arguments:
        places: Where they are counted; this worker's own if none are given.
        on_waiting: Called with the gate when somebody waits and nobody did: places that another
            worker gives up are only found by :meth:`look`.

    Attributes:
        newest_first: Whether the queue has been standing for too long.
    """

    def __init__(
        self,
        places: Places | None = None,
        on_waiting: Callable[["Gate"], None] | None = None,
    ) -> None:
        self._places = places if places is not None else Places()
        self._on_waiting = on_waiting
        self._waiting: deque[_Waiting] = deque()
        self._waking = False
        self._left = 0
        self._since = 0.0
        self.newest_first = False

    @property
    def shared(self) -> Limit | None:
        """This worker's view of what is inside from all; ``None`` if it counts alone."""
        return self._places.shared

    @property
    def active(self) -> int:
        """How many are inside, from all workers."""
        return self.taken()

    def taken(self) -> int:
        """Return what ``active`` is; here for its type."""
        return self._places.taken()

    def try_enter(self, limit: int) -> bool:
        """Enter if there is room.

        Arguments:
            limit: How many may be inside then.

        Returns:
            Whether it did; then :meth:`leave` is owed.
        """
        return self._places.take(limit)

    def leave(self) -> None:
        """Leave, and let the next who waits try again."""
        self._places.give()
        if not self._waiting:
            return
        self._left += 1
        if self._waking:
            # Whoever is called and refused elsewhere leaves again: were the next called from
            # within, a long queue would be as many calls deep.
            return
        self._waking = True
        try:
            while self._left and self._waiting:
                self._left -= 1
                self._next().retry()
        finally:
            self._waking = False
            self._left = 0

    def wait(
        self, retry: Callable[[], None], limit: int, now: float, longest: float, target: float
    ) -> float:
        """Be called back when there may be room.

        The longest wait comes first, until some have been waiting for so long without a break that
        nobody would enter in time any more: then each waits briefly, and the newest comes first.

        Arguments:
            limit: That of :meth:`try_enter`, which refused.
            now: Seconds.
            longest: How long anybody may wait; seconds.
            target: How long where the queue stands.

        Returns:
            How long to wait; 0 if as many are waiting already as may be inside: then nobody calls.
        """
        if len(self._waiting) >= limit:
            return 0.0
        if not self._waiting:
            self._since = now
        self.newest_first = now - self._since >= longest
        self._waiting.append(_Waiting(retry, limit))
        if len(self._waiting) == 1 and self._on_waiting is not None:
            self._on_waiting(self)
        return target if self.newest_first else longest

    def stop_waiting(self, retry: Callable[[], None]) -> None:
        """Forget a callback of :meth:`wait`, whether it is still queued or not."""
        for waiting in self._waiting:
            if waiting.retry == retry:
                self._waiting.remove(waiting)
                return

    def look(self) -> bool:
        """Let as many try again as there is room for.

        Returns:
            Whether anybody still waits.
        """
        self._waking = True
        try:
            for _ in range(len(self._waiting)):
                if not self._waiting or self._places.total >= self._waiting[0].limit:
                    break
                self._next().retry()
        finally:
            self._waking = False
            self._left = 0
        return bool(self._waiting)

    def _next(self) -> _Waiting:
        return self._waiting.pop() if self.newest_first else self._waiting.popleft()
