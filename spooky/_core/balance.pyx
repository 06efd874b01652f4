# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Which backend of an upstream gets a request.

The rules are those of the twin, :mod:`spooky._core.pure.balance`, which explains them: the same
integers, the same doubles in the same order, the same random numbers.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport isfinite, log
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

from weakref import WeakValueDictionary

from spooky._core.decisions cimport CANDIDATES, Admitted
from spooky._core.hashing cimport GOLDEN, mix, xxh64
from spooky._core.pure import balance as _twin
from spooky._core.shared cimport Limit

cdef extern from *:
    """
    #define spooky_total_load(word) __atomic_load_n((word), __ATOMIC_RELAXED)
    """
    uint64_t load_total "spooky_total_load"(uint64_t* word) nogil

RING_LAYOUT_VERSION = _twin.RING_LAYOUT_VERSION

cdef int64_t MAX_WEIGHT = _twin.MAX_WEIGHT
cdef int32_t FULL_SHARE = _twin.FULL_SHARE
cdef int64_t RING_POINTS = _twin.RING_POINTS
cdef int64_t MAX_RING_POINTS = _twin.MAX_RING_POINTS
cdef Py_ssize_t MAX_RING_WALK = _twin.MAX_RING_WALK
cdef int MAX_MAGLEV_PROBES = _twin.MAX_MAGLEV_PROBES
cdef uint64_t MAX_OVERFLOW_JUMPS = _twin.MAX_OVERFLOW_JUMPS
cdef uint64_t PROBE_EVERY = _twin.PROBE_EVERY
cdef uint64_t STALE_TURNS = _twin.STALE_TURNS
cdef double EWMA_ALPHA = _twin.EWMA_ALPHA
cdef double MIN_LATENCY_MS = _twin.MIN_LATENCY_MS
cdef double MAX_LATENCY_MS = _twin.MAX_LATENCY_MS
cdef int64_t LEARNT_MAX = _twin.LEARNT_MAX
cdef double FAILURE_LATENCY_MS = _twin.FAILURE_LATENCY_MS
cdef double ACTIVE_CHARGE_MS = _twin.ACTIVE_CHARGE_MS
cdef double NO_SCORE = _twin.NO_SCORE

cdef enum:
    NOTHING_COMPARED = -2
    MAGLEV_SIZE = 65537  # A constant for the compiler, which then divides by multiplying.


cpdef uint64_t hash_key(bytes key) except? 0:
    """Return the 64-bit hash of a balancing key, XXH64 with seed 0: stable across releases."""
    if key is None:
        raise TypeError("a key must be bytes")
    return xxh64(<const unsigned char*>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))


@cython.final
cdef class BackendLoad:
    """What is known of one backend's load, by all balancers that have it."""

    def __cinit__(self):
        self._state.eligible = True
        self._state.share = FULL_SHARE


@cython.final
cdef class Loads:
    """What outlives a balancer when weights or backends change: loads, random numbers and turns."""

    def __init__(self, seed=0):
        self._random = seed & 0xFFFFFFFFFFFFFFFF
        self._of = WeakValueDictionary()

    cdef BackendLoad _load_of(self, bytes identity):
        load = self._of.get(identity)
        if load is None:
            load = self._of[identity] = BackendLoad()
        return load

    def forget_turns(self):
        """Let go of the balancer that picked last; call it when no other will be made."""
        self._leader = None


