"""How much a peer may send: receive windows that follow consumption and tune themselves.

A window is what may be outstanding, so the limit announced is what was consumed plus the window.
It starts small and doubles while the application keeps up with the path: when a window's worth is
consumed within about two round trips, it is the window that limits the transfer.
"""

from typing import Final

STREAM_WINDOW: Final = 256 * 1024
"""Window a stream starts with; bytes. What one stalled request costs."""

STREAM_WINDOW_MAX: Final = 6 * 1024 * 1024
"""Most one stream may have outstanding; bytes. 480 Mbit/s at a round trip of 100 ms."""

CONNECTION_WINDOW: Final = 1024 * 1024
"""Window a connection starts with; bytes. Four streams may stall before the others wait."""

CONNECTION_WINDOW_MAX: Final = 15 * 1024 * 1024
"""Most one connection may have outstanding; bytes. Two streams at their most, and some room."""

ANNOUNCE_FRACTION: Final = 4
"""A new limit is announced when this part of the window was consumed: often enough that the peer
is not held up, seldom enough that the frames cost nothing."""

MEASURE_FRACTION: Final = 2
"""Consumption is measured over at least this part of a window, lest one burst decide."""

TUNE_ROUND_TRIPS: Final = 2.0
"""A window consumed faster than in this many round trips is too small for the path."""


class WindowAccount:
    """The bytes by which the windows of all connections of a worker may exceed their start.

    When they are spent, windows stay as they are; no data and no connection is refused for it.

    Attributes:
        limit: Most that may be spent; bytes.
        spent: What is spent now; bytes.
    """

    __slots__ = ("limit", "spent")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0

    def grow(self, count: int) -> bool:
        """Spend ``count`` bytes if there are as many left, and say whether there were."""
        if self.spent + count > self.limit:
            return False
        self.spent += count
        return True

    def give_back(self, count: int) -> None:
        """Return bytes spent before."""
        self.spent -= count


class ReceiveWindow:
    """The window of a stream or connection.

    Attributes:
        size: The window now; bytes.
        maximum: What it may grow to; bytes.
        consumed: All that was consumed so far; bytes.
        announce_at: What must be consumed to make a new limit worth announcing; bytes.
    """

    __slots__ = ("_measured_from", "_measured_since", "announce_at", "consumed", "maximum", "size")

    def __init__(self, size: int, maximum: int) -> None:
        self.size = size
        self.maximum = max(size, maximum)
        self.consumed = 0
        self.announce_at = size // ANNOUNCE_FRACTION
        self._measured_from = 0
        self._measured_since: float | None = None

    def announce(self) -> int:
        """Return the highest offset the peer may send up to, which is being announced."""
        self.announce_at = self.consumed + self.size // ANNOUNCE_FRACTION
        return self.consumed + self.size

    def wanted_size(self, now: float, round_trip: float) -> int:
        """Return the size the window should have, from how fast it was consumed lately.

        Args:
            now: Seconds.
            round_trip: Smoothed round-trip time; seconds.
        """
        since, count = self._measured_since, self.consumed - self._measured_from
        if since is not None and count < self.size // MEASURE_FRACTION:
            return self.size
        self._measured_since, self._measured_from = now, self.consumed
        if since is None or self.size >= self.maximum:
            return self.size
        fast = (now - since) * self.size < TUNE_ROUND_TRIPS * round_trip * count
        return min(2 * self.size, self.maximum) if fast else self.size
