# C types for spooky/_core/pure/gate.py, which is the source.

cimport cython
from libc.stdint cimport uint64_t

from spooky._core.shared cimport Limit, Words


cdef class Places:
    cdef Limit _shared
    cdef uint64_t _own

    cpdef uint64_t taken(self) except? 0
    cpdef bint take(self, uint64_t maximum, uint64_t count=*) except -1
    cpdef object give(self, uint64_t count=*)


cdef class PeakPlaces(Places):
    cdef Words _words
    cdef Py_ssize_t _position

    @cython.locals(words=Words, taken=uint64_t, most=uint64_t)
    cpdef bint take(self, uint64_t maximum, uint64_t count=*) except -1


cdef class Gate:
    cdef Places _places
    cdef object _on_waiting
    cdef object _waiting
    cdef bint _waking
    cdef int _left
    cdef double _since
    cdef readonly bint newest_first

    cpdef uint64_t taken(self) except? 0
    cpdef bint try_enter(self, uint64_t limit) except -1
    cpdef object leave(self)
    cpdef double wait(
        self, object retry, Py_ssize_t limit, double now, double longest, double target
    ) except -1
    cpdef object stop_waiting(self, object retry)
    cpdef bint look(self) except -1
    cdef object _next(self)
