# C types for spooky/_core/pure/arrivals.py, which is the source.

cimport cython
from libc.stdint cimport uint64_t

from spooky._core.balance cimport hash_key
from spooky._core.gate cimport Places
from spooky._core.shared cimport Segment

cdef double _SECOND, _HALF_OPEN_ON, _ATTEMPTS_ON, _ATTEMPTS_OFF, _WINDOW_SECONDS
cdef uint64_t _ALL_SOURCES, _ON, _OFF
cdef Py_ssize_t _NOTED_MAX


cdef class Rate:
    cdef Segment _segment
    cdef uint64_t _interval
    cdef uint64_t _burst
    cdef uint64_t _source_interval
    cdef uint64_t _source_burst

    @cython.locals(nanoseconds=uint64_t, key=uint64_t)
    cpdef object admit(self, str address, double now)


cdef class Cap:
    cdef public uint64_t maximum
    cdef public uint64_t half_open_maximum
    cdef public Py_ssize_t active
    cdef public Py_ssize_t half_open
    cdef readonly Places _places
    cdef readonly Places _half_open_places
    cdef uint64_t[::1] _values
    cdef Py_ssize_t _gauge

    cpdef object open(self)
    cpdef object established(self)
    cpdef object closed(self, bint was_established)


cdef class Attempts:
    cdef public bint is_on
    cdef readonly Segment _segment
    cdef readonly Cap _cap
    cdef set _noted
    cdef public double _stormy_at

    @cython.locals(is_flood=bint, is_calm=bint)
    cpdef bint note_attempt(self, bytes connection_id, double now, double rate) except -1
    @cython.locals(burst=uint64_t, interval=uint64_t)
    cdef bint _may_come(self, uint64_t key, double rate, double now) except -1


cpdef str source_of(str address)
