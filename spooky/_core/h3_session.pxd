# C types for spooky/_core/pure/h3_session.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core.h3 cimport Connection, RequestStream, SeenStreams
from spooky._core.h3_budget cimport Budget
from spooky._core.h3_unidirectional cimport (
    ControlStream, DecoderInstructions, EncoderInstructions, UnidirectionalStream,
)
from spooky._core.h3_wire cimport encode_frame, encode_varint

cdef int64_t _UNIDIRECTIONAL, _CONTROL_STREAM, _PUSH_STREAM, _QPACK_ENCODER_STREAM, _CRITICAL_LAST
cdef int64_t _QUIC_INTERNAL_ERROR


cdef class Session(Connection):
    cdef public object limits
    cdef public object _owner
    cdef public dict _unidirectional
    cdef public SeenStreams _seen_unidirectional
    cdef int _critical
    cdef public object _control_id
    cdef public bytes _control_held
    cdef public bint _established
    cdef public bint _shutting_down
    cdef public object _close_reason
    cdef public object _peer_goaway

    @cython.locals(stream=RequestStream)
    cpdef object on_stream_reset(self, int64_t stream_id, object error_code)
    @cython.locals(stream=RequestStream)
    cpdef object on_stop_sending(self, int64_t stream_id, object error_code)
    @cython.locals(stream=RequestStream)
    cpdef object on_stream_writable(self, int64_t stream_id)
    cpdef object on_connection_id_issued(self, bytes connection_id)
    cpdef object on_connection_id_retired(self, bytes connection_id)
    cpdef object begin_unidirectional(self, int64_t stream_id, int64_t kind)
    cpdef object take_settings(self, dict settings)
    cpdef object _open_control(self)
    @cython.locals(accepted=Py_ssize_t)
    cpdef object _send_control(self, bytes data)
    @cython.locals(stream=UnidirectionalStream)
    cpdef object _receive_unidirectional(self, int64_t stream_id, bytes data, bint fin)
    @cython.locals(stream=UnidirectionalStream)
    cdef object _end_unidirectional(self, int64_t stream_id)
    cpdef object _close(self, object code, str phrase, object reason)
    @cython.locals(stream=RequestStream, handlers=list)
    cpdef object _end_streams(self, object reason)
    cdef object _reason_of(self, object close)