cdef class Balancer:
    """Choices among the backends of one upstream, with their load; the stub says more."""

    def __cinit__(self):
        self._memories = []
        self._limits = []

    def __init__(self, ids, weights, seed=0, loads=None):
        cdef Py_ssize_t backend
        cdef BackendLoad load
        if len(ids) != len(weights):
            raise ValueError(f"{len(ids)} backends but {len(weights)} weights")
        if len(set(ids)) != len(ids):
            raise ValueError("two backends have the same id")
        if not all(1 <= weight <= MAX_WEIGHT for weight in weights):
            raise ValueError(f"weights must be 1 to {MAX_WEIGHT}")
        self._backends = <Backend*>self._allocate(len(ids), sizeof(Backend))
        self._count = self._eligible_count = len(ids)
        self._eligible_weight = sum(weights)
        self._eligible_active = 0
        self._changed = True
        self._shares_loads = loads is not None
        self._loads = loads if loads is not None else Loads(seed)
        self._version = self._loads._version - 1
        self._rival = NOTHING_COMPARED
        for backend in range(self._count):
            self._backends[backend].weight = weights[backend]
            self._backends[backend].given_weight = weights[backend]
            self._backends[backend].id_hash = hash_key(ids[backend])
            load = self._loads._load_of(ids[backend])
            self._memories.append(load)
            self._backends[backend].load = &load._state
            self._limits.append(None)

    def __len__(self):
        return self._count

    cpdef Py_ssize_t pick(self, uint64_t key=0) except? -2:
        """Return the backend for a request, or -1 if none is eligible."""
        self._follow()
        return self._choose(key)

    cpdef Py_ssize_t pick_other(self, uint64_t key, Py_ssize_t excluded) except? -2:
        """Return a backend other than ``excluded``, or -1; for a second try."""
        self._follow()
        return self._choose_other(key, excluded)

    cpdef set_eligible(self, Py_ssize_t backend, bint eligible):
        """Put a backend in or out of the choice, for all balancers with the same loads."""
        self._check(backend)
        cdef LoadState* load = self._backends[backend].load
        if load.eligible != eligible:
            load.eligible = eligible
            self._loads._version += 1

    cpdef set_share(self, Py_ssize_t backend, int percent):
        """Give a backend only so much of its weight, for all balancers with the same loads."""
        self._check(backend)
        if not 1 <= percent <= FULL_SHARE:
            raise ValueError(f"a share is 1 to {FULL_SHARE} percent")
        cdef LoadState* load = self._backends[backend].load
        if load.share != percent:
            load.share = percent
            self._loads._version += 1

    cpdef drain(self, Py_ssize_t backend):
        """Choose a backend no more, in this balancer alone; its place on a ring stays."""
        self._check(backend)
        self._backends[backend].drained = True
        self._version = self._loads._version - 1

    cpdef count_by(self, Py_ssize_t backend, Limit limit):
        """Go by what all workers have in flight to a backend, where two are held together."""
        self._check(backend)
        if limit is None:
            raise TypeError("a limit is needed")
        self._limits[backend] = limit
        self._backends[backend].total = limit._total

    cpdef started(self, Py_ssize_t backend):
        """Count a request as active on a backend."""
        self._check(backend)
        self._backends[backend].load.active += 1

    cpdef finished(self, Py_ssize_t backend, double latency_ms=-1.0):
        """Count a request as ended; a negative latency is none."""
        self._end(backend, latency_ms)

    cpdef failed(self, Py_ssize_t backend, double elapsed_ms):
        """Count a request as ended badly, after so long."""
        self._end(backend, -1.0)

    cpdef int64_t active(self, Py_ssize_t backend) except -1:
        """Return the number of active requests on a backend."""
        self._check(backend)
        return self._backends[backend].load.active

    cpdef Py_ssize_t excluded(self) noexcept:
        """Return how many backends were not in the choice at the last pick."""
        return self._count - self._eligible_count

    def version(self):
        """Return another number whenever a backend came in or out of the choice, by its loads."""
        return self._loads._version

    cpdef note_choice(self, Py_ssize_t chosen, Admitted into):
        """Note the backends that were held against each other, by a number, at the last pick."""
        self._check(chosen)
        if self._rival == NOTHING_COMPARED:
            return
        self._note(chosen, True, into)
        if self._rival >= 0 and self._rival != chosen:
            self._note(self._rival, False, into)

    @cython.final
    cdef int _note(self, Py_ssize_t backend, bint chosen, Admitted into) except -1:
        cdef Backend* it = &self._backends[backend]
        cdef int64_t active = max(self._in_flight(backend) - chosen, 0)
        cdef double weight = <double>it.given_weight * it.load.share / FULL_SHARE
        cdef double latency = it.load.estimate if it.load.estimate > 0.0 else NO_SCORE
        cdef double score = self._score(backend, active, weight)
        into.add_candidate(backend, chosen, active, weight, latency, score)
        return 0

    cdef int64_t _in_flight(self, Py_ssize_t backend) noexcept:
        """Return what a backend was judged by: here what this worker has in flight there."""
        return self._backends[backend].load.active

    cdef double _score(self, Py_ssize_t backend, int64_t active, double weight) noexcept:
        """Return what a backend was judged by, with so many requests: the less the better."""
        return active / weight

    def is_eligible(self, Py_ssize_t backend):
        """Return whether a backend is in the choice."""
        self._check(backend)
        return bool(self._is_eligible(backend))

    cdef void* _allocate(self, size_t count, size_t size) except NULL:
        """Return a zeroed array that lives as long as the balancer."""
        cdef bytearray memory = bytearray(count * size + 1)
        self._memories.append(memory)
        return PyByteArray_AS_STRING(memory)

    @cython.final
    cdef int _check(self, Py_ssize_t backend) except -1:
        if not 0 <= backend < self._count:
            raise IndexError("no such backend")
        return 0

    cdef int _follow(self) except -1:
        """Go by what other balancers did with the same loads."""
        cdef Py_ssize_t backend
        if self._version == self._loads._version:
            return 0
        self._weigh()
        self._eligible_count = self._eligible_weight = 0
        for backend in range(self._count):
            if self._is_eligible(backend):
                self._eligible_count += 1
                self._eligible_weight += self._backends[backend].weight
        self._changed = True
        self._version = self._loads._version
        return 0

    cdef bint _weigh(self) except -1:
        """Take the weights as far as shares go; return whether any changed."""
        cdef Py_ssize_t backend
        cdef int64_t weight
        cdef bint all_full = True, changed = False
        cdef Backend* it
        for backend in range(self._count):
            if self._backends[backend].load.share != FULL_SHARE:
                all_full = False
        # 20,000 backends of the largest weight fit in the credits: more than limits can be shared.
        for backend in range(self._count):
            it = &self._backends[backend]
            weight = it.given_weight if all_full else it.given_weight * it.load.share
            if it.weight != weight:
                it.weight = weight
                changed = True
        return changed

    cdef Py_ssize_t _choose(self, uint64_t key) noexcept:
        return self._choose_other(key, -1)

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) noexcept:
        return self._draw_other(excluded)

    cdef int _end(self, Py_ssize_t backend, double latency_ms) except -1:
        self._check(backend)
        if self._backends[backend].load.active > 0:
            self._backends[backend].load.active -= 1
        return 0

    @cython.final
    cdef uint64_t _next_random(self) noexcept:
        self._loads._random += GOLDEN
        return mix(self._loads._random)

    @cython.final
    cdef bint _is_eligible(self, Py_ssize_t backend) noexcept:
        return self._backends[backend].load.eligible and not self._backends[backend].drained

    @cython.final
    cdef bint _is_other(self, Py_ssize_t backend, Py_ssize_t excluded) noexcept:
        return self._is_eligible(backend) and backend != excluded

    @cython.final
    cdef bint _counts_in(self, Py_ssize_t excluded) noexcept:
        """Return whether ``excluded`` is an eligible backend, and so part of the sums."""
        return 0 <= excluded < self._count and self._is_eligible(excluded)

    @cython.final
    cdef Py_ssize_t _draw_other(self, Py_ssize_t excluded) noexcept:
        """Return a weighted random eligible backend other than ``excluded``, or -1."""
        cdef uint64_t total = self._eligible_weight
        cdef int64_t at
        cdef Py_ssize_t backend
        if self._counts_in(excluded):
            total -= self._backends[excluded].weight
        at = (self._next_random() >> 32) * total >> 32
        for backend in range(self._count):
            if self._is_other(backend, excluded):
                if at < self._backends[backend].weight:
                    return backend
                at -= self._backends[backend].weight
        return -1

    @cython.final
    cdef bint _is_less_loaded(self, Py_ssize_t one, Py_ssize_t other) noexcept:
        """Return whether ``one`` has fewer active requests for its weight than ``other``."""
        cdef Backend* a = &self._backends[one]
        cdef Backend* b = &self._backends[other]
        return a.load.active * b.weight < b.load.active * a.weight


