# C types for spooky/_core/pure/breaker.py, which is the source.

cimport cython
from libc.stdint cimport int64_t, uint64_t

from spooky._core.shared cimport Words

cdef int64_t _REFUSED, _TICKET_FAILURES, _TICKET_PROBE, _TICKET_ROUND_SHIFT
cdef int _STATE, _FAILURES, _CLOSED, _OPEN, _HALF_OPEN
cdef uint64_t _NO_RESULT
cdef uint64_t _PROBES_MASK, _STREAK_MASK, _ROUND_MASK
cdef int _STREAK_SHIFT, _ROUND_SHIFT, _UNTIL_SHIFT


@cython.final
cdef class Breaker:
    cdef Words _words
    cdef uint64_t _threshold
    cdef uint64_t _open_initial_ms
    cdef uint64_t _open_max_ms
    cdef uint64_t _probes
    cdef object _on_change

    @cython.locals(state=uint64_t)
    cpdef int64_t enter(self, double now) except? -2
    cpdef bint succeeded(self, int64_t ticket) except -1
    cpdef object answered(self, int64_t ticket)
    @cython.locals(state=uint64_t, failures=uint64_t)
    cpdef bint failed(self, int64_t ticket, double now) except -1
    @cython.locals(state=uint64_t, left=uint64_t)
    cpdef object gave_up(self, int64_t ticket)
    @cython.locals(state=uint64_t)
    cpdef double remaining(self, double now) except? -1
    cdef int64_t _ticket(self, uint64_t state) noexcept
    cdef bint _is_current(self, int64_t ticket) except -1
    @cython.locals(probes=uint64_t, until=uint64_t, streak=uint64_t, taken=uint64_t)
    cdef int64_t _probe(self, uint64_t state, uint64_t now_ms) except? -2
    @cython.locals(state=uint64_t)
    cdef bint _end_probe(self, int64_t ticket) except -1
    @cython.locals(streak=uint64_t, length=uint64_t, opened=uint64_t)
    cdef bint _open(self, uint64_t state, uint64_t now_ms) except -1
    cdef uint64_t _state(self, uint64_t until, uint64_t round_, uint64_t streak, uint64_t probes) noexcept
    cdef object _tell(self, int phase, uint64_t open_ms)
    cdef uint64_t _next_round(self, uint64_t state) noexcept
