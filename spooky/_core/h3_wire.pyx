# cython: language_level=3, boundscheck=False, wraparound=False
"""What HTTP/3 puts on the wire; the twin is :mod:`spooky._core.pure.h3_wire`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef inline Py_ssize_t _size(uint64_t value) noexcept nogil:
    if value < 0x40:
        return 1
    if value < 0x4000:
        return 2
    return 4 if value < 0x40000000 else 8


cdef inline unsigned char* _put(unsigned char* p, uint64_t value) noexcept nogil:
    """Write an integer; return the place behind it."""
    cdef Py_ssize_t size = _size(value)
    cdef Py_ssize_t index
    for index in range(size - 1, -1, -1):
        p[index] = value & 0xFF
        value >>= 8
    if size == 2:
        p[0] |= 0x40
    elif size == 4:
        p[0] |= 0x80
    elif size == 8:
        p[0] |= 0xC0
    return p + size


cpdef bytes encode_varint(uint64_t value):
    """Encode an integer below 2**62 in its shortest form (RFC 9000 section 16)."""
    cdef bytes made = PyBytes_FromStringAndSize(NULL, _size(value))
    _put(<unsigned char*>PyBytes_AS_STRING(made), value)
    return made


cpdef bytes encode_frame(uint64_t kind, bytes payload):
    """Make a frame (RFC 9114 section 7.1)."""
    if payload is None:
        raise TypeError("payload must be bytes, not None")
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, _size(kind) + _size(size) + size)
    cdef unsigned char* p = <unsigned char*>PyBytes_AS_STRING(made)
    memcpy(_put(_put(p, kind), size), PyBytes_AS_STRING(payload), size)
    return made
