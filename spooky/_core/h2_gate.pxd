# C types for spooky/_core/pure/h2_gate.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

cdef int _DATA, _HEADERS, _RST_STREAM, _SETTINGS, _CONTINUATION
cdef Py_ssize_t _MAX_FRAME, _FRAME_HEADER_BYTES, _SETTING_BYTES
cdef int _CONTROL_FRAMES_PER_HEAD, _CONTROL_FRAMES_PER_DATA_SENT

cdef object _stream_id(bytes data, Py_ssize_t position)


cdef class TokenBucket:
    cdef double _burst
    cdef double _rate
    cdef double _tokens
    cdef double _at

    @cython.locals(tokens=double)
    cpdef bint take(self, double now) except -1
    cpdef bint is_low(self) except -1
    cpdef object refill(self, double tokens)


cdef class FrameGate:
    cdef readonly set resets
    cdef readonly bint too_large
    cdef public int64_t data_sent
    cdef public int64_t glitches
    cdef Py_ssize_t _preface_bytes
    cdef bytes _tail
    cdef int64_t _continuations
    cdef int64_t _max_continuations
    cdef Py_ssize_t _max_settings_bytes
    cdef TokenBucket _resets
    cdef TokenBucket _settings
    cdef TokenBucket _control

    @cython.locals(size=Py_ssize_t, position=Py_ssize_t, length=Py_ssize_t, end=Py_ssize_t, kind=int)
    cpdef bytes admit(self, bytes data, double now)
    cdef object _count(self, int kind, Py_ssize_t length, double now)
