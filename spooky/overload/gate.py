"""A limit on how many exchanges are in flight, with a short queue for those who may wait."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from spooky.overload.places import OwnPlaces, Places


class _Waiting(NamedTuple):
    """Who waits at a gate, and how many may be inside for them to enter."""

    retry: Callable[[], None]
    limit: int


class Gate:
    """Counts what is inside, and refuses what would exceed a limit.

    The limit is whose turn it is to enter: two generations with different limits share one gate.

    Arguments:
        places: Where they are counted; this worker's own if none are given.
        on_waiting: Called when somebody waits and nobody did: places that another worker gives up
            are only found by :meth:`look`.
    """

    __slots__ = ("_on_waiting", "_places", "_waiting")

    def __init__(
        self,
        places: Places | None = None,
        on_waiting: Callable[["Gate"], None] | None = None,
    ) -> None:
        self._places = places if places is not None else OwnPlaces()
        self._on_waiting = on_waiting
        self._waiting: deque[_Waiting] = deque()

    @property
    def active(self) -> int:
        """How many are inside, from all workers."""
        return self._places.total

    def try_enter(self, limit: int) -> bool:
        """Enter if there is room.

        Arguments:
            limit: How many may be inside then.

        Returns:
            Whether it did; then :meth:`leave` is owed.
        """
        return self._places.take(limit)

    def leave(self) -> None:
        """Leave, and let the one who waited longest try again."""
        self._places.give()
        if self._waiting:
            self._waiting.popleft().retry()

    def wait(self, retry: Callable[[], None], limit: int) -> bool:
        """Be called back when there may be room.

        Arguments:
            limit: That of :meth:`try_enter`, which refused.

        Returns:
            False if as many are waiting already as may be inside: then nobody calls.
        """
        if len(self._waiting) >= limit:
            return False
        self._waiting.append(_Waiting(retry, limit))
        if len(self._waiting) == 1 and self._on_waiting is not None:
            self._on_waiting(self)
        return True

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
        for _ in range(len(self._waiting)):
            if not self._waiting or self._places.total >= self._waiting[0].limit:
                break
            self._waiting.popleft().retry()
        return bool(self._waiting)
