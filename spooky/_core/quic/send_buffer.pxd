"""C declarations of what a stream sends, until the peer has it."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.ranges cimport RangeSet

cdef enum:
    # A small response is its head and its body.
    CHUNKS_INLINE = 2


cdef struct Chunk:
    uint64_t offset
    PyObject* data  # bytes, owned.


cdef class SendBuffer:
    cdef readonly uint64_t base  # All below is acknowledged.
    cdef readonly uint64_t next  # The lowest offset never sent.
    cdef readonly uint64_t end
    cdef readonly bint ended  # The stream ends at `end`.
    cdef bint _end_sent  # And is not lost.
    cdef bint _end_acked
    cdef RangeSet _lost  # None while there is none.
    cdef RangeSet _acked  # Above `base`; None while there is none.
    cdef Chunk* _chunks
    cdef Py_ssize_t _first
    cdef Py_ssize_t _count
    cdef Py_ssize_t _capacity
    cdef Py_ssize_t _hint  # Where the last read ended, counted from `_first`.
    cdef Chunk[CHUNKS_INLINE] _inline

    cpdef int append(self, bytes data, bint end) except -1
    # Whether there is something that flow control does not hold: lost data, or the end alone.
    cdef bint has_repeats(self) noexcept
    # What to send now, of the lost if there is any, else of the new below `limit`.
    cdef uint64_t pick(self, uint64_t limit, uint64_t* start) noexcept
    cdef void read(self, uint8_t* out, uint64_t offset, Py_ssize_t size) noexcept
    # Returns whether the end was sent with it.
    cdef bint on_sent(self, uint64_t start, uint64_t stop) except -1
    # Returns by how many bytes less is held.
    cdef Py_ssize_t on_acked(self, uint64_t start, uint64_t stop, bint end) except -1
    cdef int on_lost(self, uint64_t start, uint64_t stop, bint end) except -1
    cdef bint complete(self) noexcept  # The peer has all of it, and its end.
    cdef int _grow(self) except -1
    cdef void _release(self) noexcept
    cdef Py_ssize_t _find(self, uint64_t offset) noexcept
