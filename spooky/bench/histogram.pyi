"""A latency histogram in constant memory: log-linear buckets, as HdrHistogram has them.

Values are whole microseconds up to 19 hours; larger ones count as that. Below 512 they are exact,
above to 0.4 %.
"""

from collections.abc import Iterable

class Histogram:
    """Counts of values.

    Attributes:
        count: How many were recorded.
        total: Their sum.
        maximum: The largest of them, exactly; 0 if there are none.
    """

    count: int
    total: int
    maximum: int
    def record(self, value: int) -> None:
        """Count a value."""

    def add(self, other: Histogram) -> None:
        """Count all that another counted."""

    def percentile(self, share: float) -> int:
        """Return the value that this share of all values does not exceed; 0 if there are none.

        Arguments:
            share: From 0 to 1; 0.99 for the 99th percentile.

        Raises:
            ValueError: The share is out of range.
        """

    @property
    def mean(self) -> float: ...
    def buckets(self) -> list[tuple[int, int]]:
        """Return the highest value and the count of every bucket that is not empty, ascending.

        In the last one that is the maximum.
        """

    @staticmethod
    def of_buckets(buckets: Iterable[tuple[int, int]]) -> Histogram:
        """Return a histogram from what :meth:`buckets` gave; its sum is good to a bucket."""