@cython.final
cdef class RoundRobin(Balancer):
    """Smooth weighted round-robin, of groups of equal weight and within each group."""

    def __init__(self, ids, weights, seed=0, loads=None):
        Balancer.__init__(self, ids, weights, seed, loads)
        self._shares = <int32_t*>self._allocate(self._count, sizeof(int32_t))
        self._credits = <int32_t*>self._allocate(self._count, sizeof(int32_t))
        self._groups = <Group*>self._allocate(self._count, sizeof(Group))
        self._group_of = <uint32_t*>self._allocate(self._count, sizeof(uint32_t))
        self._members = <uint32_t*>self._allocate(self._count, sizeof(uint32_t))
        self._seed = seed & 0xFFFFFFFFFFFFFFFF
        self._distinct = []
        self._arrange()

    cdef bint _weigh(self) except -1:
        if Balancer._weigh(self):
            self._arrange()
        return False

    cdef int _arrange(self) except -1:
        """Make a group for each weight; one that there was before keeps its turn.

        All begin anew when a first share is less than whole, and when the last is whole again: that
        scales the weights by which groups are known.
        """
        cdef Py_ssize_t backend, group
        cdef Py_ssize_t start = 0
        cdef dict turns = {
            weight: self._groups[group].turn for group, weight in enumerate(self._distinct)
        }
        weights = {self._backends[backend].weight for backend in range(self._count)}
        cdef list distinct = sorted(weights, reverse=True)
        cdef dict groups = {weight: group for group, weight in enumerate(distinct)}
        for group, weight in enumerate(distinct):
            self._groups[group].size = self._credits[group] = 0
            self._groups[group].turn = turns.get(weight, self._seed)
        for backend in range(self._count):
            group = self._group_of[backend] = groups[self._backends[backend].weight]
            self._groups[group].size += 1
        for group in range(len(distinct)):
            self._groups[group].members = self._members + start
            start += self._groups[group].size
        self._distinct = distinct
        self._count_of_groups = len(distinct)
        return 0

    cdef Py_ssize_t _choose(self, uint64_t key) noexcept:
        cdef Py_ssize_t group, best = 0
        cdef int32_t* shares = self._shares
        cdef int32_t* credits = self._credits
        cdef int32_t credit, richest = 0
        if self._changed:
            self._regroup()
        if self._eligible_count == 0:
            return -1
        # The first loop becomes vector code, so two are faster than one. Some credit is positive:
        # at this point they sum up to the whole weight.
        for group in range(self._count_of_groups):
            credit = credits[group] + shares[group]
            credits[group] = credit
            richest = max(richest, credit)
        while credits[best] != richest:
            best += 1
        credits[best] -= <int32_t>self._eligible_weight
        return _take_turn(&self._groups[best])

    cdef int _follow(self) except -1:
        Balancer._follow(self)
        cdef RoundRobin previous
        if self._shares_loads and self._loads._leader is not self:
            if self._changed:
                self._regroup()
            previous = self._loads._leader
            if previous is not None:
                self._take_turns_over(previous)
            self._loads._leader = self
        return 0

    cdef int _take_turns_over(self, RoundRobin previous) except -1:
        """Go on where another balancer was: weights keep their credit, backends their turn."""
        cdef Py_ssize_t group, other, step, backend
        cdef int64_t total = 0
        cdef Group* mine
        cdef Group* theirs
        cdef dict turns = {}
        for group in range(self._count_of_groups):
            for step in range(<Py_ssize_t>self._groups[group].size):
                backend = self._groups[group].members[step]
                turns[<size_t>self._backends[backend].load] = group, step
        for group, weight in enumerate(self._distinct):
            mine = &self._groups[group]
            if weight not in previous._distinct or mine.size == 0:
                continue
            other = previous._distinct.index(weight)
            theirs = &previous._groups[other]
            self._credits[group] = previous._credits[other]
            for step in range(<Py_ssize_t>theirs.size):
                backend = theirs.members[(theirs.turn + <uint64_t>step) % theirs.size]
                turn = turns.get(<size_t>previous._backends[backend].load)
                if turn is not None and turn[0] == group:
                    mine.turn = turn[1]
                    break
        for group in range(self._count_of_groups):
            total += self._credits[group]
        for group in range(self._count_of_groups):
            if self._groups[group].size != 0:
                self._credits[group] -= <int32_t>total
                break
        return 0

    cdef void _regroup(self) noexcept:
        cdef Py_ssize_t backend, group
        cdef Group* it
        for group in range(self._count_of_groups):
            self._groups[group].size = self._shares[group] = self._credits[group] = 0
        for backend in range(self._count):
            if self._is_eligible(backend):
                it = &self._groups[self._group_of[backend]]
                it.members[it.size] = backend
                it.size += 1
                self._shares[self._group_of[backend]] += <int32_t>self._backends[backend].weight
        for group in range(self._count_of_groups):
            if self._groups[group].size != 0:
                self._groups[group].turn %= self._groups[group].size
        self._changed = False


