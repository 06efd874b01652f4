"""C declarations of the balancers."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

from spooky._core.decisions cimport Admitted
from spooky._core.shared cimport Limit

cpdef uint64_t hash_key(bytes key) except? 0


cdef struct LoadState:
    int64_t active
    double estimate
    uint64_t sampled_at
    int32_t share  # Percent of its weight.
    bint eligible


cdef struct Backend:
    int64_t weight  # As far as its share goes.
    int64_t given_weight
    uint64_t id_hash
    LoadState* load
    uint64_t* total  # In flight from all workers, if that is known.
    bint drained


cdef struct Group:
    uint32_t* members
    uint64_t size
    uint64_t turn


cdef struct Column:
    int64_t threshold
    uint32_t backend
    uint32_t alias


cdef struct Point:
    uint64_t position
    uint32_t owner


cdef struct Turn:
    int64_t weight
    int64_t earned
    uint32_t slot
    uint32_t skip


cdef class BackendLoad:
    cdef LoadState _state
    cdef object __weakref__


cdef class Loads:
    cdef uint64_t _random
    cdef uint64_t _picks
    # Counts changes of eligibility and shares, which all have to notice.
    cdef uint64_t _version
    cdef object _leader
    cdef object _of

    cdef BackendLoad _load_of(self, bytes identity)


cdef class Balancer:
    cdef list _memories
    cdef list _limits
    cdef Backend* _backends
    cdef Py_ssize_t _count
    cdef Py_ssize_t _eligible_count
    cdef int64_t _eligible_weight
    cdef int64_t _eligible_active
    cdef bint _changed
    cdef Loads _loads
    cdef bint _shares_loads
    cdef uint64_t _version
    # What the last choice was held against; -1 for nobody.
    cdef Py_ssize_t _rival

    cpdef Py_ssize_t pick(self, uint64_t key=*) except? -2
    cpdef Py_ssize_t pick_other(self, uint64_t key, Py_ssize_t excluded) except? -2
    cpdef set_eligible(self, Py_ssize_t backend, bint eligible)
    cpdef set_share(self, Py_ssize_t backend, int percent)
    cpdef drain(self, Py_ssize_t backend)
    cpdef count_by(self, Py_ssize_t backend, Limit limit)
    cpdef started(self, Py_ssize_t backend)
    cpdef finished(self, Py_ssize_t backend, double latency_ms=*)
    cpdef failed(self, Py_ssize_t backend, double elapsed_ms)
    cpdef int64_t active(self, Py_ssize_t backend) except -1
    cpdef Py_ssize_t excluded(self) noexcept
    cpdef note_choice(self, Py_ssize_t chosen, Admitted into)
    @cython.final
    cdef int _note(self, Py_ssize_t backend, bint chosen, Admitted into) except -1
    cdef int64_t _in_flight(self, Py_ssize_t backend) noexcept
    cdef double _score(self, Py_ssize_t backend, int64_t active, double weight) noexcept
    cdef void* _allocate(self, size_t count, size_t size) except NULL
    @cython.final
    cdef int _check(self, Py_ssize_t backend) except -1
    cdef int _end(self, Py_ssize_t backend, double latency_ms) except -1
    cdef int _follow(self) except -1
    cdef bint _weigh(self) except -1
    cdef Py_ssize_t _choose(self, uint64_t key) noexcept
    cdef Py_ssize_t _choose_other(self, uint64_t key, Py_ssize_t excluded) noexcept
    @cython.final
    cdef uint64_t _next_random(self) noexcept
    @cython.final
    cdef bint _is_eligible(self, Py_ssize_t backend) noexcept
    @cython.final
    cdef bint _is_other(self, Py_ssize_t backend, Py_ssize_t excluded) noexcept
    @cython.final
    cdef bint _counts_in(self, Py_ssize_t excluded) noexcept
    @cython.final
    cdef Py_ssize_t _draw_other(self, Py_ssize_t excluded) noexcept
    @cython.final
    cdef bint _is_less_loaded(self, Py_ssize_t one, Py_ssize_t other) noexcept


cdef class RoundRobin(Balancer):
    cdef Py_ssize_t _count_of_groups
    cdef Group* _groups
    cdef int32_t* _shares  # By group: its weight times its eligible members.
    cdef int32_t* _credits
    cdef uint32_t* _group_of
    cdef uint32_t* _members
    cdef list _distinct
    cdef uint64_t _seed

    cdef int _arrange(self) except -1
    cdef int _take_turns_over(self, RoundRobin previous) except -1
    cdef void _regroup(self) noexcept


cdef class _Drawing(Balancer):
    cdef Column* _columns
    cdef int64_t* _left
    cdef uint32_t* _small
    cdef uint32_t* _large

    cdef Py_ssize_t _draw(self) noexcept
    cdef void _fill_columns(self) noexcept


cdef class Random(_Drawing):
    pass


cdef class LeastRequest(_Drawing):
    cdef Py_ssize_t _less_loaded(self, Py_ssize_t one, Py_ssize_t other) noexcept


cdef class LatencyAware(Balancer):
    cdef void _estimate(self, Py_ssize_t backend, double estimate) noexcept
    cdef bint _has_estimate(self, Py_ssize_t backend) noexcept


cdef class _Hashing(Balancer):
    cdef double _balance_factor
    cdef uint32_t* _by_id

    cdef Py_ssize_t _locate(self, uint64_t key, Py_ssize_t excluded) noexcept
    cdef bint _has_room(self, Py_ssize_t backend, Py_ssize_t excluded) noexcept
    cdef Py_ssize_t _least_loaded(self, Py_ssize_t excluded) noexcept
    cdef Py_ssize_t _rank(self, uint64_t key, Py_ssize_t excluded) noexcept


cdef class RingHash(_Hashing):
    cdef Py_ssize_t _size
    cdef Point* _points
    # The first point of each of 2**(64 - _shift) equal stretches of the ring.
    cdef uint32_t* _first
    cdef int _shift
    # The median weight, and how many points a backend of it has.
    cdef int64_t _median
    cdef int64_t _of_median

    cdef int _set_density(self) except -1
    cdef int64_t _point_sum(self) noexcept
    cdef int64_t _point_count(self, Py_ssize_t backend) noexcept
    cdef int _sort(self, Point* unsorted) except -1


cdef class Maglev(_Hashing):
    cdef uint16_t* _table

    cdef int _fill_table(self) except -1
