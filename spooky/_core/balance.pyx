# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Which backend of an upstream gets a request.

The rules are those of the twin, :mod:`spooky._core.pure.balance`, which explains them: the same
integers, the same doubles in the same order, the same random numbers.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.math cimport isfinite, log
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from spooky._core.pure import balance as _twin

cdef extern from "<endian.h>" nogil:
    uint64_t le64toh(uint64_t value)
    uint32_t le32toh(uint32_t value)

RING_LAYOUT_VERSION = _twin.RING_LAYOUT_VERSION

cdef int64_t MAX_WEIGHT = _twin.MAX_WEIGHT
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
cdef double FAILURE_LATENCY_MS = _twin.FAILURE_LATENCY_MS
cdef double ACTIVE_CHARGE_MS = _twin.ACTIVE_CHARGE_MS

cdef enum:
    MAGLEV_SIZE = 65537  # A constant for the compiler, which then divides by multiplying.

cdef uint64_t GOLDEN = 0x9E3779B97F4A7C15ULL
cdef uint64_t PRIME_1 = 0x9E3779B185EBCA87ULL
cdef uint64_t PRIME_2 = 0xC2B2AE3D27D4EB4FULL
cdef uint64_t PRIME_3 = 0x165667B19E3779F9ULL
cdef uint64_t PRIME_4 = 0x85EBCA77C2B2AE63ULL
cdef uint64_t PRIME_5 = 0x27D4EB2F165667C5ULL


cpdef uint64_t hash_key(bytes key) except? 0:
    """Return the 64-bit hash of a balancing key; stable across processes and releases.

    It is XXH64 with seed 0.
    """
    if key is None:
        raise TypeError("a key must be bytes")
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(key)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(key)
    cdef const unsigned char* end = at + length
    cdef uint64_t value
    cdef uint64_t[4] lanes
    cdef int lane
    if length >= 32:
        lanes = [PRIME_1 + PRIME_2, PRIME_2, 0, 0 - PRIME_1]
        while end - at >= 32:
            for lane in range(4):
                lanes[lane] = _round(lanes[lane], _word64(at + 8 * lane))
            at += 32
        value = (
            _rotate(lanes[0], 1) + _rotate(lanes[1], 7)
            + _rotate(lanes[2], 12) + _rotate(lanes[3], 18)
        )
        for lane in range(4):
            value = (value ^ _round(0, lanes[lane])) * PRIME_1 + PRIME_4
    else:
        value = PRIME_5
    value += <uint64_t>length
    while end - at >= 8:
        value = _rotate(value ^ _round(0, _word64(at)), 27) * PRIME_1 + PRIME_4
        at += 8
    if end - at >= 4:
        value = _rotate(value ^ _word32(at) * PRIME_1, 23) * PRIME_2 + PRIME_3
        at += 4
    while at < end:
        value = _rotate(value ^ at[0] * PRIME_5, 11) * PRIME_1
        at += 1
    value = (value ^ (value >> 33)) * PRIME_2
    value = (value ^ (value >> 29)) * PRIME_3
    return value ^ (value >> 32)


cdef inline uint64_t _word64(const unsigned char* at) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, at, 8)
    return le64toh(word)


cdef inline uint64_t _word32(const unsigned char* at) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, at, 4)
    return le32toh(word)


cdef inline uint64_t _rotate(uint64_t value, int bits) noexcept nogil:
    return value << bits | value >> (64 - bits)


cdef inline uint64_t _round(uint64_t lane, uint64_t word) noexcept nogil:
    return _rotate(lane + word * PRIME_2, 31) * PRIME_1


