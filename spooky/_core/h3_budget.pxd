# C types for spooky/_core/pure/h3_budget.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

cdef int64_t _USELESS_FRAMES_PER_REQUEST, _USELESS_BYTES_PER_REQUEST


@cython.final
cdef class Budget:
    cdef int64_t _max_frames
    cdef int64_t _max_octets
    cdef int64_t _max_unidirectional
    cdef int64_t _max_aborted
    cdef int64_t _aborted
    cdef int64_t _frames
    cdef int64_t _octets
    cdef int64_t _unidirectional
    cdef public int64_t glitches
    cdef public int64_t requests

    @cython.locals(allowed=int64_t)
    cpdef object spend_frames(self, int64_t count)
    @cython.locals(allowed=int64_t)
    cpdef object spend_bytes(self, int64_t count)
    cpdef object spend_unidirectional(self)
    cpdef object spend_abort(self)
