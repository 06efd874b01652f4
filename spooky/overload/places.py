"""Places under a limit: shared by all workers of the machine, or counted by one alone."""

from typing import Protocol

from spooky._core.balance import hash_key
from spooky._core.shared import Segment
from spooky.observe.counters import Counters


class Places(Protocol):
    """How many places of a limit are taken."""

    @property
    def total(self) -> int:
        """How many, by all workers."""

    @property
    def share(self) -> int:
        """How many of them by this worker."""

    def take(self, maximum: int, count: int = 1) -> bool:
        """Take places, all or none, if not more than ``maximum`` are taken then."""

    def give(self, count: int = 1) -> None:
        """Give some of this worker's places back."""


class OwnPlaces:
    """The places of one worker that shares none."""

    __slots__ = ("share",)

    def __init__(self) -> None:
        self.share = 0

    @property
    def total(self) -> int:
        """How many are taken."""
        return self.share

    def take(self, maximum: int, count: int = 1) -> bool:
        """Take places, all or none, if not more than ``maximum`` are taken then."""
        if self.share + count > maximum:
            return False
        self.share += count
        return True

    def give(self, count: int = 1) -> None:
        """Give some places back."""
        self.share -= count


def shared_places(counters: Counters, *identity: str) -> Places:
    """Return the places of a limit that all workers share.

    Arguments:
        counters: The worker's, which lie in the shared segment.
        identity: What the limit is of; the same in every worker.

    Returns:
        Places of this worker alone if more limits are shared already than the segment has room for.
    """
    return counters.segment.limit(_key(identity), counters.worker) or OwnPlaces()


def shared_total(segment: Segment, *identity: str) -> int:
    """Return how many places of a limit are taken, by all workers that share it."""
    limit = segment.limit(_key(identity), 0)
    return limit.total if limit is not None else 0


def _key(identity: tuple[str, ...]) -> int:
    return hash_key("\0".join(("limit", *identity)).encode())
