# C types for spooky/_core/pure/carrier.py, which is the source.

cimport cython

from spooky._core cimport tcp
from spooky._core.timers cimport Timer
from spooky._core.turns cimport Turns

cdef double _CLOSE_SECONDS
cdef Py_ssize_t _LOW_SHARE, _READS_PER_TURN


cdef class Carrier:
    cdef public Py_ssize_t bytes_received
    cdef Turns _runtime
    cdef object _transport
    cdef object _session
    cdef object _owner
    cdef bint _marked
    cdef bint _reading

    cpdef object carry(self, object transport, object session, object owner)
    cpdef object let_go(self)
    cpdef object receive(self, bytes data)
    cpdef object wake(self)
    @cython.locals(data=bytes)
    cpdef object flush(self)
    cdef object _follow_want_read(self)


cdef class SocketTransport:
    cdef Turns _runtime
    cdef object _socket
    cdef int _descriptor
    cdef Carrier _carrier
    cdef object _protocol
    cdef bint _closing
    cdef bint _ended
    cdef bint _reading
    cdef bint _at_end
    cdef list _waiting
    cdef Py_ssize_t _sent
    cdef Py_ssize_t _size
    cdef Py_ssize_t _high
    cdef bint _held_back
    cdef Timer _close_timer

    @cython.locals(sent=Py_ssize_t)
    cpdef object write(self, bytes data)
    cpdef object pause_reading(self)
    @cython.locals(runtime=Turns)
    cpdef object close(self)
    @cython.locals(data=bytes, runtime=Turns, held=bint)
    cpdef object _on_readable(self)
    cdef bytes _read(self)
    cdef object _take(self, bytes data)
    @cython.locals(data=bytes, sent=Py_ssize_t)
    cpdef object _on_writable(self)
    cdef object _stop_reading(self)
    cdef object _end(self, object error)