cdef inline Py_ssize_t _take_turn(Group* group) noexcept:
    cdef uint64_t turn = group.turn
    group.turn = turn + 1 if turn + 1 < group.size else 0
    return group.members[turn]


cdef class _Drawing(Balancer):
    """Weighted random draws in constant time, by Walker's alias method in Vose's form."""

    def __init__(self, ids, weights, seed=0, loads=None):
        Balancer.__init__(self, ids, weights, seed, loads)
        self._columns = <Column*>self._allocate(self._count, sizeof(Column))
        self._left = <int64_t*>self._allocate(self._count, sizeof(int64_t))
        self._small = <uint32_t*>self._allocate(self._count, sizeof(uint32_t))
        self._large = <uint32_t*>self._allocate(self._count, sizeof(uint32_t))

    cdef Py_ssize_t _draw(self) noexcept:
        """Return a weighted random eligible backend; there must be one."""
        cdef uint64_t number
        cdef int64_t at
        cdef Column* column
        if self._changed:
            self._fill_columns()
        number = self._next_random()
        column = &self._columns[(number >> 32) * <uint64_t>self._eligible_count >> 32]
        at = <uint32_t>number * <uint64_t>self._eligible_weight >> 32
        return column.backend if at < column.threshold else column.alias

    cdef void _fill_columns(self) noexcept:
        cdef int64_t total = self._eligible_weight
        cdef Py_ssize_t backend
        cdef Py_ssize_t count = 0, small = 0, large = 0
        cdef uint32_t column, giver
        for backend in range(self._count):
            if not self._is_eligible(backend):
                continue
            self._columns[count] = Column(total, backend, backend)
            self._left[count] = self._backends[backend].weight * self._eligible_count
            if self._left[count] < total:
                self._small[small] = count
                small += 1
            else:
                self._large[large] = count
                large += 1
            count += 1
        while small > 0:
            small -= 1
            column, giver = self._small[small], self._large[large - 1]
            self._columns[column].threshold = self._left[column]
            self._columns[column].alias = self._columns[giver].backend
            self._left[giver] -= total - self._left[column]
            if self._left[giver] < total:
                large -= 1
                self._small[small] = giver
                small += 1
        self._changed = False


