# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Stream data that waits for what comes before it.

The bytes lie in pages that are made where data falls, so that one byte far ahead costs a page and
not all that is between (RFC 9000 section 21.7), and many small pieces cost no more than their
pages. What is held is kept as ranges, whose number the caller bounds.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from spooky._core.quic.ranges cimport RangeSet

# Three packets: a loss that holds up a flight makes few, and a lone byte wastes little.
cdef uint64_t PAGE_SIZE = 4096
cdef Py_ssize_t SMALLEST_CAPACITY = 16


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class ReceiveBuffer:
    """The bytes of a stream that came ahead of their turn.

    Arguments:
        start: The offset that is waited for; nothing below it is ever added.

    Attributes:
        ranges: Their offsets.
        page_count: The number of pages that hold something.
    """

    def __cinit__(self, uint64_t start):
        self.ranges = RangeSet()
        self._first_page = start // PAGE_SIZE

    def __dealloc__(self):
        cdef Py_ssize_t index
        for index in range(self._page_count):
            free(self._pages[index])
        free(self._pages)

    @property
    def page_count(self):
        """The number of pages that hold something."""
        cdef Py_ssize_t index
        return sum([1 for index in range(self._page_count) if self._pages[index] != NULL])

    def put(self, uint64_t offset, bytes data):
        """Keep bytes, at least one, that came at an offset."""
        self.add(offset, <const uint8_t*>PyBytes_AS_STRING(data), len(data))

    def take(self, uint64_t offset):
        """Drop what is below an offset, and return what follows it without a gap."""
        return self.read(offset, self.ready(offset))

    cdef int add(self, uint64_t offset, const uint8_t* data, Py_ssize_t size) except -1:
        """Copy bytes into their pages; at least one."""
        cdef uint64_t page, inside
        cdef uint64_t stop = offset + <uint64_t>size
        cdef Py_ssize_t part
        self._reach(offset // PAGE_SIZE, (stop - 1) // PAGE_SIZE)
        self.ranges.add(offset, stop)
        while offset < stop:
            page = offset // PAGE_SIZE
            inside = offset - page * PAGE_SIZE
            part = <Py_ssize_t>min(PAGE_SIZE - inside, stop - offset)
            memcpy(self._pages[page - self._first_page] + inside, data, part)
            data += part
            offset += <uint64_t>part
        return 0

    cdef Py_ssize_t ready(self, uint64_t offset) noexcept:
        """Drop what is below an offset; return how many bytes follow it without a gap."""
        cdef uint64_t page = offset // PAGE_SIZE
        cdef Py_ssize_t gone, index
        self.ranges.remove_below(offset)
        if page > self._first_page:
            gone = <Py_ssize_t>min(page - self._first_page, <uint64_t>self._page_count)
            for index in range(gone):
                free(self._pages[index])
            self._page_count -= gone
            memmove(self._pages, self._pages + gone, self._page_count * sizeof(uint8_t*))
            self._first_page = page
        if self.ranges.count == 0 or self.ranges.items[0].start != offset:
            return 0
        return <Py_ssize_t>(self.ranges.items[0].stop - offset)

    cdef bytes read(self, uint64_t offset, Py_ssize_t size):
        """Return bytes that are held."""
        cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
        cdef char* out = PyBytes_AS_STRING(result)
        cdef uint64_t page, inside
        cdef Py_ssize_t part
        while size:
            page = offset // PAGE_SIZE
            inside = offset - page * PAGE_SIZE
            part = <Py_ssize_t>min(PAGE_SIZE - inside, <uint64_t>size)
            memcpy(out, self._pages[page - self._first_page] + inside, part)
            out += part
            offset += <uint64_t>part
            size -= part
        return result

    cdef int _reach(self, uint64_t first, uint64_t last) except -1:
        """Make the pages from ``first`` to ``last``."""
        cdef Py_ssize_t needed = <Py_ssize_t>(last + 1 - self._first_page)
        cdef Py_ssize_t capacity, index
        cdef uint8_t** pages
        if needed > self._capacity:
            capacity = max(2 * self._capacity, needed, SMALLEST_CAPACITY)
            pages = <uint8_t**>realloc(self._pages, capacity * sizeof(uint8_t*))
            if pages == NULL:
                raise MemoryError()
            self._pages = pages
            self._capacity = capacity
        if needed > self._page_count:
            memset(
                self._pages + self._page_count,
                0,
                (needed - self._page_count) * sizeof(uint8_t*),
            )
            self._page_count = needed
        for index in range(<Py_ssize_t>(first - self._first_page), needed):
            if self._pages[index] == NULL:
                self._pages[index] = <uint8_t*>malloc(PAGE_SIZE)
                if self._pages[index] == NULL:
                    raise MemoryError()
        return 0
