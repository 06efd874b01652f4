# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What a stream sends, until the peer has it (RFC 9000 section 3.1).

The application's bytes objects are kept as they are, and let go as the peer acknowledges them from
the front. Of the rest it is known what was sent, what of that was lost, and what was acknowledged
out of order.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

from spooky._core.quic.ranges cimport RangeSet


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class SendBuffer:
    """The bytes that a stream was given to send.

    Attributes:
        base: The offset below which the peer has everything.
        next: The lowest offset that was never sent.
        end: The offset after the last byte given.
        ended: Whether the stream ends there.
        chunk_count: How many bytes objects are kept.
    """

    def __cinit__(self):
        self._chunks = self._inline
        self._capacity = CHUNKS_INLINE

    def __dealloc__(self):
        cdef Py_ssize_t index
        for index in range(self._first, self._first + self._count):
            Py_DECREF(<object>self._chunks[index].data)
        if self._chunks != self._inline:
            free(self._chunks)

    @property
    def chunk_count(self):
        """How many bytes objects are kept."""
        return self._count

    # --- the application -------------------------------------------------------------------------

    cpdef int append(self, bytes data, bint end) except -1:
        """Take bytes, and note whether they are the last; always returns 0."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Chunk* chunk
        if size:
            if self._first + self._count == self._capacity:
                self._grow()
            chunk = &self._chunks[self._first + self._count]
            chunk.offset = self.end
            Py_INCREF(data)
            chunk.data = <PyObject*>data
            self._count += 1
            self.end += <uint64_t>size
        if end:
            self.ended = True
        return 0

    # --- sending ---------------------------------------------------------------------------------

    cdef bint has_repeats(self) noexcept:
        """Return whether there is lost data, or only the end to send."""
        return self._lost is not None or (
            self.ended and not self._end_sent and self.next == self.end
        )

    cdef uint64_t pick(self, uint64_t limit, uint64_t* start) noexcept:
        """Set ``start`` to the offset to send from, and return the one to send up to."""
        if self._lost is not None:
            start[0] = self._lost.items[0].start
            return self._lost.items[0].stop
        start[0] = self.next
        return max(self.next, min(self.end, limit))

    cdef void read(self, uint8_t* out, uint64_t offset, Py_ssize_t size) noexcept:
        """Copy bytes that are held."""
        cdef Py_ssize_t index, part, length
        cdef Chunk* chunk
        if size == 0:
            return
        index = self._find(offset)
        while True:
            chunk = &self._chunks[self._first + index]
            length = PyBytes_GET_SIZE(<object>chunk.data)
            part = min(size, <Py_ssize_t>(chunk.offset + <uint64_t>length - offset))
            memcpy(out, PyBytes_AS_STRING(<object>chunk.data) + (offset - chunk.offset), part)
            size -= part
            if size == 0:
                break
            out += part
            offset += <uint64_t>part
            index += 1
        self._hint = index

    cdef bint on_sent(self, uint64_t start, uint64_t stop) except -1:
        """Count a range as sent; return whether the end went with it."""
        if start < self.next:
            self._lost.remove(start, stop)
            if self._lost.count == 0:
                self._lost = None
        else:
            self.next = stop
        if not (self.ended and stop == self.end):
            return False
        self._end_sent = True
        return True

    # --- what became of it -----------------------------------------------------------------------

    cdef Py_ssize_t on_acked(self, uint64_t start, uint64_t stop, bint end) except -1:
        """Learn that a range was acknowledged; return by how many bytes less is held."""
        cdef uint64_t base = self.base
        if end:
            self._end_acked = self._end_sent = True
        if self._lost is not None:
            self._lost.remove(start, stop)
            if self._lost.count == 0:
                self._lost = None
        if start > base:
            if start < stop:
                if self._acked is None:
                    self._acked = RangeSet()
                self._acked.add(start, stop)
            return 0
        if stop <= base:
            return 0
        self.base = stop
        if self._acked is not None:
            self._acked.remove_below(stop)
            if self._acked.count and self._acked.items[0].start == stop:
                self.base = self._acked.items[0].stop
                self._acked.remove_below(self.base)
            if self._acked.count == 0:
                self._acked = None
        self._release()
        return <Py_ssize_t>(self.base - base)

    cdef int on_lost(self, uint64_t start, uint64_t stop, bint end) except -1:
        """Learn that a range was lost; what of it the peer has nevertheless is not sent again."""
        cdef Py_ssize_t index
        cdef RangeSet acked = self._acked
        if end and not self._end_acked:
            self._end_sent = False
        start = max(start, self.base)
        if start >= stop:
            return 0
        if self._lost is None:
            self._lost = RangeSet()
        self._lost.add(start, stop)
        if acked is not None:
            index = acked._first_ending_at_or_after(start + 1)
            while index < acked.count and acked.items[index].start < stop:
                self._lost.remove(acked.items[index].start, acked.items[index].stop)
                index += 1
        if self._lost.count == 0:
            self._lost = None
        return 0

    cdef bint complete(self) noexcept:
        """Return whether the peer has everything, the end included."""
        return self._end_acked and self.base == self.end

    # --- chunks ----------------------------------------------------------------------------------

    cdef Py_ssize_t _find(self, uint64_t offset) noexcept:
        """Return which chunk holds an offset, counted from the first."""
        cdef Chunk* chunks = self._chunks + self._first
        cdef Py_ssize_t low = 0, high = self._count - 1, middle = self._hint
        # Most reads go on where the last ended, in that chunk or the next.
        if middle < self._count and chunks[middle].offset <= offset:
            low = middle
            if middle == high or offset < chunks[middle + 1].offset:
                return middle
            if middle + 1 == high or offset < chunks[middle + 2].offset:
                return middle + 1
        while low < high:
            middle = (low + high + 1) >> 1
            if chunks[middle].offset <= offset:
                low = middle
            else:
                high = middle - 1
        return low

    cdef void _release(self) noexcept:
        """Let go of the chunks that the peer has all of."""
        cdef Chunk* chunk
        while self._count:
            chunk = &self._chunks[self._first]
            if chunk.offset + <uint64_t>PyBytes_GET_SIZE(<object>chunk.data) > self.base:
                return
            Py_DECREF(<object>chunk.data)
            self._first += 1
            self._count -= 1
            if self._hint:
                self._hint -= 1
        # A stream that waits keeps no memory for what it once sent.
        self._first = 0
        if self._chunks != self._inline:
            free(self._chunks)
            self._chunks = self._inline
            self._capacity = CHUNKS_INLINE

    cdef int _grow(self) except -1:
        """Make room for one more chunk: by moving all to the front, or twice the room."""
        cdef Py_ssize_t capacity = self._capacity
        cdef Chunk* chunks
        if 2 * self._first >= capacity:
            memmove(self._chunks, self._chunks + self._first, self._count * sizeof(Chunk))
            self._first = 0
            return 0
        capacity *= 2
        chunks = <Chunk*>malloc(capacity * sizeof(Chunk))
        if chunks == NULL:
            raise MemoryError()
        memcpy(chunks, self._chunks + self._first, self._count * sizeof(Chunk))
        if self._chunks != self._inline:
            free(self._chunks)
        self._chunks = chunks
        self._first = 0
        self._capacity = capacity
        return 0

    # --- for tests -------------------------------------------------------------------------------

    def take(self, Py_ssize_t most, uint64_t limit):
        """Count up to ``most`` bytes below ``limit`` as sent.

        Returns:
            Their offset, the bytes, and whether the end goes with them.
        """
        cdef uint64_t start = 0
        cdef uint64_t stop = self.pick(limit, &start)
        cdef bytes data
        stop = min(stop, start + <uint64_t>most)
        data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(stop - start))
        self.read(<uint8_t*>PyBytes_AS_STRING(data), start, len(data))
        return start, data, bool(self.on_sent(start, stop))

    def acked(self, uint64_t start, uint64_t stop, bint end):
        """Learn that a range was acknowledged; return by how many bytes less is held."""
        return self.on_acked(start, stop, end)

    def lost(self, uint64_t start, uint64_t stop, bint end):
        """Learn that a range was lost."""
        self.on_lost(start, stop, end)

    def state(self):
        """Return whether there is something to repeat, and whether the peer has everything."""
        return bool(self.has_repeats()), bool(self.complete())
