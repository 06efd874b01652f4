# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The control frames of a connection's streams: written, and written again when lost.

RFC 9000 sections 13.3 and 19.4 to 19.14.
"""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.receive_window cimport announce, wanted_size
from spooky._core.quic.frames cimport (
    FRAME_DATA_BLOCKED,
    FRAME_MAX_DATA,
    FRAME_MAX_STREAM_DATA,
    FRAME_MAX_STREAMS_BIDI,
    FRAME_RESET_STREAM,
    FRAME_STOP_SENDING,
    FRAME_STREAM_DATA_BLOCKED,
    FRAME_STREAMS_BLOCKED_BIDI,
)
from spooky._core.quic.records cimport (
    RECORD_DATA_BLOCKED,
    RECORD_MAX_DATA,
    RECORD_MAX_STREAM_DATA,
    RECORD_MAX_STREAMS_BIDI,
    RECORD_MAX_STREAMS_UNI,
    RECORD_RESET_STREAM,
    RECORD_STOP_SENDING,
    RECORD_STREAM_DATA_BLOCKED,
    RECORD_STREAMS_BLOCKED_BIDI,
    RECORD_STREAMS_BLOCKED_UNI,
)
from spooky._core.quic.sent_packet cimport FrameRecord, SentPacket
from spooky._core.quic.stream cimport (
    CONTROL_MAX_STREAM_DATA,
    CONTROL_RESET_STREAM,
    CONTROL_STOP_SENDING,
    CONTROL_STREAM_DATA_BLOCKED,
    Stream,
)
from spooky._core.quic.stream_limits cimport (
    CONTROL_DATA_BLOCKED,
    CONTROL_MAX_DATA,
    CONTROL_MAX_STREAMS,
    CONTROL_STREAMS_BLOCKED,
)
from spooky._core.quic.wire cimport write_varint

cdef enum:
    # A type of one byte, and one, two or three integers of 8 bytes: a new frame is begun only
    # where the longest of its kind fits.
    LIMIT_FRAME_SIZE = 9
    STREAM_FRAME_SIZE = 25


cdef uint8_t* write_limit(
    uint8_t* out, SentPacket packet, uint8_t frame_type, uint8_t kind, uint64_t value
) except NULL:
    """Write a frame that says one number, and note it."""
    cdef FrameRecord* record = packet.add_frame()
    record.kind = kind
    record.id = value
    record.offset = 0
    record.length = 0
    record.fin = False
    out[0] = frame_type
    return write_varint(out + 1, value)


cdef uint8_t* write_about(
    uint8_t* out,
    SentPacket packet,
    uint8_t frame_type,
    uint8_t kind,
    Stream stream,
    uint64_t value,
) except NULL:
    """Write a frame that says a number about a stream, and note it."""
    cdef FrameRecord* record = packet.add_frame()
    record.kind = kind
    record.id = stream.id
    record.offset = value
    record.length = 0
    record.fin = False
    out[0] = frame_type
    return write_varint(write_varint(out + 1, stream.id), value)


cdef class StreamControl(StreamSender):
    """The frames that say limits, and that end streams."""

    # --- writing ---------------------------------------------------------------------------------

    cdef uint8_t* _write_control(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL:
        """Write the control frames for which there is room."""
        cdef Stream stream
        if self._control:
            out = self._write_limits(out, end, packet)
        while self._controls:
            stream = <Stream>self._controls[len(self._controls) - 1]
            if stream.control:
                out = self._write_stream_control(stream, out, end, packet)
                if stream.control:
                    return out
                self._settle(stream)
            self._controls.pop()
            stream.in_control_list = False
        return out

    cdef uint8_t* _write_limits(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL:
        """Write the frames about the connection."""
        cdef int kind
        if self._control & CONTROL_MAX_DATA and end - out >= LIMIT_FRAME_SIZE:
            self._control &= ~CONTROL_MAX_DATA
            self._tune_window()
            out = write_limit(
                out, packet, FRAME_MAX_DATA, RECORD_MAX_DATA, announce(&self._window)
            )
        if self._control & CONTROL_DATA_BLOCKED and end - out >= LIMIT_FRAME_SIZE:
            self._control &= ~CONTROL_DATA_BLOCKED
            out = write_limit(
                out, packet, FRAME_DATA_BLOCKED, RECORD_DATA_BLOCKED, self._blocked_at
            )
        for kind in range(2):
            if self._control & (CONTROL_MAX_STREAMS << kind) and end - out >= LIMIT_FRAME_SIZE:
                self._control &= ~(CONTROL_MAX_STREAMS << kind)
                self._streams_announced[kind] = self._streams_allowed[kind]
                out = write_limit(
                    out,
                    packet,
                    FRAME_MAX_STREAMS_BIDI + kind,
                    RECORD_MAX_STREAMS_BIDI + kind,
                    self._streams_announced[kind],
                )
            if self._control & (CONTROL_STREAMS_BLOCKED << kind) and end - out >= LIMIT_FRAME_SIZE:
                self._control &= ~(CONTROL_STREAMS_BLOCKED << kind)
                out = write_limit(
                    out,
                    packet,
                    FRAME_STREAMS_BLOCKED_BIDI + kind,
                    RECORD_STREAMS_BLOCKED_BIDI + kind,
                    self._streams_blocked_at[kind],
                )
        return out

    cdef uint8_t* _write_stream_control(
        self, Stream stream, uint8_t* out, uint8_t* end, SentPacket packet
    ) except NULL:
        """Write the frames about a stream, those that fit."""
        if stream.control & CONTROL_RESET_STREAM and end - out >= STREAM_FRAME_SIZE:
            self._cancel(stream, CONTROL_RESET_STREAM)
            out = write_about(
                out, packet, FRAME_RESET_STREAM, RECORD_RESET_STREAM, stream, stream.reset_code
            )
            out = write_varint(out, stream.reset_size)
        if stream.control & CONTROL_STOP_SENDING and end - out >= STREAM_FRAME_SIZE:
            self._cancel(stream, CONTROL_STOP_SENDING)
            out = write_about(
                out, packet, FRAME_STOP_SENDING, RECORD_STOP_SENDING, stream, stream.stop_code
            )
        if stream.control & CONTROL_MAX_STREAM_DATA and end - out >= STREAM_FRAME_SIZE:
            self._cancel(stream, CONTROL_MAX_STREAM_DATA)
            self._announce_stream_window(stream)
            out = write_about(
                out,
                packet,
                FRAME_MAX_STREAM_DATA,
                RECORD_MAX_STREAM_DATA,
                stream,
                stream.window.limit,
            )
        if stream.control & CONTROL_STREAM_DATA_BLOCKED and end - out >= STREAM_FRAME_SIZE:
            self._cancel(stream, CONTROL_STREAM_DATA_BLOCKED)
            out = write_about(
                out,
                packet,
                FRAME_STREAM_DATA_BLOCKED,
                RECORD_STREAM_DATA_BLOCKED,
                stream,
                stream.blocked_at,
            )
        return out

    cdef int _announce_stream_window(self, Stream stream) except -1:
        """Let a stream's window grow, up to the connection's, and compute its new limit."""
        cdef uint64_t size = wanted_size(
            &stream.window, self._stream_window_max, self.now, self.smoothed_rtt
        )
        if size <= self._window.size:
            stream.window.size = size
        announce(&stream.window)
        return 0

    # --- losses ----------------------------------------------------------------------------------

    cdef int _on_control_lost(self, FrameRecord* record) except -1:
        """Have a lost frame written again, if it is the newest of its kind and still true."""
        cdef int kind
        if record.kind == RECORD_MAX_DATA:
            if record.id == self._window.limit:
                self._control |= CONTROL_MAX_DATA
        elif record.kind == RECORD_DATA_BLOCKED:
            if record.id == self._max_data and self._fresh.count and self.sent >= self._max_data:
                self._control |= CONTROL_DATA_BLOCKED
        elif record.kind in (RECORD_MAX_STREAMS_BIDI, RECORD_MAX_STREAMS_UNI):
            kind = record.kind - RECORD_MAX_STREAMS_BIDI
            if record.id == self._streams_announced[kind]:
                self._control |= CONTROL_MAX_STREAMS << kind
        elif record.kind in (RECORD_STREAMS_BLOCKED_BIDI, RECORD_STREAMS_BLOCKED_UNI):
            kind = record.kind - RECORD_STREAMS_BLOCKED_BIDI
            if record.id == self._max_streams[kind] and self._open_refused:
                self._control |= CONTROL_STREAMS_BLOCKED << kind
        else:
            self._on_stream_control_lost(record)
        return 0

    cdef int _on_stream_control_lost(self, FrameRecord* record) except -1:
        """Have a lost frame about a stream written again, if it is still true."""
        cdef Stream stream = self._find(record.id)
        if stream is None:
            return 0
        if record.kind == RECORD_RESET_STREAM:
            if not stream.send_over:
                self._want(stream, CONTROL_RESET_STREAM)
        elif record.kind == RECORD_STOP_SENDING:
            if not stream.receive_over:
                self._want(stream, CONTROL_STOP_SENDING)
        elif record.kind == RECORD_MAX_STREAM_DATA:
            if record.offset == stream.window.limit and not stream.size_known:
                self._want(stream, CONTROL_MAX_STREAM_DATA)
        elif record.kind == RECORD_STREAM_DATA_BLOCKED:
            if (
                record.offset == stream.limit
                and stream.output is not None
                and stream.output.next == stream.limit
                and stream.output.next < stream.output.end
            ):
                self._want(stream, CONTROL_STREAM_DATA_BLOCKED)
        return 0
