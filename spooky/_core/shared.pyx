# cython: language_level=3, boundscheck=False, wraparound=False
"""The segment that all workers share: generation, heartbeats, counters, and exact limits.

An entry of the table belongs to a key as long as any process has a view of it: then it is free for
another, and what removed upstreams had does not fill the table. Entries are taken and given back
under a lock that nobody can keep from others for long, dead, stopped or broken; those that exist are
found without.

It is a row of 64-bit words: a header; a table of entries, each a key and a word that is changed by
compare-and-swap (the total of a limit, or the theoretical arrival time of a rate); a smaller
table of sources, set by set; the strike register, set by set too; then for each worker slot its
heartbeat, its share of every limit, its values, their names and its recent decisions. What is
sparse costs no memory until it is touched.
"""

import secrets

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport ceil, log2
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #define spooky_load(word) __atomic_load_n((word), __ATOMIC_ACQUIRE)
    #define spooky_store(word, value) __atomic_store_n((word), (value), __ATOMIC_RELEASE)
    #define spooky_exchange(word, value) __atomic_exchange_n((word), (value), __ATOMIC_ACQ_REL)
    #define spooky_subtract(word, value) __atomic_sub_fetch((word), (value), __ATOMIC_ACQ_REL)
    #define spooky_add(word, value) __atomic_add_fetch((word), (value), __ATOMIC_ACQ_REL)
    #define spooky_swap(word, expected, value) __atomic_compare_exchange_n( \\
        (word), (expected), (value), 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
    #define spooky_load_ordered(word) __atomic_load_n((word), __ATOMIC_SEQ_CST)
    #define spooky_swap_ordered(word, expected, value) __atomic_compare_exchange_n( \\
        (word), (expected), (value), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
    """
    uint64_t load_word "spooky_load"(uint64_t* word) nogil
    void store_word "spooky_store"(uint64_t* word, uint64_t value) nogil
    uint64_t exchange_word "spooky_exchange"(uint64_t* word, uint64_t value) nogil
    uint64_t subtract_word "spooky_subtract"(uint64_t* word, uint64_t value) nogil
    uint64_t add_word "spooky_add"(uint64_t* word, uint64_t value) nogil
    bint swap_word "spooky_swap"(uint64_t* word, uint64_t* expected, uint64_t value) nogil
    # In one order for all: of two who write and then look, at least one sees the other.
    uint64_t load_ordered "spooky_load_ordered"(uint64_t* word) nogil
    bint swap_ordered "spooky_swap_ordered"(
        uint64_t* word, uint64_t* expected, uint64_t value
    ) nogil

include "shared_lock.pxi"

VERSION = 7
SLOTS_MAX = 256
VALUES_MAX = VALUES
NAMES_MAX_BYTES = NAMES_BYTES
DECISIONS_MAX_BYTES = DECISIONS_BYTES
LIMITS_MAX = ENTRIES
WORDS = LINE - 1
SOURCES_MAX = SOURCE_SETS * SOURCE_WAYS
STRIKES_MAX = STRIKE_SETS * STRIKE_WAYS
LATENCY_BOUNDS = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
)  # fmt: skip
BUCKET_VALUES = BUCKETS + 1
SUM_AT = SUM_CELL
ZERO_AT = ZERO_CELL
NATIVE_AT = NATIVE_CELL
NATIVE_SCHEMA = 2
NATIVE_FIRST = FIRST_NATIVE
NATIVE_BUCKETS = NATIVE
ZERO_THRESHOLD = 2.0**-13
HISTOGRAM_VALUES = NATIVE_CELL + NATIVE

cdef uint64_t MAGIC = 0x73706F6F6B792E31
cdef uint64_t LAYOUT = VERSION

# Words of the header.
cdef enum:
    AT_MAGIC = 0
    AT_VERSION = 1
    AT_SLOTS = 2
    AT_REGISTER = 3
    AT_GENERATION = 8
    AT_HEALTH = 9
    # A cache line.
    AT_LOCK = 16

cdef double ZERO_SECONDS = ZERO_THRESHOLD

cdef double[BUCKETS] BOUNDS
for _position, _bound in enumerate(LATENCY_BOUNDS):
    BOUNDS[_position] = _bound

# An entry has a line of its own: workers that fight for one limit do not slow those at another.
cdef Py_ssize_t ENTRY_BASE = HEADER_WORDS
# How many views there are of each entry, and whether it is a limit.
cdef Py_ssize_t REFERENCE_BASE = ENTRY_BASE + ENTRIES * LINE
# The word of a slot's names: their length, and above it how often they were written anew.
cdef uint64_t LENGTH_BITS = 32
cdef uint64_t LENGTH_MASK = (<uint64_t>1 << LENGTH_BITS) - 1
cdef uint64_t IS_LIMIT = <uint64_t>1 << 63
# Where an entry was; keys are odd.
cdef uint64_t FREED = 2
cdef Py_ssize_t SOURCE_BASE = REFERENCE_BASE + ENTRIES
# A set is a cache line.
cdef Py_ssize_t STRIKE_BASE = SOURCE_BASE + SOURCE_SETS * SOURCE_WAYS * 2
cdef Py_ssize_t SLOT_BASE = STRIKE_BASE + STRIKE_SETS * STRIKE_WAYS
cdef Py_ssize_t SHARES_AT = SLOT_HEAD_WORDS
cdef Py_ssize_t REFERENCES_AT = SHARES_AT + ENTRIES
cdef Py_ssize_t VALUES_AT = REFERENCES_AT + ENTRIES
cdef Py_ssize_t NAMES_AT = VALUES_AT + VALUES
# Two halves: names are written anew to the one that is not read.
cdef Py_ssize_t DECISIONS_AT = NAMES_AT + 2 * NAMES_BYTES // WORD
cdef Py_ssize_t SLOT_WORDS = DECISIONS_AT + DECISIONS_BYTES // WORD


def segment_size(int slots):
    """Return how large a segment for so many slots is; bytes."""
    return (SLOT_BASE + slots * SLOT_WORDS) * WORD


@cython.final
cdef class Segment:
    """A mapped segment. Every word has one writer or is changed atomically."""

    def __init__(self, buffer, int slots=0):
        if self._held:
            raise ValueError("a segment is set up once")
        if not 0 <= slots <= SLOTS_MAX:
            raise ValueError(f"a segment has 1 to {SLOTS_MAX} slots")
        PyObject_GetBuffer(buffer, &self._buffer, PyBUF_WRITABLE)
        self._held = True
        self._words = <uint64_t*>self._buffer.buf
        if self._buffer.len < segment_size(max(1, slots)):
            raise ValueError("the buffer is too small for the segment")
        if slots:
            self._words[AT_VERSION] = LAYOUT
            self._words[AT_SLOTS] = slots
            self._words[AT_REGISTER] = secrets.randbits(64)
            store_word(&self._words[AT_MAGIC], MAGIC)
        if load_word(&self._words[AT_MAGIC]) != MAGIC or self._words[AT_VERSION] != LAYOUT:
            raise ValueError(f"this is no segment of version {VERSION}")
        if (
            not 1 <= self._words[AT_SLOTS] <= <uint64_t>SLOTS_MAX
            or self._buffer.len < segment_size(self._words[AT_SLOTS])
        ):
            raise ValueError("the buffer is too small for the segment")
        self.slots = self._words[AT_SLOTS]
        self._owner = -1

    def __dealloc__(self):
        if self._held:
            PyBuffer_Release(&self._buffer)

    @property
    def generation(self):
        return load_word(&self._words[AT_GENERATION])

    def commit(self, uint64_t generation):
        """Put a generation in force, in all workers at once."""
        store_word(&self._words[AT_GENERATION], generation)

    @property
    def health_version(self):
        return load_word(&self._words[AT_HEALTH])

    def note_health(self):
        """Say that the health of a backend changed."""
        add_word(&self._words[AT_HEALTH], 1)

    def beat(self, int slot, uint64_t now):
        """Say that a slot's worker is alive; milliseconds on the monotonic clock."""
        store_word(self._slot(slot), now)

    def last_beat(self, int slot):
        """Return when a slot's worker last said so; 0 if it never did."""
        return load_word(self._slot(slot))

    def values(self, int slot):
        """Return a slot's values, for its one writer to change."""
        self._slot(slot)
        start = (SLOT_BASE + slot * SLOT_WORDS + VALUES_AT) * WORD
        return memoryview(self._buffer.obj).cast("B")[start : start + VALUES * WORD].cast("Q")

    def load(self, int slot, Py_ssize_t position):
        """Read one of a slot's values."""
        if not 0 <= position < VALUES:
            raise IndexError("a slot has no such value")
        return load_word(self._slot(slot) + VALUES_AT + position)

    def names(self, int slot):
        """Return the names that a slot's worker added, one after the other."""
        cdef uint64_t* words = self._slot(slot)
        cdef uint64_t state = load_word(words + LINE)
        return (_names(words, state))[:min(state & LENGTH_MASK, <uint64_t>NAMES_BYTES)]

    def names_version(self, int slot):
        """Return how often a slot's names were written anew."""
        return load_word(self._slot(slot) + LINE) >> LENGTH_BITS

    def add_name(self, int slot, bytes name):
        """Add a name to a slot's; only its worker may."""
        cdef uint64_t* words = self._slot(slot)
        cdef uint64_t state = load_word(words + LINE)
        cdef uint64_t length = min(state & LENGTH_MASK, <uint64_t>NAMES_BYTES)
        cdef uint64_t size = len(name)
        if size > NAMES_BYTES - length:
            return False
        memcpy(_names(words, state) + length, <char*>name, size)
        store_word(words + LINE, (state & ~LENGTH_MASK) | (length + size))
        return True

    def write_names(self, int slot, bytes names):
        """Replace a slot's names; only its worker may."""
        cdef uint64_t* words = self._slot(slot)
        cdef uint64_t state = (load_word(words + LINE) & ~LENGTH_MASK) + LENGTH_MASK + 1
        cdef uint64_t size = len(names)
        if size > NAMES_BYTES:
            raise ValueError("the names do not fit")
        memcpy(_names(words, state), <char*>names, size)
        store_word(words + LINE, state | size)

    def decisions(self, int slot):
        """Return the memory of a slot's ring of decisions."""
        at = <char*>(self._slot(slot) + DECISIONS_AT) - <char*>self._words
        return memoryview(self._buffer.obj).cast("B")[at : at + DECISIONS_BYTES]

    def histogram(self, int slot, Py_ssize_t position):
        """Return a writer for the histogram whose first value has this position."""
        cdef Histogram made = Histogram.__new__(Histogram)
        if not 0 <= position <= VALUES - (NATIVE_CELL + NATIVE):
            raise IndexError("the histogram does not fit")
        made._segment = self
        made._cells = self._slot(slot) + VALUES_AT + position
        return made

    cpdef Limit limit(self, uint64_t key, int slot):
        """Return a slot's view of a limit, which is the same for all who use this key."""
        cdef uint64_t* words = self._slot(slot)
        cdef Limit made = Limit.__new__(Limit)
        cdef Py_ssize_t entry = self._acquire(key, IS_LIMIT, self._owner)
        if entry < 0:
            return None
        made._entry, made._owner = entry, self._owner
        made._segment = self
        made._total = self._words + ENTRY_BASE + entry * LINE + 1
        made._share = words + SHARES_AT + entry
        return made

    cpdef Words words(self, uint64_t key):
        """Return words that all who use this key share, of 0 at first."""
        cdef Words made = Words.__new__(Words)
        cdef Py_ssize_t entry = self._acquire(key, 0, self._owner)
        if entry < 0:
            return None
        made._entry, made._owner = entry, self._owner
        made._segment = self
        made._first = self._words + ENTRY_BASE + entry * LINE + 1
        return made

    cpdef bint take_rate(self, uint64_t key, uint64_t now, uint64_t interval, uint64_t burst):
        """Take a token of a bucket that all who use this key share."""
        cdef Py_ssize_t entry = self._find(key)
        if entry < 0:
            # Kept for good: nobody has a view of it.
            entry = self._acquire(key, 0, -1)
        if entry < 0:
            return True
        return _take_token(self._words + ENTRY_BASE + entry * LINE + 1, now, interval, burst)

    cpdef bint take_source_rate(
        self, uint64_t key, uint64_t now, uint64_t interval, uint64_t burst
    ):
        """Take a token of a source's bucket; like take_rate, but old sources are forgotten."""
        cdef uint64_t* ways
        cdef uint64_t* way
        cdef uint64_t* oldest = NULL
        cdef uint64_t known
        cdef int position
        key |= 1
        ways = self._words + SOURCE_BASE + (key >> 1) % SOURCE_SETS * SOURCE_WAYS * 2
        for position in range(SOURCE_WAYS):
            way = ways + position * 2
            if load_word(way) == key:
                return _take_token(way + 1, now, interval, burst)
            if oldest == NULL or load_word(way + 1) < load_word(oldest + 1):
                oldest = way
        known = load_word(oldest)
        if swap_word(oldest, &known, key):
            store_word(oldest + 1, 0)
        return _take_token(oldest + 1, now, interval, burst)

    cpdef bint is_source_out(
        self, uint64_t key, uint64_t now, uint64_t interval, uint64_t burst
    ):
        """Return whether a source's bucket has no token; one that is not known has some."""
        cdef uint64_t* ways
        cdef int position
        key |= 1
        ways = self._words + SOURCE_BASE + (key >> 1) % SOURCE_SETS * SOURCE_WAYS * 2
        for position in range(SOURCE_WAYS):
            if load_word(ways + position * 2) == key:
                return _is_out(load_word(ways + position * 2 + 1), now, interval, burst)
        return burst == 0

    @property
    def register_id(self):
        return self._words[AT_REGISTER]

    cpdef bint strike(self, uint64_t key, uint64_t now, uint64_t keep):
        """Strike out a key; False if that was done before, or cannot be remembered."""
        cdef uint64_t* ways = self._words + STRIKE_BASE + key % STRIKE_SETS * STRIKE_WAYS
        # 0 means free, so the key's part is never 0.
        cdef uint64_t mark = key >> STAMP_BITS | 1
        cdef uint64_t entry, age, known = 0, greatest
        cdef int position, victim
        while True:
            victim, greatest = -1, 0
            for position in range(STRIKE_WAYS):
                entry = load_ordered(ways + position)
                if entry >> STAMP_BITS == mark:
                    return False
                age = (now - entry) & STAMP_MASK if entry else STAMP_MASK
                # An entry that seems to be from the future is new: clocks are set back.
                if (entry == 0 or keep < age < STAMP_MASK // 2) and age > greatest:
                    victim, known, greatest = position, entry, age
            if victim < 0:
                return False
            if swap_ordered(ways + victim, &known, mark << STAMP_BITS | (now & STAMP_MASK)):
                break
        # Another worker may have struck the same key out elsewhere in the set meanwhile; then
        # neither may have been the first.
        for position in range(STRIKE_WAYS):
            if position != victim and load_ordered(ways + position) >> STAMP_BITS == mark:
                return False
        return True

    def reclaim(self, int slot):
        """Give back what a dead worker holds of every limit."""
        cdef uint64_t* shares = self._slot(slot) + SHARES_AT
        cdef uint64_t share, mine
        cdef Py_ssize_t entry
        mine = lock(self._words + AT_LOCK)
        for entry in range(ENTRIES):
            # Two programs may do it at once, for a worker of one that hands over to the other.
            share = exchange_word(shares + entry, 0) if load_word(shares + entry) else 0
            if share:
                subtract_word(self._words + ENTRY_BASE + entry * LINE + 1, share)
                self._free_unused(entry)
        unlock(self._words + AT_LOCK, mine)

    def use_slot(self, int slot):
        """Count the views that this process makes from now on for the worker of a slot."""
        self._slot(slot)
        self._owner = slot

    def references(self, int slot):
        """Return how many views of each entry a slot's worker has, or a dead one had."""
        cdef uint64_t* references = self._slot(slot) + REFERENCES_AT
        cdef Py_ssize_t entry
        cdef dict counts = {}
        for entry in range(ENTRIES):
            if load_word(references + entry):
                counts[entry] = references[entry]
        return counts

    def give_up(self, int slot, references):
        """Give up views of a slot's worker that is gone; once."""
        self._slot(slot)
        for entry, count in references.items():
            if not 0 <= entry < ENTRIES:
                raise IndexError("there is no such entry")
            self._release(entry, slot, count)

    @property
    def entries(self):
        """How many entries are taken."""
        cdef Py_ssize_t entry, taken = 0
        for entry in range(ENTRIES):
            taken += load_word(self._words + ENTRY_BASE + entry * LINE) & 1
        return taken

    def total(self, uint64_t key):
        """Return how many places of a limit are taken; 0 if nobody has a view of it."""
        cdef Py_ssize_t entry = self._find(key)
        return load_word(self._words + ENTRY_BASE + entry * LINE + 1) if entry >= 0 else 0

    cdef uint64_t* _slot(self, int slot) except NULL:
        if not 0 <= slot < self.slots:
            raise IndexError("the segment has no such slot")
        return self._words + SLOT_BASE + slot * SLOT_WORDS

    cdef Py_ssize_t _find(self, uint64_t key) noexcept:
        """Return the entry of a key; -1 if it has none."""
        cdef uint64_t known
        cdef Py_ssize_t at, probe
        # Even ones mean that there is no entry.
        key |= 1
        at = (key >> 1) % ENTRIES
        for probe in range(ENTRIES):
            known = load_word(self._words + ENTRY_BASE + at * LINE)
            if known == key:
                return at
            if known == 0:
                return -1
            at = (at + 1) % ENTRIES
        return -1

    cdef Py_ssize_t _claim(self, uint64_t key) noexcept:
        """Return the entry of a key, made if it is new; -1 if all are taken. Takes the lock."""
        cdef uint64_t known
        cdef Py_ssize_t at, probe, free = -1
        key |= 1
        at = (key >> 1) % ENTRIES
        for probe in range(ENTRIES):
            known = load_word(self._words + ENTRY_BASE + at * LINE)
            if known == key:
                return at
            if free < 0 and not known & 1:
                free = at
            if known == 0:
                break
            at = (at + 1) % ENTRIES
        if free >= 0:
            store_word(self._words + ENTRY_BASE + free * LINE, key)
        return free

    cdef Py_ssize_t _acquire(self, uint64_t key, uint64_t flags, int owner) noexcept:
        """Return the entry of a key, with one more view of it; -1 if all are taken."""
        cdef Py_ssize_t entry
        cdef uint64_t* references
        cdef uint64_t mine
        mine = lock(self._words + AT_LOCK)
        entry = self._claim(key)
        if entry >= 0:
            references = self._words + REFERENCE_BASE + entry
            references[0] = (references[0] + 1) | flags
            if owner >= 0:
                self._words[SLOT_BASE + owner * SLOT_WORDS + REFERENCES_AT + entry] += 1
        unlock(self._words + AT_LOCK, mine)
        return entry

    cdef void _release(self, Py_ssize_t entry, int owner, uint64_t count) noexcept:
        """Take note that there are fewer views of an entry."""
        cdef uint64_t* references = self._words + REFERENCE_BASE + entry
        cdef uint64_t* owned
        cdef uint64_t mine
        mine = lock(self._words + AT_LOCK)
        if owner >= 0:
            owned = self._words + SLOT_BASE + owner * SLOT_WORDS + REFERENCES_AT + entry
            count = min(count, owned[0])
            owned[0] -= count
        references[0] -= min(count, references[0] & ~IS_LIMIT)
        self._free_unused(entry)
        unlock(self._words + AT_LOCK, mine)

    cdef void _free_unused(self, Py_ssize_t entry) noexcept:
        """Free an entry of which nobody has a view, nor a place; the lock is taken."""
        cdef uint64_t* word = self._words + ENTRY_BASE + entry * LINE
        cdef uint64_t references = self._words[REFERENCE_BASE + entry]
        cdef int position
        if references & ~IS_LIMIT or not word[0] & 1 or (references and load_word(word + 1)):
            return
        self._words[REFERENCE_BASE + entry] = 0
        for position in range(1, LINE):
            store_word(word + position, 0)
        store_word(word, FREED)
        # Nothing is looked for beyond the end of a row.
        while (
            load_word(self._words + ENTRY_BASE + entry * LINE) == FREED
            and load_word(self._words + ENTRY_BASE + (entry + 1) % ENTRIES * LINE) == 0
        ):
            store_word(self._words + ENTRY_BASE + entry * LINE, 0)
            entry = (entry - 1 + ENTRIES) % ENTRIES


cdef char* _names(uint64_t* words, uint64_t state) noexcept:
    """Return where the names are in a slot's half of this state."""
    return <char*>(words + NAMES_AT) + (state >> LENGTH_BITS & 1) * NAMES_BYTES


cdef bint _take_token(
    uint64_t* arrival, uint64_t now, uint64_t interval, uint64_t burst
) noexcept:
    """Take a token: the generic cell rate algorithm, one word for a bucket."""
    cdef uint64_t expected = load_word(arrival)
    while not _is_out(expected, now, interval, burst):
        if swap_word(arrival, &expected, max(expected, now) + interval):
            return True
    return False


cdef bint _is_out(uint64_t arrival, uint64_t now, uint64_t interval, uint64_t burst) noexcept:
    return burst == 0 or max(arrival, now) - now > (burst - 1) * interval


@cython.final
@cython.no_gc_clear
cdef class Limit:
    """One slot's view of a limit on what there may be at once, machine-wide."""

    def __init__(self):
        raise TypeError("a limit is made by Segment.limit")

    def __dealloc__(self):
        if self._segment is not None:
            self._segment._release(self._entry, self._owner, 1)

    @property
    def total(self):
        return load_word(self._total)

    @property
    def share(self):
        return load_word(self._share)

    cpdef uint64_t taken(self) noexcept:
        """Return what `total` is."""
        return load_word(self._total)

    cpdef bint take(self, uint64_t maximum, uint64_t count=1):
        """Take places if not more than ``maximum`` are taken then."""
        cdef uint64_t taken = load_word(self._total)
        while count <= maximum and taken <= maximum - count:
            if swap_word(self._total, &taken, taken + count):
                store_word(self._share, self._share[0] + count)
                return True
        return False

    cpdef give(self, uint64_t count=1):
        """Give some of this slot's places back."""
        if self._share[0] < count:
            raise ValueError("fewer places were taken")
        store_word(self._share, self._share[0] - count)
        subtract_word(self._total, count)


@cython.final
@cython.no_gc_clear
cdef class Words:
    """Words that all workers share; made by ``Segment.words``."""

    def __init__(self):
        raise TypeError("words are made by Segment.words")

    def __dealloc__(self):
        if self._segment is not None:
            self._segment._release(self._entry, self._owner, 1)

    cpdef uint64_t load(self, Py_ssize_t position) except? 0:
        """Read a word."""
        return load_word(self._at(position))

    cpdef store(self, Py_ssize_t position, uint64_t value):
        """Write a word."""
        store_word(self._at(position), value)

    cpdef uint64_t add(self, Py_ssize_t position, uint64_t count=1) except? 0:
        """Add to a word; return what it is then."""
        return add_word(self._at(position), count)

    cpdef bint swap(self, Py_ssize_t position, uint64_t expected, uint64_t value) except -1:
        """Write a word if it is what it is expected to be; return whether it was."""
        return swap_word(self._at(position), &expected, value)

    cdef uint64_t* _at(self, Py_ssize_t position) except NULL:
        if not 0 <= position < LINE - 1:
            raise IndexError("there is no such word")
        return self._first + position


@cython.final
cdef class Histogram:
    """One slot's histogram of durations; made by ``Segment.histogram``."""

    def __init__(self):
        raise TypeError("a histogram is made by Segment.histogram")

    cpdef observe(self, double seconds):
        """Count a duration; a negative one counts as 0, one beyond 1e12 s as that."""
        cdef uint64_t* cells = self._cells
        cdef int bucket = 0
        cdef Py_ssize_t native
        seconds = min(max(seconds, 0.0), 1e12)
        while bucket < BUCKETS and seconds > BOUNDS[bucket]:
            bucket += 1
        store_word(cells + bucket, cells[bucket] + 1)
        store_word(cells + SUM_CELL, cells[SUM_CELL] + <uint64_t>(seconds * 1e6))
        if seconds <= ZERO_SECONDS:
            store_word(cells + ZERO_CELL, cells[ZERO_CELL] + 1)
            return
        # Bucket n ends at 2 ** (n / 4) s; the last takes what is beyond it.
        native = <Py_ssize_t>ceil(log2(seconds) * 4.0) - FIRST_NATIVE
        cells += NATIVE_CELL + min(native, <Py_ssize_t>NATIVE - 1)
        store_word(cells, cells[0] + 1)
