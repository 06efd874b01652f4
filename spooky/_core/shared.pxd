"""C declarations of the shared segment."""

from cpython.buffer cimport Py_buffer
from libc.stdint cimport uint64_t

cdef enum:
    WORD = 8
    # Words of a cache line: what different workers write never shares one.
    LINE = 8
    HEADER_WORDS = 24
    ENTRIES = 16384
    SOURCE_SETS = 1024
    SOURCE_WAYS = 4
    # A strike is one word: which key, but for the bits that choose the set, and when, in seconds.
    STRIKE_SETS = 16384
    STRIKE_WAYS = 8
    STAMP_BITS = 24
    STAMP_MASK = 16777215
    # Heartbeat and the length of the names, a line each.
    SLOT_HEAD_WORDS = 16
    VALUES = 262144
    NAMES_BYTES = 4194304
    DECISIONS_BYTES = 16777216
    # A histogram: classic buckets and what is above them, the sum, and the native buckets, of which
    # the first takes what is next to nothing.
    BUCKETS = 17
    SUM_CELL = 18
    ZERO_CELL = 19
    NATIVE_CELL = 20
    NATIVE = 100
    FIRST_NATIVE = -51


cdef class Segment:
    cdef Py_buffer _buffer
    cdef bint _held
    cdef uint64_t* _words
    cdef readonly int slots
    cdef int _owner

    cpdef Limit limit(self, uint64_t key, int slot)
    cpdef Words words(self, uint64_t key)
    cpdef bint take_rate(self, uint64_t key, uint64_t now, uint64_t interval, uint64_t burst)
    cpdef bint take_source_rate(
        self, uint64_t key, uint64_t now, uint64_t interval, uint64_t burst
    )
    cpdef bint is_source_out(
        self, uint64_t key, uint64_t now, uint64_t interval, uint64_t burst
    )
    cpdef bint strike(self, uint64_t key, uint64_t now, uint64_t keep)
    cdef uint64_t* _slot(self, int slot) except NULL
    cdef Py_ssize_t _find(self, uint64_t key) noexcept
    cdef Py_ssize_t _claim(self, uint64_t key) noexcept
    cdef Py_ssize_t _acquire(self, uint64_t key, uint64_t flags, int owner) noexcept
    cdef void _release(self, Py_ssize_t entry, int owner, uint64_t count) noexcept
    cdef void _free_unused(self, Py_ssize_t entry) noexcept


cdef class Limit:
    cdef Segment _segment
    cdef uint64_t* _total
    cdef uint64_t* _share
    cdef Py_ssize_t _entry
    cdef int _owner

    cpdef uint64_t taken(self) noexcept
    cpdef bint take(self, uint64_t maximum, uint64_t count=*)
    cpdef give(self, uint64_t count=*)


cdef class Words:
    cdef Segment _segment
    cdef uint64_t* _first
    cdef Py_ssize_t _entry
    cdef int _owner

    cpdef uint64_t load(self, Py_ssize_t position) except? 0
    cpdef store(self, Py_ssize_t position, uint64_t value)
    cpdef uint64_t add(self, Py_ssize_t position, uint64_t count=*) except? 0
    cpdef bint swap(self, Py_ssize_t position, uint64_t expected, uint64_t value) except -1
    cdef uint64_t* _at(self, Py_ssize_t position) except NULL


cdef class Histogram:
    cdef Segment _segment
    cdef uint64_t* _cells

    cpdef observe(self, double seconds)