cdef inline uint64_t _mix(uint64_t value) noexcept nogil:
    """Return the SplitMix64 output for a state: every bit depends on every bit."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL
    return value ^ (value >> 31)


@cython.final
cdef class _Memory:
    """An array that lives as long as this object."""

    cdef void* start

    def __cinit__(self, size_t count, size_t size):
        self.start = PyMem_Calloc(count, size)
        if self.start == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.start)


cdef class Balancer:
    """Choices among the backends of one upstream, with their load.

    Backends are named by position. Every balancer honours weights and skips backends that are
    not eligible.

    Arguments:
        ids: Backend identities; hash layouts depend on these and the weights alone.
        weights: 1 to 1000 each.
        seed: Of the balancer's own random numbers.

    Raises:
        ValueError: A weight out of range, an identity twice, or not as many of both.
        IndexError: By every method, for a backend that does not exist.
    """

    def __cinit__(self):
        self._memories = []

    def __init__(self, ids, weights, seed=0):
        cdef Py_ssize_t backend
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
        self._random = seed & 0xFFFFFFFFFFFFFFFF
        for backend in range(self._count):
            self._backends[backend].weight = weights[backend]
            self._backends[backend].id_hash = hash_key(ids[backend])
            self._backends[backend].eligible = True

    def __len__(self):
        return self._count

    cpdef Py_ssize_t pick(self, uint64_t key=0) except? -2:
        """Return the backend for a request, or -1 if none is eligible.

        Arguments:
            key: ``hash_key`` of the balancing key; ignored by those that do not hash.
        """
        return self._choose(key)

    cpdef Py_ssize_t pick_other(self, uint64_t key, Py_ssize_t excluded) except? -2:
        """Return a backend other than ``excluded``, or -1; for a second try."""
        return self._choose_other(key, excluded)

    cpdef set_eligible(self, Py_ssize_t backend, bint eligible):
        """Put a backend in or out of the choice."""
        self._check(backend)
        cdef Backend* it = &self._backends[backend]
        cdef int sign = 1 if eligible else -1
        if it.eligible == eligible:
            return
        it.eligible = eligible
        self._eligible_count += sign
        self._eligible_weight += sign * it.weight
        self._eligible_active += sign * it.active
        self._changed = True

    cpdef started(self, Py_ssize_t backend):
        """Count a request as active on a backend."""
        self._check(backend)
        self._backends[backend].active += 1
        self._eligible_active += self._backends[backend].eligible

    cpdef finished(self, Py_ssize_t backend, double latency_ms=-1.0):
        """Count a request as ended.

        Arguments:
            latency_ms: Time to the response head; negative gives no latency sample.
        """
        self._end(backend, latency_ms)

    cpdef int64_t active(self, Py_ssize_t backend) except -1:
        """Return the number of active requests on a backend."""
        self._check(backend)
        return self._backends[backend].active

    cdef void* _allocate(self, size_t count, size_t size) except NULL:
        """Return a zeroed array that lives as long as the balancer."""
        cdef _Memory memory = _Memory(count, size)
        self._memories.append(memory)
        return memory.start

    @cython.final
    cdef int _check(self, Py_ssize_t backend) except -1:
        if not 0 <= backend < self._count:
            raise IndexError("no such backend")
        return 0

    cdef Py_ssize_t _choose(self, uint64_t key) except? -2:
        raise TypeError("a Balancer of no kind cannot pick")

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) except? -2:
        return self._draw_other(excluded)

    cdef int _end(self, Py_ssize_t backend, double latency_ms) except -1:
        self._check(backend)
        if self._backends[backend].active > 0:
            self._backends[backend].active -= 1
            self._eligible_active -= self._backends[backend].eligible
        return 0

    @cython.final
    cdef uint64_t _next_random(self) noexcept:
        self._random += GOLDEN
        return _mix(self._random)

    @cython.final
    cdef bint _is_other(self, Py_ssize_t backend, Py_ssize_t excluded) noexcept:
        return self._backends[backend].eligible and backend != excluded

    @cython.final
    cdef bint _counts_in(self, Py_ssize_t excluded) noexcept:
        """Return whether ``excluded`` is an eligible backend, and so part of the sums."""
        return 0 <= excluded < self._count and self._backends[excluded].eligible

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
        return a.active * b.weight < b.active * a.weight


@cython.final
cdef class RoundRobin(Balancer):
    """Smooth weighted round-robin.

    Backends of one weight form a group and take turns; the groups take turns by nginx's smooth
    algorithm: each earns its weight at every pick, the richest is picked and pays for all. So a
    pick costs one step for each distinct weight, and no sequence is stored, however long. The
    turns begin at backend ``seed`` of each group, so that workers do not move in step.
    """

    def __init__(self, ids, weights, seed=0):
        Balancer.__init__(self, ids, weights, seed)
        cdef list distinct = sorted(set(weights), reverse=True)
        cdef dict groups = {weight: group for group, weight in enumerate(distinct)}
        cdef Py_ssize_t backend, group
        cdef uint32_t start = 0
        self._groups = len(distinct)
        self._shares = <int32_t*>self._allocate(self._groups, sizeof(int32_t))
        self._credits = <int32_t*>self._allocate(self._groups, sizeof(int32_t))
        self._starts = <uint32_t*>self._allocate(self._groups, sizeof(uint32_t))
        self._sizes = <uint32_t*>self._allocate(self._groups, sizeof(uint32_t))
        self._cursors = <uint64_t*>self._allocate(self._groups, sizeof(uint64_t))
        self._members = <uint32_t*>self._allocate(self._count, sizeof(uint32_t))
        self._group_of = <uint32_t*>self._allocate(self._count, sizeof(uint32_t))
        for backend in range(self._count):
            self._group_of[backend] = groups[weights[backend]]
            self._sizes[self._group_of[backend]] += 1
        for group in range(self._groups):
            self._cursors[group] = self._random
            self._starts[group] = start
            start += self._sizes[group]

    cdef Py_ssize_t _choose(self, uint64_t key) except? -2:
        cdef Py_ssize_t group, best = 0
        cdef int32_t* shares = self._shares
        cdef int32_t* credits = self._credits
        cdef int32_t credit, richest = 0
        cdef uint64_t cursor
        if self._changed:
            self._regroup()
        if self._eligible_count == 0:
            return -1
        # Two plain loops rather than one clever one: the first becomes vector code. Some credit
        # is positive: at this point they sum up to the whole weight.
        for group in range(self._groups):
            credit = credits[group] + shares[group]
            credits[group] = credit
            richest = max(richest, credit)
        while credits[best] != richest:
            best += 1
        credits[best] -= <int32_t>self._eligible_weight
        cursor = self._cursors[best]
        self._cursors[best] = cursor + 1 if cursor + 1 < self._sizes[best] else 0
        return self._members[self._starts[best] + cursor]

    cdef void _regroup(self) noexcept:
        cdef Py_ssize_t backend, group
        for group in range(self._groups):
            self._sizes[group] = self._shares[group] = self._credits[group] = 0
        for backend in range(self._count):
            if self._backends[backend].eligible:
                group = self._group_of[backend]
                self._members[self._starts[group] + self._sizes[group]] = backend
                self._sizes[group] += 1
                self._shares[group] += <int32_t>self._backends[backend].weight
        for group in range(self._groups):
            if self._sizes[group] != 0:
                self._cursors[group] %= self._sizes[group]
        self._changed = False


cdef class _Drawing(Balancer):
    """Weighted random draws in constant time, by Walker's alias method in Vose's form.

    There is one column for each eligible backend. A column belongs to its backend up to a
    threshold, and to another, its alias, from there to the total weight.
    """

    def __init__(self, ids, weights, seed=0):
        Balancer.__init__(self, ids, weights, seed)
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
            if not self._backends[backend].eligible:
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

    cdef Py_ssize_t _choose(self, uint64_t key) except? -2:
        return -1 if self._eligible_count == 0 else self._draw()


@cython.final
cdef class LeastRequest(_Drawing):
    """The less loaded of two weighted random draws, by active requests over weight."""

    cdef Py_ssize_t _choose(self, uint64_t key) except? -2:
        cdef Py_ssize_t one, other
        if self._eligible_count == 0:
            return -1
        one = self._draw()
        other = self._draw()
        if one == other:
            other = self._draw()  # Once more: a single draw compares nothing.
        return other if self._is_less_loaded(other, one) else one

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) except? -2:
        cdef Py_ssize_t one = self._draw_other(excluded)
        cdef Py_ssize_t other = self._draw_other(excluded)
        return other if one >= 0 and self._is_less_loaded(other, one) else one


@cython.final
cdef class LatencyAware(Balancer):
    """Lowest latency estimate (EWMA) plus a charge for active requests, over weight.

    A failed request is reported through ``failed`` so that fast errors attract no traffic.
    Backends without an estimate, or with a stale one, are tried now and then while idle; while
    no backend has one, the fewest active requests for the weight decide.
    """

    cdef Py_ssize_t _choose(self, uint64_t key) except? -2:
        return self._best(-1)

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) except? -2:
        return self._best(excluded)

    cdef int _end(self, Py_ssize_t backend, double latency_ms) except -1:
        cdef double estimate, sample
        Balancer._end(self, backend, latency_ms)
        if latency_ms >= 0.0:
            sample = min(max(MIN_LATENCY_MS, latency_ms), MAX_LATENCY_MS)
            if self._has_estimate(backend):
                estimate = self._backends[backend].estimate
                sample = estimate + EWMA_ALPHA * (sample - estimate)
            self._estimate(backend, sample)
        return 0

    cpdef failed(self, Py_ssize_t backend, double elapsed_ms):
        """Count a request as ended badly: the estimate rises to at least a second."""
        cdef double sample = FAILURE_LATENCY_MS
        Balancer._end(self, backend, -1.0)
        if elapsed_ms > sample:
            sample = min(elapsed_ms, MAX_LATENCY_MS)
        if self._has_estimate(backend):
            sample = max(sample, self._backends[backend].estimate)
        self._estimate(backend, sample)

    cdef void _estimate(self, Py_ssize_t backend, double estimate) noexcept:
        self._backends[backend].estimate = estimate
        self._backends[backend].sampled_at = self._picks

    cdef bint _has_estimate(self, Py_ssize_t backend) noexcept:
        cdef uint64_t age = self._picks - self._backends[backend].sampled_at
        return self._backends[backend].estimate > 0.0 and age <= STALE_TURNS * self._count

    cdef Py_ssize_t _best(self, Py_ssize_t excluded) noexcept:
        cdef Py_ssize_t backend, best = -1, unknown = -1, idle = -1
        cdef double score, best_score = 0.0
        cdef Backend* it
        self._picks += 1
        for backend in range(self._count):
            if not self._is_other(backend, excluded):
                continue
            it = &self._backends[backend]
            if not self._has_estimate(backend):
                if unknown < 0 or self._is_less_loaded(backend, unknown):
                    unknown = backend
                if idle < 0 and it.active == 0:
                    idle = backend
                continue
            score = (it.estimate + ACTIVE_CHARGE_MS * it.active) / it.weight
            if (
                best < 0
                or score < best_score
                or (score == best_score and it.active < self._backends[best].active)
            ):
                best, best_score = backend, score
        if best < 0:
            return unknown
        return idle if idle >= 0 and self._picks % PROBE_EVERY == 0 else best


cdef class _Hashing(Balancer):
    """What ring and Maglev share: load bounds, and ranking when nothing eligible is near."""

    def __init__(self, ids, weights, seed=0, double balance_factor=0.0):
        Balancer.__init__(self, ids, weights, seed)
        if balance_factor != 0.0 and not (isfinite(balance_factor) and balance_factor >= 1.0):
            raise ValueError("balance_factor must be 0 (none) or at least 1.0")
        self._balance_factor = balance_factor
        self._by_id = <uint32_t*>self._allocate(self._count, sizeof(uint32_t))
        for rank, backend in enumerate(sorted(range(len(ids)), key=ids.__getitem__)):
            self._by_id[<Py_ssize_t>rank] = backend

    cdef Py_ssize_t _choose(self, uint64_t key) except? -2:
        return self._choose_other(key, -1)

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) except? -2:
        cdef Py_ssize_t backend
        cdef uint64_t jump
        if self._eligible_count - self._counts_in(excluded) == 0:
            return -1
        backend = self._locate(key, excluded)
        if self._balance_factor == 0.0:
            return backend
        for jump in range(1, MAX_OVERFLOW_JUMPS + 1):
            if self._has_room(backend, excluded):
                return backend
            # To a random place, not the neighbour: one full backend must not fill the next.
            backend = self._locate(_mix(key + jump * GOLDEN), excluded)
        return backend if self._has_room(backend, excluded) else self._least_loaded(excluded)

    cdef Py_ssize_t _locate(self, uint64_t key, Py_ssize_t excluded) noexcept:
        """Return the eligible backend other than ``excluded`` for a key; there must be one."""
        return self._rank(key, excluded)

    cdef bint _has_room(self, Py_ssize_t backend, Py_ssize_t excluded) noexcept:
        """Return whether one more request keeps a backend within its bound."""
        cdef int64_t active = self._eligible_active
        cdef int64_t weight = self._eligible_weight
        cdef double share
        if self._counts_in(excluded):
            active -= self._backends[excluded].active
            weight -= self._backends[excluded].weight
        share = self._balance_factor * self._backends[backend].weight * (active + 1)
        return self._backends[backend].active * weight < share

    cdef Py_ssize_t _least_loaded(self, Py_ssize_t excluded) noexcept:
        cdef Py_ssize_t backend, best = -1
        for backend in range(self._count):
            if self._is_other(backend, excluded):
                if best < 0 or self._is_less_loaded(backend, best):
                    best = backend
        return best

    cdef Py_ssize_t _rank(self, uint64_t key, Py_ssize_t excluded) noexcept:
        """Return the backend of a key by weighted rendezvous hashing, in O(backends)."""
        cdef Py_ssize_t backend, best = -1
        cdef double score, best_score = 0.0
        cdef uint64_t number
        for backend in range(self._count):
            if self._is_other(backend, excluded):
                number = _mix(key ^ self._backends[backend].id_hash)
                score = -log((<double>(number >> 12) + 0.5) * 2.0**-52)
                score /= self._backends[backend].weight
                if best < 0 or score < best_score:
                    best, best_score = backend, score
        return best


@cython.final
cdef class RingHash(_Hashing):
    """Consistent hashing on a ring.

    A key belongs to the first point at or after it. Points come from the backend's id alone,
    their number from its weight over the mean weight: a backend that joins or leaves moves about
    its own share of the keys, and backends that are not eligible are walked past, not removed.

    Arguments:
        balance_factor: 0 for none, else at least 1.0: a backend takes at most this times its fair
            share of active requests, and the overflow jumps elsewhere (bounded load).
    """

    def __init__(self, ids, weights, seed=0, double balance_factor=0.0):
        _Hashing.__init__(self, ids, weights, seed, balance_factor)
        cdef _Memory memory
        cdef Point* points
        cdef Py_ssize_t rank, backend, size = 0
        cdef int64_t number
        for backend in range(self._count):
            size += self._point_count(backend)
        memory = _Memory(size, sizeof(Point))
        points = <Point*>memory.start
        for rank in range(self._count):
            backend = self._by_id[rank]
            for number in range(1, self._point_count(backend) + 1):
                points.position = _mix(self._backends[backend].id_hash + number * GOLDEN)
                points.owner = backend
                points += 1
        self._size = size
        self._sort(<Point*>memory.start)

    cdef int64_t _point_count(self, Py_ssize_t backend) noexcept:
        # Called before any backend can be out: the eligible weight is the whole weight.
        cdef int64_t total = self._eligible_weight
        cdef int64_t of_mean_weight = min(RING_POINTS, max(1, MAX_RING_POINTS // self._count))
        cdef int64_t weight = self._backends[backend].weight
        return max(1, (of_mean_weight * self._count * weight + total // 2) // total)

    cdef int _sort(self, Point* unsorted) except -1:
        """Sort points into stretches of about one point each, and within the stretches.

        Points are spread evenly by their hash, so this is linear. It is stable: points at one
        position stay in the order of their backends' ids.
        """
        cdef Py_ssize_t stretches = 2
        cdef Py_ssize_t index, at
        cdef uint32_t* first
        cdef Point point
        self._shift = 63
        while stretches < self._size:
            stretches *= 2
            self._shift -= 1
        self._points = <Point*>self._allocate(self._size, sizeof(Point))
        self._first = first = <uint32_t*>self._allocate(stretches + 1, sizeof(uint32_t))
        for index in range(self._size):
            first[(unsorted[index].position >> self._shift) + 1] += 1
        for index in range(stretches):
            first[index + 1] += first[index]
        for index in range(self._size):
            at = first[unsorted[index].position >> self._shift]
            first[unsorted[index].position >> self._shift] += 1
            self._points[at] = unsorted[index]
        for index in range(stretches, 0, -1):  # Each entry had moved to the start of the next.
            first[index] = first[index - 1]
        first[0] = 0
        for index in range(1, self._size):
            point = self._points[index]
            at = index
            while at > 0 and self._points[at - 1].position > point.position:
                self._points[at] = self._points[at - 1]
                at -= 1
            self._points[at] = point
        return 0

    cdef Py_ssize_t _locate(self, uint64_t key, Py_ssize_t excluded) noexcept:
        cdef Py_ssize_t at = self._first[key >> self._shift]
        cdef Py_ssize_t owner
        while at < self._size and self._points[at].position < key:
            at += 1
        for _ in range(min(MAX_RING_WALK, self._size)):
            if at == self._size:
                at = 0
            owner = self._points[at].owner
            if self._is_other(owner, excluded):
                return owner
            at += 1
        return self._rank(key, excluded)


@cython.final
cdef class Maglev(_Hashing):
    """Maglev hashing on a table of prime size.

    Backends take the slots of the table in turns, as often as their weights say. The slot of a
    key names its backend; if that is not eligible, the key is hashed again to another slot, so
    only the keys of that backend move, and return with it. A backend that joins or leaves moves
    its share and a little more.

    Arguments:
        balance_factor: As for ``RingHash``.
    """

    def __init__(self, ids, weights, seed=0, double balance_factor=0.0):
        _Hashing.__init__(self, ids, weights, seed, balance_factor)
        if len(ids) >= MAGLEV_SIZE:
            raise ValueError(f"Maglev takes fewer than {MAGLEV_SIZE} backends")
        self._table = <uint16_t*>self._allocate(MAGLEV_SIZE, sizeof(uint16_t))
        if self._count > 0:
            self._fill_table()

    cdef int _fill_table(self) except -1:
        cdef _Memory taken_memory = _Memory(MAGLEV_SIZE, 1)
        cdef _Memory slots_memory = _Memory(self._count, sizeof(int64_t))
        cdef _Memory earned_memory = _Memory(self._count, sizeof(int64_t))
        cdef char* taken = <char*>taken_memory.start
        cdef int64_t* slots = <int64_t*>slots_memory.start
        cdef int64_t* earned = <int64_t*>earned_memory.start
        cdef int64_t heaviest = 0, slot, skip
        cdef Py_ssize_t rank, filled = 0
        cdef Backend* it
        for rank in range(self._count):
            it = &self._backends[self._by_id[rank]]
            heaviest = max(heaviest, it.weight)
            slots[rank] = it.id_hash % MAGLEV_SIZE
        while True:
            for rank in range(self._count):
                it = &self._backends[self._by_id[rank]]
                earned[rank] += it.weight
                if earned[rank] < heaviest:
                    continue
                earned[rank] -= heaviest
                slot = slots[rank]
                skip = _mix(it.id_hash) % (MAGLEV_SIZE - 1) + 1
                while taken[slot]:
                    slot += skip
                    if slot >= MAGLEV_SIZE:
                        slot -= MAGLEV_SIZE
                taken[slot] = True
                self._table[slot] = self._by_id[rank]
                slots[rank] = slot
                filled += 1
                if filled == MAGLEV_SIZE:
                    return 0

    cdef Py_ssize_t _locate(self, uint64_t key, Py_ssize_t excluded) noexcept:
        cdef uint64_t probe = key
        cdef Py_ssize_t backend
        for _ in range(MAX_MAGLEV_PROBES):
            backend = self._table[probe % MAGLEV_SIZE]
            if self._is_other(backend, excluded):
                return backend
            probe = _mix(probe + GOLDEN)
        return self._rank(key, excluded)
