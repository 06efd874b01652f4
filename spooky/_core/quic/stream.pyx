# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A stream, and the queue of those that have data to send."""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, realloc

cdef Py_ssize_t SMALLEST_CAPACITY = 8


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Stream:
    """What is known of a stream; those who act on it are the parts of ``Streams``."""

    def __cinit__(self):
        # Without a word from anybody streams share what there is.
        self.prioritize(DEFAULT_URGENCY, True)
        self.blocked_at = NO_LIMIT

    cdef bint is_writing(self) noexcept:
        """Return whether more may be given to it to send."""
        return not (
            self.send_over
            or self.reset_by_us
            or (self.output is not None and self.output.ended)
        )

    cdef void prioritize(self, int urgency, bint incremental) noexcept:
        """Set its priority; it must be in no queue."""
        self.urgency = max(<int>CONTROL_URGENCY, min(urgency, <int>LOWEST_URGENCY))
        self.incremental = incremental
        self.rank = 2 * self.urgency + incremental


cdef inline bint before(PyObject* one, PyObject* other) noexcept:
    """Return whether one stream goes before another."""
    cdef Stream first = <Stream>one
    cdef Stream second = <Stream>other
    if first.rank != second.rank:
        return first.rank < second.rank
    return first.turn < second.turn


@cython.final
@cython.no_gc
cdef class SendQueue:
    """Streams in the order in which they send: a binary heap, in which each knows its place.

    The more urgent go first (RFC 9218 section 10). Of those equally urgent, the ones that are of
    use only when complete go one after the other, by their IDs; then the incremental ones, which
    take turns.

    Arguments:
        name: What streams in it have in ``queue``.

    Attributes:
        count: How many there are.
    """

    def __cinit__(self, uint8_t name):
        self._name = name

    def __dealloc__(self):
        cdef Py_ssize_t place
        for place in range(self.count):
            Py_DECREF(<Stream>self._heap[place])
        free(self._heap)

    cdef Stream first(self):
        """Return the stream whose turn it is; None if there is none."""
        return <Stream>self._heap[0] if self.count else None

    cdef int add(self, Stream stream) except -1:
        """Put a stream in that is in no queue."""
        cdef Py_ssize_t capacity
        cdef PyObject** heap
        if self.count == self._capacity:
            capacity = max(2 * self._capacity, SMALLEST_CAPACITY)
            heap = <PyObject**>realloc(self._heap, capacity * sizeof(PyObject*))
            if heap == NULL:
                raise MemoryError()
            self._heap = heap
            self._capacity = capacity
        self._take_turn(stream)
        stream.queue = self._name
        Py_INCREF(stream)
        self.count += 1
        self._rise(<PyObject*>stream, self.count - 1)
        return 0

    cdef int remove(self, Stream stream) except -1:
        """Take a stream out that is in this queue."""
        cdef Py_ssize_t place = stream.place
        cdef PyObject* last
        self.count -= 1
        stream.queue = QUEUE_NONE
        last = self._heap[self.count]
        if last != <PyObject*>stream:
            if place > 0 and before(last, self._heap[(place - 1) >> 1]):
                self._rise(last, place)
            else:
                self._sink(last, place)
        Py_DECREF(stream)
        return 0

    cdef int pass_turn(self, Stream stream) except -1:
        """Let the others go first, now that a stream of this queue has sent."""
        if stream.incremental:
            self._take_turn(stream)
            self._sink(<PyObject*>stream, stream.place)
        return 0

    cdef void _take_turn(self, Stream stream) noexcept:
        """Compute a stream's place among those of its rank."""
        if stream.incremental:
            self._turns += 1
            stream.turn = self._turns
        else:
            stream.turn = stream.id

    cdef void _put(self, PyObject* item, Py_ssize_t place) noexcept:
        self._heap[place] = item
        (<Stream>item).place = place

    cdef void _rise(self, PyObject* item, Py_ssize_t place) noexcept:
        """Put a stream at a place or above it."""
        cdef Py_ssize_t above
        while place > 0:
            above = (place - 1) >> 1
            if not before(item, self._heap[above]):
                break
            self._put(self._heap[above], place)
            place = above
        self._put(item, place)

    cdef void _sink(self, PyObject* item, Py_ssize_t place) noexcept:
        """Put a stream at a place or below it."""
        cdef Py_ssize_t below = 2 * place + 1
        while below < self.count:
            if below + 1 < self.count and before(self._heap[below + 1], self._heap[below]):
                below += 1
            if not before(self._heap[below], item):
                break
            self._put(self._heap[below], place)
            place = below
            below = 2 * place + 1
        self._put(item, place)
