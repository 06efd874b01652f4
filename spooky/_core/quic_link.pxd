# C types for spooky/_core/pure/quic_link.py, which is the source.

cimport cython

from spooky._core cimport hand_off
from spooky._core.timers cimport Timer
from spooky._core.turns cimport Turns


cdef class Link(hand_off.Connection):
    cdef public Turns runtime
    cdef public object quic
    cdef public object http3
    cdef public Py_ssize_t datagrams_received
    cdef public Py_ssize_t _received_at_doubt
    cdef public bint ended
    cdef public object _udp
    cdef public Timer _timer
    cdef bint _marked
    cdef public bint _has_socket

    cpdef object wake(self)
    cpdef object flush(self)
    @cython.locals(batch=list)
    cpdef object _on_readable(self)
    cdef object _send(self, object run)
    cpdef object _cancel_timer(self)
