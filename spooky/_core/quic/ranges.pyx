# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Sets of numbers that come in long runs: packet numbers, offsets of a stream.

The ranges stand in the middle of one block, so that adding at either end, as arriving packets and
the descending ranges of an ACK frame do, moves nothing.
"""

cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

cdef Py_ssize_t SMALLEST_CAPACITY = 4


@cython.final
cdef class RangeSet:
    """A set of numbers below 2**64 - 1, kept as sorted ranges.

    Adding at either end takes constant time, adding elsewhere moves the ranges on the shorter
    side. Memory is proportional to the number of ranges, which the caller bounds.

    Attributes:
        count: The number of ranges.
    """

    def __dealloc__(self):
        free(self._block)

    def ranges(self):
        """Return the ranges in ascending order, each with its exclusive end."""
        cdef Py_ssize_t index
        return [(self.items[index].start, self.items[index].stop) for index in range(self.count)]

    cpdef bint add(self, uint64_t start, uint64_t stop) except -1:
        """Add ``start`` up to and without ``stop``; return whether any of it is new."""
        cdef Py_ssize_t first, after
        cdef Range* last
        if start >= stop:
            return False
        if self.count:
            last = &self.items[self.count - 1]
            if last.start <= start <= last.stop:
                if stop <= last.stop:
                    return False
                last.stop = stop
                return True
        first = self._first_ending_at_or_after(start)
        if first == self.count or stop < self.items[first].start:
            self._open(first)
            self.items[first].start = start
            self.items[first].stop = stop
            return True
        if self.items[first].start <= start and stop <= self.items[first].stop:
            return False
        if start < self.items[first].start:
            self.items[first].start = start
        after = first + 1
        while after < self.count and self.items[after].start <= stop:
            after += 1
        if self.items[after - 1].stop > stop:
            stop = self.items[after - 1].stop
        if stop > self.items[first].stop:
            self.items[first].stop = stop
        self._close(first + 1, after)
        return True

    cpdef bint contains(self, uint64_t value) noexcept:
        """Return whether a number is in the set."""
        cdef Py_ssize_t index
        # One more than the value is past the end of every range that ends before it.
        index = self._first_ending_at_or_after(value + 1)
        return index < self.count and self.items[index].start <= value

    cpdef int remove(self, uint64_t start, uint64_t stop) except -1:
        """Remove ``start`` up to and without ``stop``; always returns 0."""
        cdef Py_ssize_t first, after
        cdef Range* item
        if start >= stop:
            return 0
        first = self._first_ending_at_or_after(start + 1)
        if first == self.count:
            return 0
        item = &self.items[first]
        if item.start < start:
            if stop < item.stop:
                self._open(first)
                self.items[first].start = self.items[first + 1].start
                self.items[first].stop = start
                self.items[first + 1].start = stop
                return 0
            item.stop = start
            first += 1
        after = first
        while after < self.count and self.items[after].stop <= stop:
            after += 1
        if after < self.count and self.items[after].start < stop:
            self.items[after].start = stop
        self._close(first, after)
        return 0

    cpdef void remove_below(self, uint64_t value) noexcept:
        """Remove every number lower than ``value``."""
        cdef Py_ssize_t index = self._first_ending_at_or_after(value + 1)
        self._close(0, index)
        if self.count and self.items[0].start < value:
            self.items[0].start = value

    cpdef void keep_newest(self, Py_ssize_t most) noexcept:
        """Remove the lowest ranges until at most ``most`` are left."""
        if self.count > most:
            self._close(0, self.count - most)

    cpdef void clear(self) noexcept:
        """Remove everything, and give the memory back."""
        free(self._block)
        self._block = NULL
        self.items = NULL
        self.count = 0
        self._capacity = 0

    cdef Py_ssize_t _first_ending_at_or_after(self, uint64_t value) noexcept:
        """Return the index of the lowest range whose end is not below ``value``."""
        cdef Py_ssize_t low = 0, high = self.count, middle
        while low < high:
            middle = (low + high) >> 1
            if self.items[middle].stop < value:
                low = middle + 1
            else:
                high = middle
        return low

    cdef int _open(self, Py_ssize_t index) except -1:
        """Make place for one more range at ``index``, by moving the shorter side."""
        cdef bint forward = index < self.count - index
        if forward:
            if self.items == self._block:
                self._spread()
            self.items -= 1
            memmove(self.items, self.items + 1, index * sizeof(Range))
        else:
            if self.items + self.count == self._block + self._capacity:
                self._spread()
            memmove(
                self.items + index + 1, self.items + index, (self.count - index) * sizeof(Range)
            )
        self.count += 1
        return 0

    cdef void _close(self, Py_ssize_t index, Py_ssize_t stop) noexcept:
        """Take out the ranges from ``index`` up to and without ``stop``."""
        cdef Py_ssize_t gone = stop - index
        if gone <= 0:
            return
        if index == 0:
            self.items += gone
        else:
            memmove(self.items + index, self.items + stop, (self.count - stop) * sizeof(Range))
        self.count -= gone

    cdef int _spread(self) except -1:
        """Put the ranges in the middle of the block, of which they fill at most half."""
        cdef Py_ssize_t capacity = self._capacity
        cdef Range* block
        cdef Range* items
        if capacity > 0 and 2 * self.count <= capacity:
            items = self._block + (capacity - self.count) // 2
            memmove(items, self.items, self.count * sizeof(Range))
            self.items = items
            return 0
        capacity = max(2 * capacity, SMALLEST_CAPACITY)
        block = <Range*>malloc(capacity * sizeof(Range))
        if block == NULL:
            raise MemoryError()
        items = block + (capacity - self.count) // 2
        if self.count:
            memcpy(items, self.items, self.count * sizeof(Range))
        free(self._block)
        self._block = block
        self.items = items
        self._capacity = capacity
        return 0
