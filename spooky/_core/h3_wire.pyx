# cython: language_level=3, boundscheck=False, wraparound=False
"""What HTTP/3 puts on the wire; the twin is :mod:`spooky._core.pure.h3_wire`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from spooky._core.quic.wire cimport varint_size, write_varint


cpdef bytes encode_varint(uint64_t value):
    """Encode an integer below 2**62 in its shortest form (RFC 9000 section 16)."""
    cdef bytes made = PyBytes_FromStringAndSize(NULL, varint_size(value))
    write_varint(<uint8_t*>PyBytes_AS_STRING(made), value)
    return made


cpdef bytes encode_frame(uint64_t kind, bytes payload):
    """Make a frame (RFC 9114 section 7.1)."""
    if payload is None:
        raise TypeError("payload must be bytes, not None")
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, varint_size(kind) + varint_size(size) + size)
    cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(made)
    memcpy(write_varint(write_varint(p, kind), size), PyBytes_AS_STRING(payload), size)
    return made
