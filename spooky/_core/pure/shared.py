"""The segment that all workers share: the twin, for one worker process.

Plain Python cannot change a word that others change too, so more than one worker needs the compiled
kernel. The layout is the same, and whoever only reads may be another process.
"""

import math
import secrets
from collections.abc import Mapping
from mmap import mmap
from typing import Final

VERSION: Final = 7
SLOTS_MAX: Final = 256
VALUES_MAX: Final = 262_144
NAMES_MAX_BYTES: Final = 4_194_304
DECISIONS_MAX_BYTES: Final = 16_777_216
LIMITS_MAX: Final = 16_384
WORDS: Final = 7
SOURCE_WAYS: Final = 4
SOURCE_SETS: Final = 1_024
SOURCES_MAX: Final = SOURCE_SETS * SOURCE_WAYS
STRIKE_WAYS: Final = 8
STRIKE_SETS: Final = 16_384
STRIKES_MAX: Final = STRIKE_SETS * STRIKE_WAYS
STAMP_BITS: Final = 24
STAMP_MASK: Final = (1 << STAMP_BITS) - 1
LATENCY_BOUNDS: Final = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
)  # fmt: skip
BUCKETS: Final = len(LATENCY_BOUNDS)
BUCKET_VALUES: Final = BUCKETS + 1
SUM_AT: Final = BUCKET_VALUES
ZERO_AT: Final = SUM_AT + 1
NATIVE_AT: Final = ZERO_AT + 1
NATIVE_SCHEMA: Final = 2
NATIVE_FIRST: Final = -51
NATIVE_BUCKETS: Final = 100
ZERO_THRESHOLD: Final = 2.0**-13
HISTOGRAM_VALUES: Final = NATIVE_AT + NATIVE_BUCKETS

# Beyond the last bucket, which takes it all the same.
_SECONDS_MAX: Final = 1e12

MAGIC: Final = 0x73706F6F6B792E31
WORD: Final = 8
LINE: Final = 8
IS_LIMIT: Final = 1 << 63
FREED: Final = 2
LENGTH_BITS: Final = 32
LENGTH_MASK: Final = (1 << LENGTH_BITS) - 1
AT_MAGIC: Final = 0
AT_VERSION: Final = 1
AT_SLOTS: Final = 2
AT_REGISTER: Final = 3
AT_GENERATION: Final = 8
AT_HEALTH: Final = 9
# The compiled kernel has a lock at word 16; one process needs none.
ENTRY_BASE: Final = 24
REFERENCE_BASE: Final = ENTRY_BASE + LIMITS_MAX * LINE
SOURCE_BASE: Final = REFERENCE_BASE + LIMITS_MAX
STRIKE_BASE: Final = SOURCE_BASE + SOURCES_MAX * 2
SLOT_BASE: Final = STRIKE_BASE + STRIKES_MAX
SHARES_AT: Final = 16
REFERENCES_AT: Final = SHARES_AT + LIMITS_MAX
VALUES_AT: Final = REFERENCES_AT + LIMITS_MAX
NAMES_AT: Final = VALUES_AT + VALUES_MAX
DECISIONS_AT: Final = NAMES_AT + 2 * NAMES_MAX_BYTES // WORD
SLOT_WORDS: Final = DECISIONS_AT + DECISIONS_MAX_BYTES // WORD


def segment_size(slots: int) -> int:
    """Return how large a segment for so many slots is; bytes."""
    return (SLOT_BASE + slots * SLOT_WORDS) * WORD


