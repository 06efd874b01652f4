# C types for spooky/_core/pure/h3.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core cimport h3_fields, h3_frames
from spooky._core.h3_budget cimport Budget
from spooky._core.h3_wire cimport encode_frame, encode_varint
from spooky._core.sections cimport decode_fields, encode_fields

cdef int _HEAD, _BODY, _NOTHING
cdef int64_t _DATA, _HEADERS, _UNIDIRECTIONAL


cdef class SeenStreams:
    cdef public int64_t next_id
    cdef readonly set _gaps

    cpdef bint is_new(self, int64_t stream_id) except -1
    cpdef bint is_yet_to_come(self, int64_t stream_id) except -1


cdef class Connection:
    cdef public object quic
    cdef public Budget budget
    cdef public object wake
    cdef public object peer_max_field_section_size
    cdef public object _role
    cdef public Py_ssize_t _max_headers_count
    cdef public Py_ssize_t _max_decoded_bytes
    cdef public Py_ssize_t _max_headers_frame_bytes
    cdef public dict _requests
    cdef public list _resets_due
    cdef public bint _closing
    cdef bint _woken

    @cython.locals(stream=RequestStream)
    cpdef object on_stream_data(self, int64_t stream_id, bytes data, bint fin)
    @cython.locals(stream=RequestStream)
    cpdef RequestStream _find(self, int64_t stream_id)
    cpdef RequestStream _accept(self, int64_t stream_id)
    cpdef object _receive_unidirectional(self, int64_t stream_id, bytes data, bint fin)
    cpdef object settle(self)
    cdef object _forget(self, int64_t stream_id)
    cdef object _defer_reset(self, object handler, object reason)
    cdef object _wake_once(self)


cdef class RequestStream(h3_frames.FrameReader):
    cdef public object handler
    cdef public str protocol
    cdef public Connection _connection
    cdef public object _quic
    cdef public int64_t _stream_id
    cdef public int _expects
    cdef public bint _receiving
    cdef public bint _sending
    cdef public bint _fin
    cdef public int64_t _content_length
    cdef public int64_t _received
    cdef public int64_t _delivered
    cdef public int64_t _owed
    cdef public list _trailers
    cdef public object _held
    cdef public bint _end_held
    cdef bint _forgotten

    cdef object _begin(self, Connection connection, int64_t stream_id, object handler)
    @cython.locals(size=Py_ssize_t)
    cpdef bint send_data(self, bytes data, bint end) except -1
    cpdef object receive(self, bytes data, bint fin)
    cpdef object detach(self)
    cpdef bint _begin_frame(self, int64_t kind, int64_t length) except? -1
    @cython.locals(end=bint, excess=int64_t)
    cpdef object _take_piece(self, int64_t kind, bytes piece, bint at_end)
    @cython.locals(connection=Connection)
    cpdef object _take_frame(self, int64_t kind, bytes payload, bint at_end)
    cpdef object _deliver_head(self, list fields, bint end)
    cdef object _refuse_section(self, int verdict)
    cdef object _end_of_stream(self)
    cpdef bint _send_fields(self, object fields, bint end) except -1
    @cython.locals(accepted=Py_ssize_t)
    cdef bint _send(self, bytes data, bint end) except -1
    cdef object _hold(self, bytes data, bint end)
    @cython.locals(data=bytes, end=bint, accepted=Py_ssize_t)
    cdef bint _offer_held(self) except -1
    cdef object _credit(self, int64_t count)
    cdef object _stop_receiving(self)
    cpdef object _abort(self, int error_code)
    cdef object _give_up(self)
    cpdef object _forget_if_ended(self)
    cdef object _forget(self)
