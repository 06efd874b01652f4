# C types for spooky/_core/pure/h2.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core cimport h2_stream
from spooky._core.h2_gate cimport FrameGate, TokenBucket
from spooky._core.h2_sender cimport Sender
from spooky._core.h2_stream cimport Stream

cdef Py_ssize_t _TRANSMIT

cpdef list list_fields(object headers)


cdef class Session(h2_stream.Owner):
    cdef readonly bint closed
    cdef readonly object close_reason
    cdef readonly bint want_read
    cdef public int64_t active_streams
    cdef public int64_t unanswered_pings
    cdef public object unwritten
    cdef int64_t _taken
    cdef object _wake
    cdef public object _limits
    cdef public object _role
    cdef public object _engine
    cdef public tuple _errors
    cdef dict _handlers
    cdef object _head_event
    cdef object _data_event
    cdef object _closed_event
    cdef public FrameGate _gate
    cdef public Sender _sender
    cdef public dict _streams
    cdef dict _stopping
    cdef set _resets
    cdef TokenBucket _provoked_resets
    cdef TokenBucket _empty_data
    cdef int _cut_bodies
    cdef bint _peer_is_closing
    cdef bint _engine_is_gone
    cdef public int64_t _last_peer_stream
    cdef double _now
    cdef bint _receiving
    cdef bytes _last_words

    cpdef object receive(self, bytes data, double now)
    cpdef object receive_eof(self, bint clean=*)
    @cython.locals(size=Py_ssize_t, data=bytes, output=list)
    cpdef bytes transmit(self)
    cpdef object set_transport_writable(self, bint writable)
    cpdef object terminate(self, object reason)
    cpdef object connection_lost(self, object reason)
    cpdef object shutdown(self)
    cpdef object _deliver_events(self)
    cpdef object _on_message_head(self, object event)
    @cython.locals(stream=Stream, size=Py_ssize_t, data=bytes, end=bint)
    cdef object _on_data(self, object event)
    cpdef object _reset_by_peer(self, Stream stream, int64_t code)
    @cython.locals(stream=Stream, waiting=bint)
    cdef object _on_stream_closed(self, object event)
    cpdef object _reset_by_engine(self, Stream stream, int64_t code)
    cpdef object _broken_stream_reason(self, Stream stream, int64_t code)
    cpdef object _closed_reason(self)
    cpdef object _want_output(self)
    @cython.locals(data=bytes)
    cdef bytes _take_output(self)
    @cython.locals(stream=Stream)
    cpdef object _after_output(self)
    cpdef object _remove(self, Stream stream)
    cpdef object _close_with(self, int64_t code, object reason)
    cdef object _engine_failed(self, object error)
    @cython.locals(stream=Stream)
    cpdef object _close(self, object reason)
