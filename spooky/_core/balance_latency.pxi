"""The balancer that goes by latency; a part of ``balance.pyx``."""

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
                estimate = self._backends[backend].load.estimate
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
            sample = max(sample, self._backends[backend].load.estimate)
        self._estimate(backend, sample)

    def learn(self, Py_ssize_t backend, double latency_ms, int64_t count):
        """Take what so many requests took on average, as all workers saw it."""
        cdef double sample, kept = 1.0
        self._check(backend)
        if not (latency_ms >= 0.0 and count > 0):
            return
        sample = min(max(MIN_LATENCY_MS, latency_ms), MAX_LATENCY_MS)
        if self._has_estimate(backend):
            kept = (1.0 - EWMA_ALPHA) ** <double>min(count, LEARNT_MAX)
            sample += kept * (self._backends[backend].load.estimate - sample)
        self._estimate(backend, sample)

    cpdef note_choice(self, Py_ssize_t chosen, Admitted into):
        """Note all that were held against each other, as far as there is room."""
        cdef Py_ssize_t backend
        self._check(chosen)
        self._note(chosen, True, into)
        for backend in range(self._count):
            if into.candidates >= CANDIDATES:
                break
            if self._is_other(backend, chosen):
                self._note(backend, False, into)

    cdef double _score(self, Py_ssize_t backend, int64_t active, double weight) noexcept:
        if not self._has_estimate(backend):
            return NO_SCORE
        return (self._backends[backend].load.estimate + ACTIVE_CHARGE_MS * active) / weight

    cdef void _estimate(self, Py_ssize_t backend, double estimate) noexcept:
        self._backends[backend].load.estimate = estimate
        self._backends[backend].load.sampled_at = self._loads._picks

    cdef bint _has_estimate(self, Py_ssize_t backend) noexcept:
        cdef uint64_t age = self._loads._picks - self._backends[backend].load.sampled_at
        return self._backends[backend].load.estimate > 0.0 and age <= STALE_TURNS * self._count

    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) noexcept:
        cdef Py_ssize_t backend, best = -1, unknown = -1, idle = -1
        cdef double score, best_score = 0.0
        cdef Backend* it
        self._loads._picks += 1
        for backend in range(self._count):
            if not self._is_other(backend, excluded):
                continue
            it = &self._backends[backend]
            if not self._has_estimate(backend):
                if unknown < 0 or self._is_less_loaded(backend, unknown):
                    unknown = backend
                if idle < 0 and it.load.active == 0:
                    idle = backend
                continue
            score = (it.load.estimate + ACTIVE_CHARGE_MS * it.load.active) / it.weight
            if (
                best < 0
                or score < best_score
                or (score == best_score and it.load.active < self._backends[best].load.active)
            ):
                best, best_score = backend, score
        if best < 0:
            return unknown
        return idle if idle >= 0 and self._loads._picks % PROBE_EVERY == 0 else best
