# C types for spooky/_core/pure/accounts.py, which is the source.

cimport cython
from libc.stdint cimport uint64_t

from spooky._core.access_record cimport AccessRecord
from spooky._core.shared cimport Histogram


cdef class Timings:
    cdef readonly Histogram duration
    cdef readonly Histogram connect
    cdef readonly Histogram first_byte

    cpdef object observe(self, AccessRecord record, double now)


cdef class Lots:
    cdef public Py_ssize_t untold
    cdef Py_ssize_t _lot

    cpdef object count_request(self, double now)
    cpdef object _tell(self, double now)


cdef class Accounts:
    cdef readonly Py_ssize_t active
    cdef uint64_t[::1] _values
    cdef Py_ssize_t _active
    cdef Py_ssize_t _received
    cdef Py_ssize_t _sent
    cdef object _name
    cdef object _time
    cdef dict _outcomes
    cdef dict _timings

    cpdef object forget(self)
    cpdef object began(self)
    @cython.locals(key=tuple, position=Py_ssize_t, timings=Timings)
    cpdef object ended(self, str protocol, AccessRecord record, object reason, double now)
