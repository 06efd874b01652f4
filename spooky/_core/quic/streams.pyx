# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The streams of a QUIC connection (RFC 9000 sections 2 to 4), without packets, clock and I/O.

``Streams`` is made of one class for each subject, each on top of the one before: the table of
streams and the limits on it, the sending parts, the control frames, and the receiving parts.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.frames cimport (
    FRAME_MAX_DATA,
    FRAME_MAX_STREAM_DATA,
    FRAME_MAX_STREAMS_BIDI,
    FRAME_MAX_STREAMS_UNI,
    FRAME_RESET_STREAM,
    FRAME_STOP_SENDING,
    FRAME_STREAM,
    FRAME_STREAM_DATA_BLOCKED,
    FRAME_STREAM_LAST,
    FRAME_STREAMS_BLOCKED_BIDI,
    FRAME_STREAMS_BLOCKED_UNI,
)
from spooky._core.quic.records cimport RECORD_RESET_STREAM, RECORD_STREAM
from spooky._core.quic.sent_packet cimport FrameRecord, SentPacket
from spooky._core.quic.stream cimport QUEUE_FRESH, QUEUE_REPEATS, SendQueue, Stream
from spooky._core.quic.stream_limits cimport fail
from spooky._core.quic.wire cimport Reader, read_varint

from spooky._core.quic.errors import TransportError

cdef int FRAME_ENCODING_ERROR = TransportError.FRAME_ENCODING_ERROR

# A stream ID is a 62-bit integer (RFC 9000 sections 4.6 and 19.11).
cdef uint64_t STREAMS_MAX = 1ULL << 60


