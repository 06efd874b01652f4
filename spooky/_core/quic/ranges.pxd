"""C declarations of sets of numbers that come in long runs."""

from libc.stdint cimport uint64_t


cdef struct Range:
    uint64_t start
    uint64_t stop  # Exclusive.


cdef class RangeSet:
    cdef Range* items  # Sorted, disjoint and not touching; NULL while nothing was ever added.
    cdef readonly Py_ssize_t count
    cdef Range* _block  # The allocation, in which `items` starts at any place.
    cdef Py_ssize_t _capacity

    cpdef bint add(self, uint64_t start, uint64_t stop) except -1
    cpdef bint contains(self, uint64_t value) noexcept
    cpdef int remove(self, uint64_t start, uint64_t stop) except -1
    cpdef void remove_below(self, uint64_t value) noexcept
    cpdef void keep_newest(self, Py_ssize_t most) noexcept
    cpdef void clear(self) noexcept
    cdef Py_ssize_t _first_ending_at_or_after(self, uint64_t value) noexcept
    cdef int _open(self, Py_ssize_t index) except -1
    cdef void _close(self, Py_ssize_t index, Py_ssize_t stop) noexcept
    cdef int _spread(self) except -1
