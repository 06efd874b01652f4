# C types for spooky/_core/pure/packets.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

cdef int _LONG_HEADER, _FIXED_BIT, _TYPE_SHIFT, _TYPE_MASK, _RANDOM_BYTES
cdef Py_ssize_t _SHORTEST_LONG_HEADER, _SHORTEST_SHORT_HEADER, _ID_MAX
cdef int64_t _VERSION_1, _VERSION_2
cdef object _INITIAL, _ZERO_RTT, _ONE_RTT, _VERSION_NEGOTIATION, _UNKNOWN


@cython.final
cdef class PacketHeader:
    cdef readonly object type
    cdef readonly object version
    cdef readonly bytes destination_connection_id
    cdef readonly bytes source_connection_id
    cdef readonly Py_ssize_t datagram_size
    cdef readonly bint is_long
    cdef readonly bint is_initial
    cdef readonly bint is_early

    cpdef tuple _fields(self)


@cython.final
cdef class ConnectionIds:
    cdef bytes _prefix
    cdef bytes _random
    cdef Py_ssize_t _at

    @cython.locals(begin=Py_ssize_t)
    cpdef bytes make(self)


@cython.locals(
    size=Py_ssize_t, first=int, destination_end=Py_ssize_t, source_start=Py_ssize_t,
    source_end=Py_ssize_t, version=int64_t, index=Py_ssize_t,
)
cpdef PacketHeader parse_header(bytes datagram)

cdef object _long_header_type(int first, int64_t version)

@cython.locals(
    size=Py_ssize_t, source_at=Py_ssize_t, length_at=Py_ssize_t, token_at=Py_ssize_t,
    index=Py_ssize_t, length=int64_t,
)
cpdef bytes initial_token(bytes datagram)
