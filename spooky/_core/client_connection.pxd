# C types for spooky/_core/pure/client_connection.py, which is the source.

cimport cython
from libc.stdint cimport uint64_t

from spooky._core.dispatch cimport Connection, Listener
from spooky._core.service cimport Service
from spooky._core.shared cimport Histogram
from spooky._core.terms cimport Client
from spooky._core.timers cimport Timer

cdef double _CLIENT_INITIAL_ID_SECONDS, _KEEP_ALIVES_PER_IDLE_TIMEOUT, _BYTES


cdef class Measures:
    cdef uint64_t[::1] _values
    cdef Histogram _handshake
    cdef Py_ssize_t _agreed
    cdef Histogram _round_trip
    cdef Histogram _window
    cdef Py_ssize_t _sent
    cdef Py_ssize_t _received
    cdef Py_ssize_t _lost
    cdef tuple _dropped

    cpdef object established(self, double seconds)
    cpdef object count(
        self, uint64_t sent, uint64_t received, uint64_t lost, double smoothed_rtt, uint64_t window
    )
    @cython.locals(values=uint64_t[::1], slot=Py_ssize_t, count=uint64_t)
    cpdef object count_dropped(self, tuple counts)


cdef class ClientConnection(Connection):
    cdef readonly bytes _client_initial_id
    cdef double _handshake_timeout
    cdef double _idle_timeout
    cdef uint64_t _counted_sent
    cdef uint64_t _counted_received
    cdef uint64_t _counted_lost
    cdef Timer _handshake_timer
    cdef Timer _keep_alive_timer
    cdef public Client _client

    cpdef object start(self)
    @cython.locals(connection_id=bytes)
    cpdef object forget(self)
    @cython.locals(now=double, measures=Measures)
    cpdef object _establish(self)
    @cython.locals(service=Service)
    cpdef object _on_stream(self, object stream)
    cpdef object _on_handshake_timer(self)
    cdef object _schedule_keep_alive(self, double now)
    cpdef object _on_keep_alive_timer(self)
    @cython.locals(
        sent=uint64_t, received=uint64_t, lost=uint64_t, smoothed_rtt=double, window=uint64_t,
        measures=Measures,
    )
    cpdef object _measure(self)
