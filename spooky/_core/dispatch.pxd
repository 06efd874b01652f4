# C types for spooky/_core/pure/dispatch.py, which is the source.

cimport cython
from libc.stdint cimport uint64_t

from spooky._core.arrivals cimport Cap
from spooky._core.packets cimport PacketHeader, parse_header
from spooky._core.timers cimport Timer
from spooky._core.turns cimport Turns

cdef Py_ssize_t _DATAGRAMS_PER_TURN, _UNSENT_MAX, _LATE_MAX
cdef int _READS_PER_TURN, _HANDSHAKES_PER_TURN
cdef object _H3_NO_ERROR
cdef bytes _PROXY_HEADER


@cython.final
cdef class HandshakeQueue:
    cdef Py_ssize_t _capacity
    cdef dict _under_way
    cdef Py_ssize_t _under_way_count
    cdef dict _beginning
    cdef Py_ssize_t _beginning_count

    @cython.locals(waiting=list)
    cpdef bint add(self, object connection, object datagram) except -1
    @cython.locals(waiting=list)
    cpdef bint add_opening(self, object datagram, PacketHeader header) except -1
    @cython.locals(waiting=list)
    cpdef list claim(self, object connection)
    cpdef object next_under_way(self)
    @cython.locals(openings=list)
    cpdef list next_opening(self)


cdef class Listener:
    cdef readonly Turns runtime
    cdef public tuple kin
    cdef public object settings
    cdef public Cap cap
    cdef public object measures
    cdef public object _handover
    cdef public object _udp
    cdef int _descriptor
    cdef public dict _by_connection_id
    cdef public set _connections
    cdef readonly dict _late, _late_before
    cdef public HandshakeQueue _handshakes
    cdef bint _handshakes_due
    cdef list _unsent
    cdef Py_ssize_t _unsent_datagrams
    cdef uint64_t[::1] _counts
    cdef Py_ssize_t _received
    cdef Py_ssize_t _coalesced
    cdef Py_ssize_t _truncated
    cdef Py_ssize_t _sent
    cdef Py_ssize_t _segmented
    cdef Py_ssize_t _unsendable

    @cython.locals(now=double, datagrams=list, taken=Py_ssize_t, held=bint, runtime=Turns)
    cpdef object _on_readable(self)
    @cython.locals(batches=dict)
    cdef Py_ssize_t _take(self, list datagrams, double now) except -1
    cdef list _read(self)
    @cython.locals(taken=Py_ssize_t, batch=list)
    cpdef Py_ssize_t _deliver(self, dict batches, double now) except -1
    cdef object _give(self, object connection, list batch, double now)
    @cython.locals(header=PacketHeader, connection=Connection, batch=list, payload=bytes)
    cpdef object _sort(
        self, object datagram, dict batches, double now, bint handed_over, bint returned
    )
    cdef object _wait(self, bint kept)
    @cython.locals(runtime=Turns)
    cpdef object _go_on_with_handshakes(self)
    @cython.locals(batch=list, openings=list)
    cdef object _take_handshakes(self, double now)
    @cython.locals(batch=list, header=PacketHeader)
    cdef object _open(self, list openings, double now)
    cpdef object route(self, bytes connection_id, object connection)
    cpdef object unroute(self, bytes connection_id)
    @cython.locals(connection_id=bytes)
    cpdef object outlive(self, list connection_ids, double until)
    cpdef bint is_late(self, bytes connection_id, double now) except -1
    cpdef object forget(self, object connection, bint was_established)
    cpdef object transmit(self, list runs)
    @cython.locals(length=Py_ssize_t, segment=Py_ssize_t, sent=Py_ssize_t)
    cdef bytes _send(self, object run)
    @cython.locals(count=Py_ssize_t)
    cdef object _keep_unsent(self, bytes payload, object run)


cdef class Connection:
    cdef object __weakref__
    cdef public bint established
    cdef readonly Listener _listener
    cdef readonly Turns _runtime
    cdef public object _quic
    cdef public object _http3
    cdef readonly double _began
    cdef readonly double _last_received
    cdef readonly list _connection_ids
    cdef Timer _timer
    cdef bint _marked
    cdef public bint _shutting_down
    cdef public bint _forgotten
    cdef readonly double _late_until

    cpdef object forget(self)
    cpdef object receive(self, list batch, double now)
    cpdef object wake(self)
    cpdef object flush(self)
    cpdef object on_connection_id_issued(self, bytes connection_id)
    cpdef object on_connection_id_retired(self, bytes connection_id)
    cpdef object _cancel_timer(self)


cdef Py_ssize_t _datagrams(Py_ssize_t length, Py_ssize_t segment_size) except -1
