"""How many requests may be sent to backends once more: a share of those that came recently."""

from typing import Final

from spooky._core.accounts import Lots
from spooky._core.shared import Words
from spooky.observe.counters import Counters
from spooky.observe.segment import private_segment
from spooky.overload.places import shared_words

BUCKETS: Final = 3
"""A window is counted in so many parts, the last of which is still filling."""

FLUSH_REQUESTS: Final = 16
"""A worker tells the others of so many requests at once, as a shared word for each costs more."""

_REQUESTS_AT: Final = 0
_RETRIES_AT: Final = BUCKETS

# A word is the number of a part of time, and what was counted in it.
_COUNT_BITS: Final = 32
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1
_PART_MASK: Final = (1 << (64 - _COUNT_BITS)) - 1


class WindowCounts:
    """Requests and retries of the last seconds, counted by all workers together.

    Arguments:
        words: Where they are counted.
        window: How far back; seconds.
    """

    __slots__ = ("_part", "_words")

    def __init__(self, words: Words, window: float) -> None:
        self._words = words
        self._part = window / BUCKETS

    def add_requests(self, count: int, now: float) -> None:
        """Count requests."""
        part = self._number(now)
        position = _REQUESTS_AT + part % BUCKETS
        while not self._add(position, part, count):
            pass  # Another worker was faster; its change is counted on.

    def requests(self, now: float) -> int:
        """Return how many requests were counted in the window."""
        return self._sum(_REQUESTS_AT, self._number(now))

    def retries(self, now: float) -> int:
        """Return how many retries were counted in the window."""
        return self._sum(_RETRIES_AT, self._number(now))

    def take_retry(self, limit: int, now: float) -> bool:
        """Count a retry if not more than ``limit`` are in the window then.

        Returns:
            Whether it was counted.
        """
        part = self._number(now)
        position = _RETRIES_AT + part % BUCKETS
        while self._sum(_RETRIES_AT, part) < limit:
            if self._add(position, part, 1):
                return True
        return False

    def give_retry(self, now: float) -> None:
        """Take back that a retry was counted; the newest that the window has."""
        part = self._number(now)
        for age in range(BUCKETS):
            position = _RETRIES_AT + (part - age) % BUCKETS
            while True:
                word = self._words.load(position)
                if word >> _COUNT_BITS != part - age or word & _COUNT_MASK == 0:
                    break
                if self._words.swap(position, word, word - 1):
                    return

    def _number(self, now: float) -> int:
        """Return which part of time this is; never 0, which is what an unused word is of."""
        return (int(now / self._part) + 1) & _PART_MASK

    def _add(self, position: int, part: int, count: int) -> bool:
        """Add to the count of a part unless another worker changes it at the same time."""
        word = self._words.load(position)
        so_far = word & _COUNT_MASK if word >> _COUNT_BITS == part else 0
        counted = min(so_far + count, _COUNT_MASK)
        return self._words.swap(position, word, part << _COUNT_BITS | counted)

    def _sum(self, first: int, part: int) -> int:
        """Return what was counted in this part of time and those before it in the window."""
        total = 0
        for position in range(first, first + BUCKETS):
            word = self._words.load(position)
            if 0 <= part - (word >> _COUNT_BITS) < BUCKETS:
                total += word & _COUNT_MASK
        return total


class RetryBudget(Lots):
    """What an upstream may spend on retries and hedges: a share of its recent requests.

    Arguments:
        counts: Of the upstream.
        ratio_percent: The share.
        floor: So many in each window are allowed whatever came.
    """

    # Each request that is counted earns its share of a retry.
    __slots__ = ("_counts", "_floor", "_ratio_percent")

    def __init__(self, counts: WindowCounts, ratio_percent: int, floor: int) -> None:
        super().__init__(FLUSH_REQUESTS)
        self._counts = counts
        self._ratio_percent = ratio_percent
        self._floor = floor

    def limit(self, now: float) -> int:
        """Return how many retries there may be in this window."""
        self._tell(now)
        return max(self._floor, self._counts.requests(now) * self._ratio_percent // 100)

    def spend(self, now: float) -> bool:
        """Take a retry if there is one left.

        Returns:
            Whether there was.
        """
        return self._counts.take_retry(self.limit(now), now)

    def give_back(self, now: float) -> None:
        """Take back that a retry was spent: no backend was sent anything."""
        self._counts.give_retry(now)

    def _tell(self, now: float) -> None:
        if self.untold:
            self._counts.add_requests(self.untold, now)
            self.untold = 0


def shared_counts(counters: Counters, upstream: str, window: float) -> WindowCounts:
    """Return the counts of an upstream that all workers share.

    Where the segment has no room for them, they are this worker's alone.
    """
    words = shared_words(counters.segment, "retries", upstream)
    if words is None:
        words = _own_words()
    return WindowCounts(words, window)


def _own_words() -> Words:
    """Return words that no other worker has."""
    words = private_segment().words(1)
    assert words is not None
    return words
