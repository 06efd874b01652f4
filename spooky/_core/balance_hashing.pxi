"""The balancers that hash; a part of ``balance.pyx``."""

cdef class _Hashing(Balancer):
    """What ring and Maglev share: load bounds, and ranking when nothing eligible is near."""

    def __init__(self, ids, weights, seed=0, double balance_factor=0.0, loads=None):
        Balancer.__init__(self, ids, weights, seed, loads)
        if balance_factor != 0.0 and not (isfinite(balance_factor) and balance_factor >= 1.0):
            raise ValueError("balance_factor must be 0 (none) or at least 1.0")
        self._balance_factor = balance_factor
        self._by_id = <uint32_t*>self._allocate(self._count, sizeof(uint32_t))
        for rank, backend in enumerate(sorted(range(len(ids)), key=ids.__getitem__)):
            self._by_id[<Py_ssize_t>rank] = backend

    cdef bint _weigh(self) except -1:
        """Leave the weights as they are: the layout is made of them."""
        return False

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) noexcept:
        cdef Py_ssize_t backend, other
        cdef uint64_t jump
        if self._eligible_count - self._counts_in(excluded) == 0:
            return -1
        backend = self._locate(key, excluded)
        if self._balance_factor == 0.0:
            return backend
        self._rival = backend
        self._eligible_active = 0
        for other in range(self._count):
            if self._is_eligible(other):
                self._eligible_active += self._backends[other].load.active
        for jump in range(1, MAX_OVERFLOW_JUMPS + 1):
            if self._has_room(backend, excluded):
                return backend
            # To a random place, not the neighbour: one full backend must not fill the next.
            backend = self._locate(mix(key + jump * GOLDEN), excluded)
        return backend if self._has_room(backend, excluded) else self._least_loaded(excluded)

    cdef double _score(self, Py_ssize_t backend, int64_t active, double weight) noexcept:
        """Return how much of its bound a backend had in flight; without one it has no score."""
        if self._eligible_weight == 0:
            return NO_SCORE
        cdef double bound = self._balance_factor * weight * (self._eligible_active + 1)
        return active / (bound / self._eligible_weight)

    cdef Py_ssize_t _locate(self, uint64_t key, Py_ssize_t excluded) noexcept:
        """Return the eligible backend other than ``excluded`` for a key; there must be one."""
        return self._rank(key, excluded)

    cdef bint _has_room(self, Py_ssize_t backend, Py_ssize_t excluded) noexcept:
        """Return whether one more request keeps a backend within its bound."""
        cdef int64_t active = self._eligible_active
        cdef int64_t weight = self._eligible_weight
        cdef double share
        if self._counts_in(excluded):
            active -= self._backends[excluded].load.active
            weight -= self._backends[excluded].weight
        share = self._balance_factor * self._backends[backend].weight * (active + 1)
        return self._backends[backend].load.active * weight < share

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

    def __init__(self, ids, weights, seed=0, double balance_factor=0.0, loads=None):
        _Hashing.__init__(self, ids, weights, seed, balance_factor, loads)
        cdef bytearray unsorted
        cdef Point* points
        cdef Py_ssize_t rank, backend, size
        cdef int64_t number
        self._set_density()
        size = self._point_sum()
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

    cdef int _set_density(self) except -1:
        """Take the median weight, the lower of two, and how many points a backend of it has.

        In steps, so that of a large ring a change of one weight seldom changes it.
        """
        # Called before the first look at who is out: the eligible weight is the whole weight.
        cdef int64_t total = self._eligible_weight
        cdef int64_t points = RING_POINTS
        cdef list weights = sorted([self._backends[at].weight for at in range(self._count)])
        self._median = weights[(self._count - 1) // 2] if weights else 1
        while points > 1 and points * total > MAX_RING_POINTS * self._median:
            points -= max(1, points >> 4)
        # With weights far from each other one point for the median may be too many.
        self._of_median = points
        while self._point_sum() > max(MAX_RING_POINTS, self._count):
            self._median += max(1, self._median >> 4)
        return 0

    cdef int64_t _point_sum(self) noexcept:
        cdef int64_t points = 0
        cdef Py_ssize_t backend
        for backend in range(self._count):
            points += self._point_count(backend)
        return points

    cdef int64_t _point_count(self, Py_ssize_t backend) noexcept:
        cdef int64_t weight = self._backends[backend].weight
        return max(1, (self._of_median * weight + self._median // 2) // self._median)

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

    def __init__(self, ids, weights, seed=0, double balance_factor=0.0, loads=None):
        _Hashing.__init__(self, ids, weights, seed, balance_factor, loads)
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
