"""A limit on how many exchanges are in flight, with a short queue for those who may wait."""

from collections import deque
from collections.abc import Callable


class Gate:
    """Counts what is inside, and refuses what would exceed the limit.

    Arguments:
        limit: How many may be inside; may be changed at any time.
    """

    __slots__ = ("_waiting", "active", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.active = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def try_enter(self) -> bool:
        """Enter if there is room.

        Returns:
            Whether it did; then :meth:`leave` is owed.
        """
        if self.active >= self.limit:
            return False
        self.active += 1
        return True

    def leave(self) -> None:
        """Leave, and let the one who waited longest try again."""
        self.active -= 1
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
        return True

    def stop_waiting(self, retry: Callable[[], None]) -> None:
        """Forget a callback of :meth:`wait`, whether it is still queued or not."""
        if retry in self._waiting:
            self._waiting.remove(retry)
