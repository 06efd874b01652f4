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

from spooky._core.hashing cimport GOLDEN, mix, xxh64
from spooky._core.pure import balance as _twin

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


cpdef uint64_t hash_key(bytes key) except? 0:
    """Return the 64-bit hash of a balancing key; stable across processes and releases.

    It is XXH64 with seed 0.
    """
    if key is None:
        raise TypeError("a key must be bytes")
    return xxh64(<const unsigned char*>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))


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
        cdef bytearray memory = bytearray(count * size + 1)
        self._memories.append(memory)
        return PyByteArray_AS_STRING(memory)

    @cython.final
    cdef int _check(self, Py_ssize_t backend) except -1:
        if not 0 <= backend < self._count:
            raise IndexError("no such backend")
        return 0

    cdef Py_ssize_t _choose(self, uint64_t key) noexcept:
        return self._choose_other(key, -1)

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) noexcept:
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
        return mix(self._random)

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
    """Smooth weighted round-robin, of groups of equal weight and within each group."""

    def __init__(self, ids, weights, seed=0):
        Balancer.__init__(self, ids, weights, seed)
        cdef list distinct = sorted(set(weights), reverse=True)
        cdef dict groups = {weight: group for group, weight in enumerate(distinct)}
        cdef Py_ssize_t backend, group
        cdef Py_ssize_t start = 0
        self._count_of_groups = len(distinct)
        self._shares = <int32_t*>self._allocate(len(distinct), sizeof(int32_t))
        self._credits = <int32_t*>self._allocate(len(distinct), sizeof(int32_t))
        self._groups = <Group*>self._allocate(len(distinct), sizeof(Group))
        self._group_of = <uint32_t*>self._allocate(self._count, sizeof(uint32_t))
        self._members = <uint32_t*>self._allocate(self._count, sizeof(uint32_t))
        for backend in range(self._count):
            group = self._group_of[backend] = groups[weights[backend]]
            self._groups[group].size += 1
        for group in range(self._count_of_groups):
            self._groups[group].members = self._members + start
            self._groups[group].turn = self._random
            start += self._groups[group].size

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

    cdef void _regroup(self) noexcept:
        cdef Py_ssize_t backend, group
        cdef Group* it
        for group in range(self._count_of_groups):
            self._groups[group].size = self._shares[group] = self._credits[group] = 0
        for backend in range(self._count):
            if self._backends[backend].eligible:
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

    cdef Py_ssize_t _choose(self, uint64_t key) noexcept:
        return -1 if self._eligible_count == 0 else self._draw()


@cython.final
cdef class LeastRequest(_Drawing):
    """The less loaded of two weighted random draws, by active requests over weight."""

    cdef Py_ssize_t _choose(self, uint64_t key) noexcept:
        cdef Py_ssize_t one, other
        if self._eligible_count == 0:
            return -1
        one = self._draw()
        other = self._draw()
        if one == other:
            other = self._draw()  # Once more: a single draw compares nothing.
        return other if self._is_less_loaded(other, one) else one

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) noexcept:
        cdef Py_ssize_t one = self._draw_other(excluded)
        cdef Py_ssize_t other = self._draw_other(excluded)
        return other if one >= 0 and self._is_less_loaded(other, one) else one


@cython.final
cdef class LatencyAware(Balancer):
    """Lowest latency estimate (EWMA) plus a charge for active requests, over weight.

    A failed request is reported through ``failed`` so that fast errors attract no traffic.
    """

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

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) noexcept:
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

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) noexcept:
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
            backend = self._locate(mix(key + jump * GOLDEN), excluded)
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
                number = mix(key ^ self._backends[backend].id_hash)
                score = -log((<double>(number >> 12) + 0.5) * 2.0**-52)
                score /= self._backends[backend].weight
                if best < 0 or score < best_score:
                    best, best_score = backend, score
        return best


@cython.final
cdef class RingHash(_Hashing):
    """Consistent hashing on a ring, with bounded load if ``balance_factor`` is at least 1.0."""

    def __init__(self, ids, weights, seed=0, double balance_factor=0.0):
        _Hashing.__init__(self, ids, weights, seed, balance_factor)
        cdef bytearray unsorted
        cdef Point* points
        cdef Py_ssize_t rank, backend, size = 0
        cdef int64_t number
        for backend in range(self._count):
            size += self._point_count(backend)
        unsorted = bytearray(size * sizeof(Point))
        points = <Point*>PyByteArray_AS_STRING(unsorted)
        for rank in range(self._count):
            backend = self._by_id[rank]
            for number in range(1, self._point_count(backend) + 1):
                points.position = mix(self._backends[backend].id_hash + number * GOLDEN)
                points.owner = backend
                points += 1
        self._size = size
        self._sort(<Point*>PyByteArray_AS_STRING(unsorted))

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
    """Maglev hashing on a table of prime size, with bounded load like ``RingHash``."""

    def __init__(self, ids, weights, seed=0, double balance_factor=0.0):
        _Hashing.__init__(self, ids, weights, seed, balance_factor)
        if len(ids) >= MAGLEV_SIZE:
            raise ValueError(f"Maglev takes fewer than {MAGLEV_SIZE} backends")
        self._table = <uint16_t*>self._allocate(MAGLEV_SIZE, sizeof(uint16_t))
        if self._count > 0:
            self._fill_table()

    cdef int _fill_table(self) except -1:
        cdef bytearray taken = bytearray(MAGLEV_SIZE)
        cdef bytearray memory = bytearray(self._count * sizeof(Turn))
        cdef Turn* turns = <Turn*>PyByteArray_AS_STRING(memory)
        cdef Turn* turn
        cdef int64_t heaviest = 0
        cdef uint64_t id_hash
        cdef Py_ssize_t rank, filled = 0
        for rank in range(self._count):
            id_hash = self._backends[self._by_id[rank]].id_hash
            turns[rank].slot = id_hash % MAGLEV_SIZE
            turns[rank].skip = mix(id_hash) % (MAGLEV_SIZE - 1) + 1
            turns[rank].weight = self._backends[self._by_id[rank]].weight
            heaviest = max(heaviest, turns[rank].weight)
        while True:
            for rank in range(self._count):
                turn = &turns[rank]
                turn.earned += turn.weight
                if turn.earned < heaviest:
                    continue
                turn.earned -= heaviest
                while taken[turn.slot]:
                    turn.slot = (turn.slot + turn.skip) % MAGLEV_SIZE
                taken[turn.slot] = True
                self._table[turn.slot] = self._by_id[rank]
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
            probe = mix(probe + GOLDEN)
        return self._rank(key, excluded)
