# C types for spooky/_core/pure/h3_frames.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core.h3_wire cimport encode_frame, encode_varint


cdef Py_ssize_t _end_of_varint(bytes data, Py_ssize_t position) except -2

@cython.locals(value=int64_t, index=Py_ssize_t)
cdef int64_t _varint(bytes data, Py_ssize_t position, Py_ssize_t end) except? -1


cdef class FrameReader:
    cdef public bint _inside_frame
    cdef public int64_t _frame_type
    cdef public int64_t _remaining
    cdef public bytes _partial
    cdef public bint _gathers
    cdef public bytearray _gathered
    cdef public bint _stopped

    cpdef object _begin_reading(self)
    cpdef bint _begin_frame(self, int64_t kind, int64_t length) except? -1
    cpdef object _take_frame(self, int64_t kind, bytes payload, bint at_end)
    cpdef object _take_piece(self, int64_t kind, bytes piece, bint at_end)
    @cython.locals(position=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t, piece=bytes)
    cpdef object read(self, bytes data)
    @cython.locals(middle=Py_ssize_t, end=Py_ssize_t)
    cdef Py_ssize_t _read_header(self, bytes data, Py_ssize_t position) except -2
    @cython.locals(kind=int64_t, complete=bint)
    cdef object _take(self, bytes piece, bint at_end)
