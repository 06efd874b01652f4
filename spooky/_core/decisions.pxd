"""C declarations of the ring of recent decisions."""

from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef class Notes:
    cdef bytearray _data
    cdef readonly int count
    cdef readonly int dropped

    cpdef bint add(
        self, int kind, double at, int reason, str name, double first=*, double second=*,
        double third=*, double fourth=*,
    ) except -1


cdef enum:
    STAGE_BYTES = 20
    STAGES = 6
    CANDIDATE_BYTES = 20
    CANDIDATES = 6


cdef class Admitted:
    cdef uint8_t[STAGE_BYTES * STAGES] _data
    cdef uint8_t[CANDIDATE_BYTES * CANDIDATES] _compared
    cdef readonly int count
    cdef readonly int candidates

    cpdef add(self, str name, int64_t value, int64_t limit)
    cpdef add_candidate(
        self, Py_ssize_t position, bint is_chosen, int64_t active, double weight, double latency,
        double score,
    )


cdef class Ring:
    cdef Py_buffer _buffer
    cdef bint _held
    cdef uint8_t* _area
    cdef uint64_t* _words
    cdef uint64_t _room

    cpdef bint write(
        self, str request_id, uint64_t generation, double started, double connected,
        double first_byte, double ended, int reason, int status, uint64_t received,
        uint64_t sent, str protocol, str upstream_protocol, str upstream, str backend,
        bytes method, bytes host, bytes path, Admitted admitted=*, Notes notes=*,
    ) except -1
    cpdef bytes find(self, uint64_t key)
    cdef uint64_t _capacity(self) noexcept
    cdef uint64_t _size_at(self, uint64_t position, uint64_t head, uint64_t capacity) noexcept
