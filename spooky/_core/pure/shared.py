"""The segment that all workers share: the twin, for one worker process.

Plain Python cannot change a word that others change too, so more than one worker needs the compiled
kernel. The layout is the same, and whoever only reads may be another process.
"""

import math
import secrets
from mmap import mmap
from typing import Final

VERSION: Final = 4
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
_NATIVE_MAX: Final = 1e12

MAGIC: Final = 0x73706F6F6B792E31
WORD: Final = 8
LINE: Final = 8
AT_MAGIC: Final = 0
AT_VERSION: Final = 1
AT_SLOTS: Final = 2
AT_REGISTER: Final = 3
AT_GENERATION: Final = 8
AT_HEALTH: Final = 9
ENTRY_BASE: Final = 16
SOURCE_BASE: Final = ENTRY_BASE + LIMITS_MAX * LINE
STRIKE_BASE: Final = SOURCE_BASE + SOURCES_MAX * 2
SLOT_BASE: Final = STRIKE_BASE + STRIKES_MAX
SHARES_AT: Final = 16
VALUES_AT: Final = SHARES_AT + LIMITS_MAX
NAMES_AT: Final = VALUES_AT + VALUES_MAX
DECISIONS_AT: Final = NAMES_AT + NAMES_MAX_BYTES // WORD
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
        start = self._slot(slot)
        at = (start + NAMES_AT) * WORD
        return bytes(self._bytes[at : at + self._names_length(start)])

    def add_name(self, slot: int, name: bytes) -> bool:
        """Add a name to a slot's; only its worker may."""
        start = self._slot(slot)
        length = self._names_length(start)
        if len(name) > NAMES_MAX_BYTES - length:
            return False
        at = (start + NAMES_AT) * WORD + length
        self._bytes[at : at + len(name)] = name
        self._words[start + LINE] = length + len(name)
        return True

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
        entry = self._entry(key)
        if entry is None:
            return None
        return Limit(self._words, ENTRY_BASE + entry * LINE + 1, start + SHARES_AT + entry)

    def words(self, key: int) -> "Words | None":
        """Return words that all who use this key share, of 0 at first."""
        entry = self._entry(key)
        return None if entry is None else Words(self._words, ENTRY_BASE + entry * LINE + 1)

    def take_rate(self, key: int, now: int, interval: int, burst: int) -> bool:
        """Take a token of a bucket that all who use this key share."""
        entry = self._entry(key)
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

    def _slot(self, slot: int) -> int:
        if not 0 <= slot < self.slots:
            raise IndexError("the segment has no such slot")
        return SLOT_BASE + slot * SLOT_WORDS

    def _names_length(self, start: int) -> int:
        return min(self._words[start + LINE], NAMES_MAX_BYTES)

    def _entry(self, key: int) -> int | None:
        """Return the entry of a key, claimed if it is new; ``None`` if all are taken."""
        # 0 means free.
        key |= 1
        for probe in range(LIMITS_MAX):
            entry = ((key >> 1) + probe) % LIMITS_MAX
            at = ENTRY_BASE + entry * LINE
            if not self._words[at]:
                self._words[at] = key
            if self._words[at] == key:
                return entry
        return None

    def _take_token(self, at: int, now: int, interval: int, burst: int) -> bool:
        """Take a token: the generic cell rate algorithm, one word for a bucket."""
        start = max(self._words[at], now)
        if burst == 0 or start - now > (burst - 1) * interval:
            return False
        self._words[at] = start + interval
        return True


class Limit:
    """One slot's view of a limit on what there may be at once, machine-wide."""

    __slots__ = ("_at_share", "_at_total", "_words")

    def __init__(self, words: "memoryview[int]", at_total: int, at_share: int) -> None:
        self._words = words
        self._at_total = at_total
        self._at_share = at_share

    @property
    def total(self) -> int:
        return self._words[self._at_total]

    @property
    def share(self) -> int:
        return self._words[self._at_share]

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


class Words:
    """Words that all workers share; made by ``Segment.words``."""

    __slots__ = ("_words",)

    def __init__(self, words: "memoryview[int]", first: int) -> None:
        self._words = words[first : first + WORDS]

    def load(self, position: int) -> int:
        """Read a word."""
        return self._words[self._checked(position)]

    def store(self, position: int, value: int) -> None:
        """Write a word."""
        self._words[self._checked(position)] = value

    def add(self, position: int, count: int = 1) -> int:
        """Add to a word; return what it is then."""
        self._words[self._checked(position)] += count
        return self._words[position]

    def swap(self, position: int, expected: int, value: int) -> bool:
        """Write a word if it is what it is expected to be; return whether it was."""
        if self._words[self._checked(position)] != expected:
            return False
        self._words[position] = value
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
        """Count a duration; a negative one counts as 0."""
        seconds = max(seconds, 0.0)
        bucket = 0
        while bucket < BUCKETS and seconds > LATENCY_BOUNDS[bucket]:
            bucket += 1
        self._cells[bucket] += 1
        self._cells[SUM_AT] += int(seconds * 1e6)
        if seconds <= ZERO_THRESHOLD:
            self._cells[ZERO_AT] += 1
            return
        # Bucket n ends at 2 ** (n / 4): four to the octave.
        native = math.ceil(math.log2(min(seconds, _NATIVE_MAX)) * (1 << NATIVE_SCHEMA))
        self._cells[NATIVE_AT + min(native - NATIVE_FIRST, NATIVE_BUCKETS - 1)] += 1
