"""A limit on how many exchanges are in flight, with a short queue for those who may wait."""

from collections import deque
from collections.abc import Callable

from spooky.overload.places import OwnPlaces, Places


class Gate:
    """Counts what is inside, and refuses what would exceed the limit.

    Arguments:
        limit: How many may be inside; may be changed at any time.
        places: Where they are counted; this worker's own if none are given.
        on_waiting: Called when somebody waits and nobody did: places that another worker gives up
            are only found by :meth:`look`.
    """

    __slots__ = ("_on_waiting", "_places", "_waiting", "limit")

    def __init__(
        self,
        limit: int,
        places: Places | None = None,
        on_waiting: Callable[["Gate"], None] | None = None,
    ) -> None:
        self.limit = limit
        self._places = places if places is not None else OwnPlaces()
        self._on_waiting = on_waiting
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def active(self) -> int:
        """How many are inside, from all workers."""
        return self._places.total

    def try_enter(self) -> bool:
        """Enter if there is room.

        Returns:
            Whether it did; then :meth:`leave` is owed.
        """
        return self._places.take(self.limit)

    def leave(self) -> None:
        """Leave, and let the one who waited longest try again."""
        self._places.give()
        if self._waiting:
            self._waiting.popleft()()

    def wait(self, retry: Callable[[], None]) -> bool:
        """Be called back when there may be room.

        Returns:
            False if as many are waiting already as may be inside: then nobody calls.
        """
        if len(self._waiting) >= self.limit:
            return False
        self._waiting.append(retry)
        if len(self._waiting) == 1 and self._on_waiting is not None:
            self._on_waiting(self)
        return True

    def stop_waiting(self, retry: Callable[[], None]) -> None:
        """Forget a callback of :meth:`wait`, whether it is still queued or not."""
        if retry in self._waiting:
            self._waiting.remove(retry)

    def look(self) -> bool:
        """Let as many try again as there is room for.

        Returns:
            Whether anybody still waits.
        """
        room = max(0, self.limit - self._places.total)
        for _ in range(min(room, len(self._waiting))):
            self._waiting.popleft()()
        return bool(self._waiting)
