"""The segment that all workers share: generation, heartbeats, counters, and exact limits."""

from collections.abc import Mapping
from mmap import mmap
from typing import Final

VERSION: Final[int]
"""Version of the layout; a segment of another version is refused."""

SLOTS_MAX: Final[int]
"""Most worker slots; a connection ID has one byte for them."""

VALUES_MAX: Final[int]
"""Values of one slot."""

NAMES_MAX_BYTES: Final[int]
"""Room for the names of one slot's values; bytes."""

DECISIONS_MAX_BYTES: Final[int]
"""Room for one slot's recent decisions; bytes."""

LIMITS_MAX: Final[int]
"""Limits and rates that can be shared, and groups of words."""

WORDS: Final[int]
"""Words of one group."""

SOURCES_MAX: Final[int]
"""Sources whose rates are remembered; of each set of four the one unseen longest is replaced."""

STRIKES_MAX: Final[int]
"""Keys that are known to be struck out, in sets of eight."""

LATENCY_BOUNDS: Final[tuple[float, ...]]
"""Upper bounds of a histogram's buckets, seconds; one more bucket takes what is above them."""

BUCKET_VALUES: Final[int]
"""How many buckets that is; they are a histogram's first values."""

SUM_AT: Final[int]
"""Which of a histogram's values is the sum; microseconds."""

ZERO_AT: Final[int]
"""Which counts durations up to :data:`ZERO_THRESHOLD`, apart from the classic buckets."""

NATIVE_AT: Final[int]
"""Which is the first of the native buckets, which grow by a power of two."""

NATIVE_SCHEMA: Final[int]
"""As Prometheus has it: bucket n takes what is above ``2**((n-1)/4)`` s, up to ``2**(n/4)`` s."""

NATIVE_FIRST: Final[int]
"""The number of the first native bucket."""

NATIVE_BUCKETS: Final[int]
"""How many there are; the last takes what is above it too."""

ZERO_THRESHOLD: Final[float]
"""Where the native buckets begin; seconds."""

HISTOGRAM_VALUES: Final[int]
"""Values a histogram takes in all."""

def segment_size(slots: int) -> int:
    """Return how large a segment for so many slots is; bytes."""

