"""Sets of numbers that come in long runs: packet numbers, offsets of a stream.

The ranges stand in the middle of one block, so that adding at either end, as arriving packets and
the descending ranges of an ACK frame do, moves nothing.
"""

class RangeSet:
    """A set of numbers below 2**64 - 1, kept as sorted ranges.

    Adding at either end takes constant time, adding elsewhere moves the ranges on the shorter
    side. Memory is proportional to the number of ranges, which the caller bounds.

    Attributes:
        count: The number of ranges.
    """

    @property
    def count(self) -> int: ...
    def ranges(self) -> list[tuple[int, int]]:
        """Return the ranges in ascending order, each with its exclusive end."""

    def add(self, start: int, stop: int) -> bool:
        """Add ``start`` up to and without ``stop``; return whether any of it is new."""

    def contains(self, value: int) -> bool:
        """Return whether a number is in the set."""

    def remove(self, start: int, stop: int) -> int:
        """Remove ``start`` up to and without ``stop``; always returns 0."""

    def remove_below(self, value: int) -> None:
        """Remove every number lower than ``value``."""

    def keep_newest(self, most: int) -> None:
        """Remove the lowest ranges until at most ``most`` are left."""

    def clear(self) -> None:
        """Remove everything, and give the memory back."""
