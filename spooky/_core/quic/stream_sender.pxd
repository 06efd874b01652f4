"""C declarations of the sending parts of a connection's streams."""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.sent_packet cimport FrameRecord, SentPacket
from spooky._core.quic.stream cimport SendQueue, Stream
from spooky._core.quic.stream_limits cimport StreamLimits

cdef enum:
    # What a stream may hold that the peer has not acknowledged, on a short path; bytes.
    STREAM_BUFFER = 256 * 1024
    # What all streams of a connection may hold, on a short path; bytes.
    CONNECTION_BUFFER = 1024 * 1024
    # On a longer path, this many congestion windows: one in flight, and one to follow it.
    BUFFER_WINDOWS = 2
    # What a connection may hold on any path; bytes. A peer decides how far the congestion window
    # opens, and this fills 300 Mbit/s at a round trip of 50 ms.
    BUFFER_MAX = 4 * 1024 * 1024
    # What a stream may hold when the others hold all the rest; bytes. Streams that their reader
    # neglects must not stop the others.
    STREAM_SHARE = 16 * 1024
    # What each level of urgency leaves of the connection's share to the one above it; bytes. The
    # least urgent still have more than half, and one stream's full share on a short path.
    URGENCY_RESERVE = 64 * 1024


cdef class StreamSender(StreamLimits):
    cdef readonly uint64_t buffered  # Bytes that all streams hold.
    cdef uint64_t _unsent_of_ended  # Bytes that were never sent, of streams with their end.
    cdef readonly uint64_t acknowledged  # Bytes of streams that the peer has let us forget.
    cdef readonly Py_ssize_t ends_outstanding  # Ends and resets that the peer has not all of.
    cdef SendQueue _repeats
    cdef SendQueue _fresh
    cdef list _refused  # Streams of which a part was refused, in the order of that.

    cpdef Py_ssize_t send(self, uint64_t stream_id, bytes data, bint fin) except? -1
    cpdef int reset(self, uint64_t stream_id, uint64_t error_code) except -1
    cpdef int set_priority(self, uint64_t stream_id, int urgency, bint incremental) except -1
    cpdef uint64_t unacknowledged(self, uint64_t stream_id) except? 0
    cpdef bint is_held_up(self, uint64_t stream_id) except -1
    cdef int tell_writable(self) except -1
    cdef int _reset(self, Stream stream, uint64_t error_code) except -1
    cdef uint64_t _stream_capacity(self) noexcept
    cdef uint64_t _room(self, Stream stream, uint64_t held) noexcept
    cdef uint64_t _promised(self, Stream stream) noexcept
    cdef bint _overdraws(self, Stream stream) noexcept
    cdef uint64_t _allowed(self, Stream stream) noexcept
    cdef bint _is_end_writable(self, Stream stream) noexcept
    cdef bint _is_writable(self, Stream stream) noexcept
    cdef int _refuse(self, Stream stream) except -1
    cdef int _refuse_end(self, Stream stream) except -1
    cdef int _leave_queue(self, Stream stream) except -1
    cdef int _pass_turn(self, Stream stream) except -1
    cdef int _note_blocked(self) except -1
    cdef bint _may_send_data(self) noexcept
    cdef Stream _next(self)
    cdef uint8_t* _write_data(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL
    cdef uint8_t* _write_stream(
        self, Stream stream, uint8_t* out, uint8_t* end, SentPacket packet
    ) except NULL
    cdef int _on_data_acked(self, FrameRecord* record) except -1
    cdef int _on_data_lost(self, FrameRecord* record) except -1
    cdef int _end_sending(self, Stream stream) except -1
