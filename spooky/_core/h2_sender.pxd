# C types for spooky/_core/pure/h2_sender.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core.h2_gate cimport FrameGate
from spooky._core.h2_stream cimport Stream

cdef Py_ssize_t _TRANSMIT, _QUANTUM, _STREAM_BACKLOG, _CONNECTION_BACKLOG, _BACKLOG_FLOOR
cdef Py_ssize_t _URGENCY_RESERVE

cpdef object rank(Stream stream)


cdef class Sender:
    cdef object _engine
    cdef tuple _errors
    cdef FrameGate _gate
    cdef Py_ssize_t _given
    cdef dict _backlogged
    cdef dict _waiting
    cdef readonly int64_t turn
    cdef readonly Py_ssize_t backlog_bytes
    cdef readonly int64_t body_bytes
    cdef public bint ordered
    cdef public bint writable

    cpdef bint send(self, Stream stream, bytes data, bint end) except -1
    cpdef bint send_trailers(self, Stream stream) except -1
    @cython.locals(room=Py_ssize_t, stream=Stream)
    cpdef object feed(self)
    @cython.locals(stream=Stream, limit=Py_ssize_t)
    cdef object _feed_in_order(self, Py_ssize_t room)
    cpdef object end_turn(self)
    @cython.locals(waiting=list, stream=Stream)
    cpdef object resume(self)
    cpdef bint is_waiting(self, Stream stream) except -1
    cpdef object drop(self, Stream stream)
    @cython.locals(window=Py_ssize_t)
    cpdef bint has_sent(self, Stream stream) except -1
    cpdef bint is_held_up(self, Stream stream) except -1
    cdef bint _welcomes_more(self, Stream stream) except -1
    @cython.locals(held=Py_ssize_t, of_connection=Py_ssize_t)
    cdef bint _accepts(self, Stream stream, Py_ssize_t mark) except -1
    @cython.locals(of_connection=Py_ssize_t, of_stream=Py_ssize_t)
    cdef Py_ssize_t _window(self, Stream stream) except? -1
    cdef bint _fits_now(self, Stream stream, Py_ssize_t size) except -1
    cdef object _keep(self, Stream stream, bytes data)
    cdef object _give(self, Stream stream, bytes data, bint end)
    cdef object _give_trailers(self, Stream stream)
    @cython.locals(backlog=object, fed=Py_ssize_t, size=Py_ssize_t, piece=bytes, ends=bint)
    cdef Py_ssize_t _feed_stream(self, Stream stream, Py_ssize_t room) except -1