class Segment:
    """A mapped segment. Every word has one writer or is changed atomically."""

    def __init__(self, buffer: mmap | bytearray, slots: int = 0) -> None:
        if not 0 <= slots <= SLOTS_MAX:
            raise ValueError(f"a segment has 1 to {SLOTS_MAX} slots")
        self._bytes = memoryview(buffer).cast("B")
        if self._bytes.readonly:
            raise BufferError("the segment has to be writable")
        if len(self._bytes) < segment_size(max(1, slots)):
            raise ValueError("the buffer is too small for the segment")
        words = self._words = self._bytes[: len(self._bytes) // WORD * WORD].cast("Q")
        if slots:
            words[AT_VERSION] = VERSION
            words[AT_SLOTS] = slots
            words[AT_REGISTER] = secrets.randbits(64)
            words[AT_MAGIC] = MAGIC
        if words[AT_MAGIC] != MAGIC or words[AT_VERSION] != VERSION:
            raise ValueError(f"this is no segment of version {VERSION}")
        self.slots = words[AT_SLOTS]
        self._owner = -1
        if not 1 <= self.slots <= SLOTS_MAX or len(self._bytes) < segment_size(self.slots):
            raise ValueError("the buffer is too small for the segment")

    @property
    def generation(self) -> int:
        return self._words[AT_GENERATION]

    def commit(self, generation: int) -> None:
        """Put a generation in force, in all workers at once."""
        self._words[AT_GENERATION] = generation

    @property
    def health_version(self) -> int:
        return self._words[AT_HEALTH]

    def note_health(self) -> None:
        """Say that the health of a backend changed."""
        self._words[AT_HEALTH] += 1

    def beat(self, slot: int, now: int) -> None:
        """Say that a slot's worker is alive; milliseconds on the monotonic clock."""
        self._words[self._slot(slot)] = now

    def last_beat(self, slot: int) -> int:
        """Return when a slot's worker last said so; 0 if it never did."""
        return self._words[self._slot(slot)]

    def values(self, slot: int) -> "memoryview[int]":
        """Return a slot's values, for its one writer to change."""
        start = self._slot(slot) + VALUES_AT
        return self._words[start : start + VALUES_MAX]

    def load(self, slot: int, position: int) -> int:
        """Read one of a slot's values."""
        if not 0 <= position < VALUES_MAX:
            raise IndexError("a slot has no such value")
        return self._words[self._slot(slot) + VALUES_AT + position]

    def names(self, slot: int) -> bytes:
        """Return the names that a slot's worker added, one after the other."""
        at, length = self._names(slot)
        return bytes(self._bytes[at : at + length])

    def names_version(self, slot: int) -> int:
        """Return how often a slot's names were written anew."""
        return self._words[self._slot(slot) + LINE] >> LENGTH_BITS

    def add_name(self, slot: int, name: bytes) -> bool:
        """Add a name to a slot's; only its worker may."""
        at, length = self._names(slot)
        if len(name) > NAMES_MAX_BYTES - length:
            return False
        self._bytes[at + length : at + length + len(name)] = name
        version = self.names_version(slot)
        self._words[self._slot(slot) + LINE] = version << LENGTH_BITS | length + len(name)
        return True

    def write_names(self, slot: int, names: bytes) -> None:
        """Replace a slot's names; only its worker may."""
        if len(names) > NAMES_MAX_BYTES:
            raise ValueError("the names do not fit")
        version = self.names_version(slot) + 1
        at = (self._slot(slot) + NAMES_AT) * WORD + version % 2 * NAMES_MAX_BYTES
        self._bytes[at : at + len(names)] = names
        self._words[self._slot(slot) + LINE] = version << LENGTH_BITS | len(names)

    def decisions(self, slot: int) -> "memoryview[int]":
        """Return the memory of a slot's ring of decisions."""
        at = (self._slot(slot) + DECISIONS_AT) * WORD
        return self._bytes[at : at + DECISIONS_MAX_BYTES]

    def histogram(self, slot: int, position: int) -> "Histogram":
        """Return a writer for the histogram whose first value has this position."""
        if not 0 <= position <= VALUES_MAX - HISTOGRAM_VALUES:
            raise IndexError("the histogram does not fit")
        start = self._slot(slot) + VALUES_AT + position
        return Histogram(self._words[start : start + HISTOGRAM_VALUES])

    def limit(self, key: int, slot: int) -> "Limit | None":
        """Return a slot's view of a limit, which is the same for all who use this key."""
        start = self._slot(slot)
        entry = self._acquire(key, IS_LIMIT, self._owner)
        if entry is None:
            return None
        return Limit(self, entry, start + SHARES_AT + entry)

    def words(self, key: int) -> "Words | None":
        """Return words that all who use this key share, of 0 at first."""
        entry = self._acquire(key, 0, self._owner)
        return None if entry is None else Words(self, entry)

    def take_rate(self, key: int, now: int, interval: int, burst: int) -> bool:
        """Take a token of a bucket that all who use this key share."""
        entry = self._find(key)
        if entry is None:
            # Kept for good: nobody has a view of it.
            entry = self._acquire(key, 0, -1)
        if entry is None:
            return True
        return self._take_token(ENTRY_BASE + entry * LINE + 1, now, interval, burst)

    def take_source_rate(self, key: int, now: int, interval: int, burst: int) -> bool:
        """Take a token of a source's bucket; like take_rate, but old sources are forgotten."""
        key |= 1
        first = SOURCE_BASE + (key >> 1) % SOURCE_SETS * SOURCE_WAYS * 2
        ways = range(first, first + SOURCE_WAYS * 2, 2)
        for way in ways:
            if self._words[way] == key:
                return self._take_token(way + 1, now, interval, burst)
        oldest = min(ways, key=lambda way: self._words[way + 1])
        self._words[oldest] = key
        self._words[oldest + 1] = 0
        return self._take_token(oldest + 1, now, interval, burst)

    def is_source_out(self, key: int, now: int, interval: int, burst: int) -> bool:
        """Return whether a source's bucket has no token; one that is not known has some."""
        key |= 1
        first = SOURCE_BASE + (key >> 1) % SOURCE_SETS * SOURCE_WAYS * 2
        for way in range(first, first + SOURCE_WAYS * 2, 2):
            if self._words[way] == key:
                return _is_out(self._words[way + 1], now, interval, burst)
        return burst == 0

    @property
    def register_id(self) -> int:
        return self._words[AT_REGISTER]

    def strike(self, key: int, now: int, keep: int) -> bool:
        """Strike out a key; False if that was done before, or cannot be remembered."""
        first = STRIKE_BASE + key % STRIKE_SETS * STRIKE_WAYS
        # 0 means free, so the key's part is never 0.
        mark = key >> STAMP_BITS | 1
        victim, greatest = -1, 0
        for at in range(first, first + STRIKE_WAYS):
            entry = self._words[at]
            if entry >> STAMP_BITS == mark:
                return False
            age = (now - entry) & STAMP_MASK if entry else STAMP_MASK
            # An entry that seems to be from the future is new: clocks are set back.
            if (not entry or keep < age < STAMP_MASK // 2) and age > greatest:
                victim, greatest = at, age
        if victim < 0:
            return False
        self._words[victim] = mark << STAMP_BITS | (now & STAMP_MASK)
        return True

    def reclaim(self, slot: int) -> None:
        """Give back what a dead worker holds of every limit."""
        shares = self._slot(slot) + SHARES_AT
        for entry in range(LIMITS_MAX):
            if share := self._words[shares + entry]:
                self._words[shares + entry] = 0
                self._words[ENTRY_BASE + entry * LINE + 1] -= share
                self._free_unused(entry)

    def use_slot(self, slot: int) -> None:
        """Count the views that this process makes from now on for the worker of a slot."""
        self._slot(slot)
        self._owner = slot

    def references(self, slot: int) -> dict[int, int]:
        """Return how many views of each entry a slot's worker has, or a dead one had."""
        start = self._slot(slot) + REFERENCES_AT
        counts = self._words[start : start + LIMITS_MAX]
        return {entry: count for entry, count in enumerate(counts) if count}

    def give_up(self, slot: int, references: Mapping[int, int]) -> None:
        """Give up views of a slot's worker that is gone; once."""
        self._slot(slot)
        for entry, count in references.items():
            if not 0 <= entry < LIMITS_MAX:
                raise IndexError("there is no such entry")
            self._release(entry, slot, count)

    @property
    def entries(self) -> int:
        """How many entries are taken."""
        keys = self._words[ENTRY_BASE : ENTRY_BASE + LIMITS_MAX * LINE : LINE]
        return sum(key & 1 for key in keys)

    def total(self, key: int) -> int:
        """Return how many places of a limit are taken; 0 if nobody has a view of it."""
        entry = self._find(key)
        return 0 if entry is None else self._words[ENTRY_BASE + entry * LINE + 1]

    def _slot(self, slot: int) -> int:
        if not 0 <= slot < self.slots:
            raise IndexError("the segment has no such slot")
        return SLOT_BASE + slot * SLOT_WORDS

    def _names(self, slot: int) -> tuple[int, int]:
        """Return where a slot's names are, and their length; bytes."""
        start = self._slot(slot)
        state = self._words[start + LINE]
        half = (state >> LENGTH_BITS) % 2
        at = (start + NAMES_AT) * WORD + half * NAMES_MAX_BYTES
        return at, min(state & LENGTH_MASK, NAMES_MAX_BYTES)

    def _find(self, key: int) -> int | None:
        """Return the entry of a key; ``None`` if it has none."""
        # Even ones mean that there is no entry.
        key |= 1
        for probe in range(LIMITS_MAX):
            entry = ((key >> 1) + probe) % LIMITS_MAX
            known = self._words[ENTRY_BASE + entry * LINE]
            if known == key:
                return entry
            if known == 0:
                return None
        return None

    def _claim(self, key: int) -> int | None:
        """Return the entry of a key, made if it is new; ``None`` if all are taken."""
        found, free = self._find(key), None
        for probe in range(LIMITS_MAX) if found is None else ():
            free = ((key >> 1) + probe) % LIMITS_MAX
            if not self._words[ENTRY_BASE + free * LINE] & 1:
                self._words[ENTRY_BASE + free * LINE] = key | 1
                return free
        return found

    def _acquire(self, key: int, flags: int, owner: int) -> int | None:
        """Return the entry of a key, with one more view of it; ``None`` if all are taken."""
        entry = self._claim(key)
        if entry is not None:
            references = self._words[REFERENCE_BASE + entry]
            self._words[REFERENCE_BASE + entry] = (references + 1) | flags
            if owner >= 0:
                self._words[self._slot(owner) + REFERENCES_AT + entry] += 1
        return entry

    def _release(self, entry: int, owner: int, count: int) -> None:
        """Take note that there are fewer views of an entry."""
        if owner >= 0:
            owned = self._slot(owner) + REFERENCES_AT + entry
            count = min(count, self._words[owned])
            self._words[owned] -= count
        references = self._words[REFERENCE_BASE + entry]
        self._words[REFERENCE_BASE + entry] -= min(count, references & ~IS_LIMIT)
        self._free_unused(entry)

    def _free_unused(self, entry: int) -> None:
        """Free an entry of which nobody has a view, nor a place."""
        words, at = self._words, ENTRY_BASE + entry * LINE
        references = words[REFERENCE_BASE + entry]
        if references & ~IS_LIMIT or not words[at] & 1 or (references and words[at + 1]):
            return
        words[REFERENCE_BASE + entry] = 0
        for position in range(1, LINE):
            words[at + position] = 0
        words[at] = FREED
        # Nothing is looked for beyond the end of a row.
        while words[at] == FREED and not words[ENTRY_BASE + (entry + 1) % LIMITS_MAX * LINE]:
            words[at] = 0
            entry = (entry - 1) % LIMITS_MAX
            at = ENTRY_BASE + entry * LINE

    def _take_token(self, at: int, now: int, interval: int, burst: int) -> bool:
        """Take a token: the generic cell rate algorithm, one word for a bucket."""
        arrival = self._words[at]
        if _is_out(arrival, now, interval, burst):
            return False
        self._words[at] = max(arrival, now) + interval
        return True


def _is_out(arrival: int, now: int, interval: int, burst: int) -> bool:
    return burst == 0 or max(arrival, now) - now > (burst - 1) * interval


class _View:
    """A view of an entry, which belongs to its key as long as there is one."""

    __slots__ = ("_entry", "_owner", "_segment", "_words")

    def __init__(self, segment: Segment, entry: int) -> None:
        self._segment = segment
        self._entry = entry
        self._owner = segment._owner
        self._words = segment._words

    def __del__(self) -> None:
        self._segment._release(self._entry, self._owner, 1)


class Limit(_View):
    """One slot's view of a limit on what there may be at once, machine-wide."""

    __slots__ = ("_at_share", "_at_total")

    def __init__(self, segment: Segment, entry: int, at_share: int) -> None:
        super().__init__(segment, entry)
        self._at_total = ENTRY_BASE + entry * LINE + 1
        self._at_share = at_share

    @property
    def total(self) -> int:
        return self._words[self._at_total]

    @property
    def share(self) -> int:
        return self._words[self._at_share]

    def taken(self) -> int:
        """Return what ``total`` is."""
        return self.total

    def take(self, maximum: int, count: int = 1) -> bool:
        """Take places if not more than ``maximum`` are taken then."""
        if self.total + count > maximum:
            return False
        self._words[self._at_total] += count
        self._words[self._at_share] += count
        return True

    def give(self, count: int = 1) -> None:
        """Give some of this slot's places back."""
        if self.share < count:
            raise ValueError("fewer places were taken")
        self._words[self._at_share] -= count
        self._words[self._at_total] -= count


class Words(_View):
    """Words that all workers share; made by ``Segment.words``."""

    __slots__ = ("_shared",)

    def __init__(self, segment: Segment, entry: int) -> None:
        super().__init__(segment, entry)
        first = ENTRY_BASE + entry * LINE + 1
        self._shared = self._words[first : first + WORDS]

    def load(self, position: int) -> int:
        """Read a word."""
        return self._shared[self._checked(position)]

    def store(self, position: int, value: int) -> None:
        """Write a word."""
        self._shared[self._checked(position)] = value

    def add(self, position: int, count: int = 1) -> int:
        """Add to a word; return what it is then."""
        self._shared[self._checked(position)] += count
        return self._shared[position]

    def swap(self, position: int, expected: int, value: int) -> bool:
        """Write a word if it is what it is expected to be; return whether it was."""
        if self._shared[self._checked(position)] != expected:
            return False
        self._shared[position] = value
        return True

    def _checked(self, position: int) -> int:
        if not 0 <= position < WORDS:
            raise IndexError("there is no such word")
        return position


class Histogram:
    """One slot's histogram of durations; made by ``Segment.histogram``."""

    __slots__ = ("_cells",)

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells

    def observe(self, seconds: float) -> None:
        """Count a duration; a negative one counts as 0, one beyond 1e12 s as that."""
        seconds = min(max(seconds, 0.0), _SECONDS_MAX)
        bucket = 0
        while bucket < BUCKETS and seconds > LATENCY_BOUNDS[bucket]:
            bucket += 1
        self._cells[bucket] += 1
        self._cells[SUM_AT] += int(seconds * 1e6)
        if seconds <= ZERO_THRESHOLD:
            self._cells[ZERO_AT] += 1
            return
        # Bucket n ends at 2 ** (n / 4): four to the octave.
        native = math.ceil(math.log2(seconds) * (1 << NATIVE_SCHEMA))
        self._cells[NATIVE_AT + min(native - NATIVE_FIRST, NATIVE_BUCKETS - 1)] += 1
