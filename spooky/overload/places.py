"""Places under a limit: shared by all workers of the machine, or counted by one alone."""

from spooky._core.balance import hash_key
from spooky._core.gate import Places
from spooky._core.shared import Limit, Segment, Words
from spooky.observe.counters import Counters


def shared_places(counters: Counters, *identity: str) -> Places:
    """Return the places of a limit that all workers share.

    Arguments:
        counters: The worker's, which lie in the shared segment.
        identity: What the limit is of; the same in every worker.

    Returns:
        Places of this worker alone if more limits are shared already than the segment has room for.
    """
    return Places(shared_limit(counters, *identity))


def shared_limit(counters: Counters, *identity: str) -> Limit | None:
    """Return a worker's view of a limit that all share; ``None`` if there is no room."""
    return counters.segment.limit(_key(identity), counters.worker)


def shared_words(segment: Segment, *identity: str) -> Words | None:
    """Return the words of a limit's entry; the first is how many places are taken.

    The others are for what is known of whatever the limit is of. ``None`` if there is no room.
    """
    return segment.words(_key(identity))


def shared_total(segment: Segment, *identity: str) -> int:
    """Return how many places of a limit are taken, by all workers that share it."""
    return segment.total(_key(identity))


def _key(identity: tuple[str, ...]) -> int:
    return hash_key("\0".join(("limit", *identity)).encode())