@cython.final
cdef class Streams(StreamReceiver):
    """The streams of a connection.

    Frames are given to it as they arrive, and it writes the frames to send. What it tells the
    application by upcalls it tells when the connection asks it to; everything else may be called
    from within those.

    Arguments:
        is_client: Which side this is.
        parameters: The attributes of ``EndpointParameters`` that are about streams.

    Attributes:
        handler: A ``QuicHandler``, to which the upcalls about streams go.
        now: Seconds; set before calls that measure time.
        smoothed_rtt: The round-trip time, seconds.
        congestion_window: Of which more than one is held to send; bytes.
        closed: Whether everything was dropped, and is ignored.
        received: What the peer has used of the connection's limit; bytes.
        sent: What we have used of the peer's; bytes.
        buffered: What is held until the peer acknowledges it; bytes.
        acknowledged: How much of what was held the peer has; bytes.
        gaps: Ranges of data that wait for what comes before them.
        control_count: Streams with control frames to write.
        ends_outstanding: Ends and resets of streams that the peer has not acknowledged.
    """

    # --- frames ----------------------------------------------------------------------------------

    cdef int on_frame(self, uint64_t frame_type, Reader* reader) except -1:
        """Take a frame; the reader stands after its type."""
        if self.closed:
            reader.position = reader.end
            return 0
        if FRAME_STREAM <= frame_type <= FRAME_STREAM_LAST:
            return self._on_stream(frame_type, reader)
        if frame_type == FRAME_RESET_STREAM:
            return self._on_reset_stream(reader)
        if frame_type == FRAME_STOP_SENDING:
            return self._on_stop_sending(reader)
        if frame_type == FRAME_MAX_STREAM_DATA:
            return self._on_max_stream_data(reader)
        return self._on_limit(frame_type, reader)

    cdef int _on_stop_sending(self, Reader* reader) except -1:
        """Reset our part of a stream, since the peer wants no more (RFC 9000 section 3.5)."""
        cdef uint64_t stream_id = read_varint(reader)
        cdef uint64_t error_code = read_varint(reader)
        cdef Stream stream
        if reader.failed:
            fail(FRAME_ENCODING_ERROR, FRAME_STOP_SENDING, "the frame is cut off")
        stream = self._named(FRAME_STOP_SENDING, stream_id, False)
        if stream is None or stream.send_over or stream.stop_told:
            return 0
        stream.stop_told = True
        stream.stop_pending = True
        stream.peer_stop_code = error_code
        self._reset(stream, error_code)
        self._make_ready(stream)
        return 0

    cdef int _on_max_stream_data(self, Reader* reader) except -1:
        """Learn how much the peer lets us send on a stream (RFC 9000 section 19.10)."""
        cdef uint64_t stream_id = read_varint(reader)
        cdef uint64_t limit = read_varint(reader)
        cdef Stream stream
        if reader.failed:
            fail(FRAME_ENCODING_ERROR, FRAME_MAX_STREAM_DATA, "the frame is cut off")
        stream = self._named(FRAME_MAX_STREAM_DATA, stream_id, False)
        if stream is not None:
            self._raise_stream_limit(stream, limit)
        return 0

    cdef int _on_limit(self, uint64_t frame_type, Reader* reader) except -1:
        """Take a frame about a limit of the connection, or that the peer is blocked by one.

        A peer that is blocked gets credit when the application has consumed, and not before.
        """
        cdef uint64_t value = read_varint(reader)
        if frame_type == FRAME_STREAM_DATA_BLOCKED:
            read_varint(reader)
        if reader.failed:
            fail(FRAME_ENCODING_ERROR, frame_type, "the frame is cut off")
        if frame_type == FRAME_STREAM_DATA_BLOCKED:
            self._named(frame_type, value, True)
        elif frame_type == FRAME_MAX_DATA:
            self._raise_max_data(value)
        elif FRAME_MAX_STREAMS_BIDI <= frame_type <= FRAME_MAX_STREAMS_UNI:
            if value > STREAMS_MAX:
                fail(FRAME_ENCODING_ERROR, frame_type, "more streams than there can be")
            self._raise_max_streams(<int>(frame_type - FRAME_MAX_STREAMS_BIDI), value)
        elif FRAME_STREAMS_BLOCKED_BIDI <= frame_type <= FRAME_STREAMS_BLOCKED_UNI:
            if value > STREAMS_MAX:
                fail(FRAME_ENCODING_ERROR, frame_type, "more streams than there can be")
        return 0

    # --- sending ---------------------------------------------------------------------------------

    cdef bint has_frames(self) noexcept:
        """Return whether there is something to write."""
        return self._control != 0 or self.control_count > 0 or self._may_send_data()

    cdef uint8_t* write(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL:
        """Write what there is to send and fits; return the place after it."""
        if self._control or self._controls:
            out = self._write_control(out, end, packet)
        return self._write_data(out, end, packet)

    cdef int on_record_acked(self, FrameRecord* record) except -1:
        """Learn that a frame was acknowledged."""
        cdef Stream stream
        if record.kind == RECORD_STREAM:
            return self._on_data_acked(record)
        if record.kind == RECORD_RESET_STREAM:
            stream = self._find(record.id)
            if stream is not None and not stream.send_over:
                self._end_sending(stream)
        return 0

    cdef int on_record_lost(self, FrameRecord* record) except -1:
        """Learn that a frame was lost, or is to be repeated."""
        if self.closed:
            return 0
        if record.kind == RECORD_STREAM:
            return self._on_data_lost(record)
        return self._on_control_lost(record)

    cdef bint all_acknowledged(self) noexcept:
        """Return whether the peer has everything that was sent, ends and resets included."""
        return self.buffered == 0 and self.ends_outstanding == 0

    cdef int close(self) except -1:
        """Drop everything, and give the window's growth back to the account."""
        cdef Stream stream
        if self.closed:
            return 0
        self.closed = True
        self._account.give_back(self._window_growth)
        self._window_growth = 0
        for stream in self._table.values():
            stream.waiting = None
            stream.gathered = None
            stream.output = None
        self._table.clear()
        self._controls.clear()
        self._refused.clear()
        self._ready.clear()
        self._repeats = SendQueue(QUEUE_REPEATS)
        self._fresh = SendQueue(QUEUE_FRESH)
        self._control = 0
        self.control_count = 0
        self.buffered = 0
        self._unsent_of_ended = 0
        self.ends_outstanding = 0
        self.gaps = 0
        return 0

    def held(self):
        """Return the streams that hold data, with how much; bytes.

        That is what the peer has not acknowledged, and what it sent ahead of its turn.
        """
        cdef Stream stream
        cdef uint64_t size
        cdef list found = []
        for stream in self._table.values():
            size = 0
            if stream.output is not None:
                size = stream.output.end - stream.output.base
            if stream.waiting is not None:
                size += stream.highest - stream.received
            if size:
                found.append((stream.key, size))
        return found

    # --- for tests, which have no connection -----------------------------------------------------

    def receive_frame(self, bytes frame):
        """Take one frame, its type included; return how many bytes it has."""
        cdef Reader reader
        cdef uint64_t frame_type
        reader.data = <const uint8_t*>PyBytes_AS_STRING(frame)
        reader.position = 0
        reader.end = PyBytes_GET_SIZE(frame)
        reader.failed = False
        frame_type = read_varint(&reader)
        self.on_frame(frame_type, &reader)
        return reader.position

    def end_batch(self):
        """Make the upcalls that a connection has made at the end of a batch."""
        self.deliver()
        self.tell_writable()

    def wants_to_write(self):
        """Return whether there is something to write."""
        return bool(self.has_frames())

    def written(self, Py_ssize_t size, SentPacket packet):
        """Return what ``write`` writes into so many bytes."""
        cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
        cdef uint8_t* start = <uint8_t*>PyBytes_AS_STRING(out)
        return out[: self.write(start, start + size, packet) - start]

    def acked(self, SentPacket packet):
        """Learn that a packet was acknowledged."""
        cdef int index
        for index in range(packet.frame_count):
            self.on_record_acked(&packet.frames[index])

    def lost(self, SentPacket packet):
        """Learn that a packet was lost."""
        cdef int index
        for index in range(packet.frame_count):
            self.on_record_lost(&packet.frames[index])

    def has_all_acknowledged(self):
        """Return whether the peer has everything that was sent."""
        return bool(self.all_acknowledged())

    def shut(self):
        """Drop everything."""
        self.close()