@cython.final
cdef class Random(_Drawing):
    """Weighted random."""

    cdef Py_ssize_t _choose(self, uint64_t key) noexcept:
        return -1 if self._eligible_count == 0 else self._draw()


@cython.final
cdef class LeastRequest(_Drawing):
    """The less loaded of two weighted random draws, by requests in flight over weight.

    Those are of all workers, where that is known: two words that others write are read.
    """

    cdef int64_t _in_flight(self, Py_ssize_t backend) noexcept:
        cdef Backend* it = &self._backends[backend]
        return <int64_t>load_total(it.total) if it.total != NULL else it.load.active

    cdef Py_ssize_t _choose(self, uint64_t key) noexcept:
        cdef Py_ssize_t one, other
        if self._eligible_count == 0:
            return -1
        one = self._draw()
        other = self._draw()
        if one == other:
            other = self._draw()  # Once more: a single draw compares nothing.
        return self._less_loaded(one, other)

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) noexcept:
        cdef Py_ssize_t one = self._draw_other(excluded)
        cdef Py_ssize_t other = self._draw_other(excluded)
        return self._less_loaded(one, other) if one >= 0 else one

    cdef Py_ssize_t _less_loaded(self, Py_ssize_t one, Py_ssize_t other) noexcept:
        """Return the less loaded of two, and remember the other."""
        cdef bint is_other = (
            LeastRequest._in_flight(self, other) * self._backends[one].weight
            < LeastRequest._in_flight(self, one) * self._backends[other].weight
        )
        self._rival = one if is_other else other
        return other if is_other else one


include "balance_latency.pxi"
include "balance_hashing.pxi"
