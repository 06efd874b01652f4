# C types for spooky/_core/pure/opening.py, which is the source.

cimport cython

from spooky._core.arrivals cimport Rate
from spooky._core.dispatch cimport Listener
from spooky._core.packets cimport PacketHeader, initial_token

cdef Py_ssize_t _CLIENT_CONNECTION_ID_MIN_LENGTH, _INITIAL_DATAGRAM_MIN_SIZE


cdef class OpeningListener(Listener):
    cdef public bint draining
    cdef public object overload
    cdef public Rate _rate
    cdef readonly object _make_connection_id
    cdef Py_ssize_t _accepted

    cdef object _source_action(self, object source)
    cpdef bint _is_dropped(self, object source) except -1
    @cython.locals(payload=bytes, token=bytes)
    cpdef object _begin(self, object datagram, PacketHeader header, double now)
    cdef object _must_prove(self, PacketHeader header, object source, double now)
    cdef object _admit(self, object client, double now)
    @cython.locals(destination=bytes)
    cdef object _accept(
        self, PacketHeader header, object source, object client, object proof, double now
    )