class Segment:
    """A mapped segment. Every word has one writer or is changed atomically.

    Arguments:
        buffer: Writable memory of at least :func:`segment_size` bytes, zeroed before ``slots``
            formats it.
        slots: Formats the buffer for so many worker slots; 0 takes a formatted one as it is.

    Attributes:
        slots: How many worker slots it has.

    Raises:
        ValueError: The buffer is too small, or holds no segment of this version.
    """

    slots: int

    def __init__(self, buffer: mmap | bytearray, slots: int = 0) -> None: ...
    @property
    def generation(self) -> int:
        """Number of the generation in force."""

    def commit(self, generation: int) -> None:
        """Put a generation in force, in all workers at once."""

    @property
    def health_version(self) -> int:
        """Another number whenever the health of a backend changed."""

    def note_health(self) -> None:
        """Say that the health of a backend changed."""

    def beat(self, slot: int, now: int) -> None:
        """Say that a slot's worker is alive; milliseconds on the monotonic clock."""

    def last_beat(self, slot: int) -> int:
        """Return when a slot's worker last said so; 0 if it never did."""

    def values(self, slot: int) -> memoryview[int]:
        """Return a slot's values, for its one writer to change."""

    def load(self, slot: int, position: int) -> int:
        """Read one of a slot's values.

        Raises:
            IndexError: There is no such value.
        """

    def names(self, slot: int) -> bytes:
        """Return the names that a slot's worker added, one after the other."""

    def names_version(self, slot: int) -> int:
        """Return how often a slot's names were written anew.

        Who reads names and then values looks at it before and after: between the two another name
        may have got a value.
        """

    def add_name(self, slot: int, name: bytes) -> bool:
        """Add a name to a slot's; only its worker may.

        Returns:
            Whether there was room.
        """

    def write_names(self, slot: int, names: bytes) -> None:
        """Replace a slot's names; only its worker may.

        Raises:
            ValueError: They do not fit.
        """

    def decisions(self, slot: int) -> memoryview[int]:
        """Return the memory of a slot's ring of decisions, for its one writer to change."""

    def histogram(self, slot: int, position: int) -> Histogram:
        """Return a writer for the histogram whose first value has this position.

        Raises:
            IndexError: It would not fit.
        """

    def limit(self, key: int, slot: int) -> Limit | None:
        """Return a slot's view of a limit, which is the same for all who use this key.

        It is forgotten with the last view of it, once no place is taken.

        Arguments:
            key: A hash of the limit's identity, 64 bits.

        Returns:
            ``None`` if there are too many limits already.
        """

    def words(self, key: int) -> Words | None:
        """Return :data:`WORDS` words that all who use this key share, of 0 at first.

        They are forgotten with the last view of them, in whichever process.

        Arguments:
            key: A hash of what they are about, 64 bits.

        Returns:
            ``None`` if there are too many limits and words already.
        """

    def take_rate(self, key: int, now: int, interval: int, burst: int) -> bool:
        """Take a token of a bucket that all who use this key share, which is there for good.

        Arguments:
            now: Nanoseconds on the monotonic clock.
            interval: Time in which one token comes; nanoseconds.
            burst: Most tokens saved up; what there is at first.

        Returns:
            Whether there was one; always if there are too many rates already.
        """

    def take_source_rate(self, key: int, now: int, interval: int, burst: int) -> bool:
        """Take a token of a source's bucket; like :meth:`take_rate`, but old sources are forgotten.

        Two workers that replace one source at the same instant may give a token too many.
        """

    def is_source_out(self, key: int, now: int, interval: int, burst: int) -> bool:
        """Return whether a source's bucket has no token; one that is not known has some."""

    @property
    def register_id(self) -> int:
        """A random number: which strike register this is, of all that ever were."""

    def strike(self, key: int, now: int, keep: int) -> bool:
        """Strike out a key, which nobody who uses this segment can do again.

        It is remembered for at least ``keep``, and after that as long as there is room.

        Arguments:
            key: 64 random bits.
            now: Seconds, on the same clock for all.
            keep: Seconds, less than 90 days.

        Returns:
            Whether this is the first time. ``False`` too if there is no room to remember it, and
            perhaps for both of two workers that strike out one key at the same instant.
        """

    def reclaim(self, slot: int) -> None:
        """Give back what a dead worker holds of every limit.

        A worker killed between the two writes of one take or give leaves a place lost, never one
        too many.
        """

    def use_slot(self, slot: int) -> None:
        """Count the views that this process makes from now on for the worker of a slot.

        Then what is left of them when it dies is known, and given up in its place.
        """

    def references(self, slot: int) -> dict[int, int]:
        """Return how many views of each entry a slot's worker has, or a dead one had."""

    def give_up(self, slot: int, references: Mapping[int, int]) -> None:
        """Give up views of a slot's worker that is gone; once.

        Arguments:
            references: What :meth:`references` gave.

        Raises:
            IndexError: There is no such entry.
        """

    @property
    def entries(self) -> int:
        """How many entries are taken, of :data:`LIMITS_MAX`."""

    def total(self, key: int) -> int:
        """Return how many places of a limit are taken; 0 if nobody has a view of it."""

class Limit:
    """One slot's view of a limit on what there may be at once, machine-wide."""

    @property
    def total(self) -> int:
        """How many places are taken, by all slots."""

    @property
    def share(self) -> int:
        """How many of them by this slot."""

    def taken(self) -> int:
        """Return what :attr:`total` is."""

    def take(self, maximum: int, count: int = 1) -> bool:
        """Take places, all or none, if not more than ``maximum`` are taken then."""

    def give(self, count: int = 1) -> None:
        """Give some of this slot's places back.

        Raises:
            ValueError: It has fewer.
        """

class Words:
    """Words that all workers share; made by :meth:`Segment.words`.

    Raises:
        IndexError: By every method, for a word that does not exist.
    """

    def load(self, position: int) -> int:
        """Read a word."""

    def store(self, position: int, value: int) -> None:
        """Write a word."""

    def add(self, position: int, count: int = 1) -> int:
        """Add to a word; return what it is then."""

    def swap(self, position: int, expected: int, value: int) -> bool:
        """Write a word if it is what it is expected to be; return whether it was."""

class Histogram:
    """One slot's histogram of durations; made by :meth:`Segment.histogram`."""

    def observe(self, seconds: float) -> None:
        """Count a duration; a negative one counts as 0."""
