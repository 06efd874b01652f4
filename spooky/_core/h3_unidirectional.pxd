# C types for spooky/_core/pure/h3_unidirectional.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core cimport h3_frames
from spooky._core.h3_budget cimport Budget

cdef int64_t _CONTROL_FRAME_MAX_BYTES, _SETTINGS
cdef int _VARINT_CONTINUATION_MAX


@cython.final
cdef class UnidirectionalStream:
    cdef object _session
    cdef int64_t _stream_id
    cdef bytes _partial
    cdef object _reader

    cpdef object receive(self, bytes data, bint fin)
    cpdef object ended(self)


cdef class ControlStream(h3_frames.FrameReader):
    cdef object _session
    cdef Budget _budget
    cdef bint _settings_seen
    cdef frozenset _forbidden

    cpdef bint _begin_frame(self, int64_t kind, int64_t length) except? -1
    cpdef object _take_frame(self, int64_t kind, bytes payload, bint at_end)
    cpdef object _take_piece(self, int64_t kind, bytes piece, bint at_end)
    cdef object _take_priority_update(self, int64_t kind, bytes payload)


@cython.final
cdef class EncoderInstructions:
    cdef Budget _budget

    cpdef object read(self, bytes data)


@cython.final
cdef class DecoderInstructions:
    cdef Budget _budget
    cdef int _continuation

    @cython.locals(byte=cython.uchar, count=Py_ssize_t)
    cpdef object read(self, bytes data)
