"""Ranges of out-of-order data, bounded in number (attack 11, and 12 for CRYPTO frames).

Flow control bounds the bytes a peer can make us hold, not the pieces they come in. aioquic keeps
ranges in a list it scans from the start, so a peer that sends single bytes far apart makes every
further one cost more.
"""

from bisect import bisect_left, bisect_right
from typing import Any

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.rangeset import RangeSet


class GapBudget:
    """The ranges of a connection that wait for their turn.

    Attributes:
        limit: Most there may be.
        count: How many there are.
    """

    __slots__ = ("count", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0

    def take(self, count: int) -> None:
        """Count ranges more, or less if negative.

        Raises:
            QuicConnectionError: There are too many.
        """
        self.count += count
        if self.count > self.limit:
            raise QuicConnectionError(
                error_code=QuicErrorCode.PROTOCOL_VIOLATION,
                frame_type=QuicFrameType.PADDING,
                reason_phrase="too many gaps in received data",
            )


class WaitingRanges(RangeSet):
    """The ranges a stream received ahead of their turn: what its receiver asks of a ``RangeSet``.

    Finding a place costs the logarithm of the number of ranges.
    """

    def __init__(self, budget: GapBudget) -> None:
        # The list of RangeSet is not used, so it is not made.
        self._budget = budget
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, key: Any) -> range:
        return range(self._starts[key], self._stops[key])

    def add(self, start: int, stop: int | None = None) -> None:
        """Add a range, merged with those it touches; of one byte, if ``stop`` is not given.

        Raises:
            QuicConnectionError: The connection has too many ranges now.
        """
        if stop is None:
            stop = start + 1
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        self._budget.take(1 - (last - first))

    def shift(self) -> range:
        """Remove the first range and return it."""
        first = range(self._starts.pop(0), self._stops.pop(0))
        self._budget.take(-1)
        return first

    def clear(self) -> None:
        """Remove all ranges."""
        self._budget.take(-len(self._starts))
        self._starts.clear()
        self._stops.clear()
