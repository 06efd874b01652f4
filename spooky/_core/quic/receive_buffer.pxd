"""C declarations of stream data that waits for what comes before it."""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.ranges cimport RangeSet


cdef class ReceiveBuffer:
    cdef readonly RangeSet ranges  # What is held.
    cdef uint8_t** _pages  # NULL where nothing is held; the first is `_first_page`.
    cdef Py_ssize_t _page_count
    cdef Py_ssize_t _capacity
    cdef uint64_t _first_page

    # Keeps a copy of what lies above the offset last given to `ready`, or the first waited for.
    cdef int add(self, uint64_t offset, const uint8_t* data, Py_ssize_t size) except -1
    # Drops what is below `offset`; returns how many bytes follow it without a gap.
    cdef Py_ssize_t ready(self, uint64_t offset) noexcept
    # Returns bytes that are held; they stay until `ready` is told of an offset above them.
    cdef bytes read(self, uint64_t offset, Py_ssize_t size)
    cdef int _reach(self, uint64_t first, uint64_t last) except -1
