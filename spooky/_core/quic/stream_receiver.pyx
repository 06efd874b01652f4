# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The receiving parts of a connection's streams (RFC 9000 sections 2.2, 3.2 and 4)."""

from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.frames cimport FRAME_RESET_STREAM, STREAM_FIN, STREAM_LEN, STREAM_OFF
from spooky._core.quic.receive_buffer cimport ReceiveBuffer
from spooky._core.quic.stream cimport CONTROL_MAX_STREAM_DATA, CONTROL_STOP_SENDING, Stream
from spooky._core.quic.stream_limits cimport fail
from spooky._core.quic.wire cimport Reader, read_bytes, read_varint

from spooky._core.quic.errors import TransportError

cdef int FINAL_SIZE_ERROR = TransportError.FINAL_SIZE_ERROR
cdef int FRAME_ENCODING_ERROR = TransportError.FRAME_ENCODING_ERROR
cdef int PROTOCOL_VIOLATION = TransportError.PROTOCOL_VIOLATION

cdef uint64_t OFFSET_MAX = (1ULL << 62) - 1


cdef class StreamReceiver(StreamControl):
    """What the peer sends on streams, put into order and given to the application."""

    def __init__(self, bint is_client, parameters):
        StreamControl.__init__(self, is_client, parameters)
        self._ready = []

    # --- the application -------------------------------------------------------------------------

    cpdef int consume(self, uint64_t stream_id, Py_ssize_t count) except -1:
        """Credit delivered bytes of a stream back to the peer; always returns 0."""
        cdef Stream stream = self._find(stream_id)
        cdef uint64_t more
        if stream is None or count <= 0 or stream.delivered <= stream.window.consumed:
            return 0
        more = min(<uint64_t>count, stream.delivered - stream.window.consumed)
        stream.window.consumed += more
        self._credit(more)
        if stream.receive_over:
            self._settle(stream)
        elif not stream.size_known and stream.window.consumed >= stream.window.announce_at:
            self._want(stream, CONTROL_MAX_STREAM_DATA)
        return 0

    cpdef int stop_sending(self, uint64_t stream_id, uint64_t error_code) except -1:
        """Ask the peer to abandon its sending part; always returns 0.

        What still arrives is dropped and credited, without upcalls; what was delivered before
        still waits for :meth:`consume`.
        """
        cdef Stream stream = self._find(stream_id)
        if stream is None or stream.receive_over or stream.stopped:
            return 0
        stream.stopped = True
        stream.stop_code = error_code
        if stream.reset_by_peer:
            stream.gathered = None
        else:
            self._want(stream, CONTROL_STOP_SENDING)
            self._drop(stream)
        if stream.size_known:
            self._end_receiving(stream)
        return 0

    # --- frames ----------------------------------------------------------------------------------

    cdef int _on_stream(self, uint64_t frame_type, Reader* reader) except -1:
        """Take a STREAM frame (RFC 9000 section 19.8)."""
        cdef uint64_t stream_id = read_varint(reader)
        cdef uint64_t offset = read_varint(reader) if frame_type & STREAM_OFF else 0
        cdef uint64_t size
        cdef bint fin = frame_type & STREAM_FIN
        cdef const uint8_t* data
        cdef Stream stream
        if frame_type & STREAM_LEN:
            size = read_varint(reader)
        else:
            size = <uint64_t>(reader.end - reader.position)
        data = read_bytes(reader, size)
        if reader.failed:
            fail(FRAME_ENCODING_ERROR, frame_type, "the frame is cut off")
        if offset + size > OFFSET_MAX:
            fail(FRAME_ENCODING_ERROR, frame_type, "the stream is too long")
        stream = self._named(frame_type, stream_id, True)
        if stream is None:
            return 0
        self._check_size(frame_type, stream, offset + size, fin)
        self._receive_up_to(frame_type, stream, offset + size)
        if fin and not stream.size_known:
            stream.size_known = True
            stream.final_size = offset + size
            self._cancel(stream, CONTROL_MAX_STREAM_DATA)
            if stream.received == stream.final_size:
                self._make_ready(stream)
        if stream.receive_over or stream.reset_by_peer:
            return 0
        if stream.stopped:
            self._drop(stream)
            if stream.size_known:
                self._end_receiving(stream)
        elif size:
            self._take(stream, offset, data, <Py_ssize_t>size)
        return 0

    cdef int _on_reset_stream(self, Reader* reader) except -1:
        """Take a RESET_STREAM frame (RFC 9000 section 19.4)."""
        cdef uint64_t stream_id = read_varint(reader)
        cdef uint64_t error_code = read_varint(reader)
        cdef uint64_t final_size = read_varint(reader)
        cdef Stream stream
        if reader.failed:
            fail(FRAME_ENCODING_ERROR, FRAME_RESET_STREAM, "the frame is cut off")
        stream = self._named(FRAME_RESET_STREAM, stream_id, True)
        if stream is None:
            return 0
        self._check_size(FRAME_RESET_STREAM, stream, final_size, True)
        self._receive_up_to(FRAME_RESET_STREAM, stream, final_size)
        if stream.receive_over or stream.reset_by_peer:
            return 0
        # All data came before its reset: as if there were none (RFC 9000 section 3.2).
        if stream.size_known and stream.received == stream.final_size and not stream.stopped:
            return 0
        stream.size_known = True
        stream.final_size = final_size
        stream.reset_by_peer = True
        stream.peer_reset_code = error_code
        self._cancel(stream, CONTROL_MAX_STREAM_DATA | CONTROL_STOP_SENDING)
        self._release_waiting(stream)
        # What the application still holds is not waited for (RFC 9000 section 4.5).
        self._credit(final_size - stream.window.consumed)
        stream.window.consumed = final_size
        if stream.stopped:
            self._end_receiving(stream)
        else:
            self._make_ready(stream)
        return 0

    cdef int _check_size(self, uint64_t frame_type, Stream stream, uint64_t end, bint fin) except -1:
        """Hold the peer to the final size it gave (RFC 9000 section 4.5)."""
        if stream.size_known:
            if end > stream.final_size or (fin and end != stream.final_size):
                fail(FINAL_SIZE_ERROR, frame_type, "the final size changed")
        elif fin and end < stream.highest:
            fail(FINAL_SIZE_ERROR, frame_type, "the final size is below what was sent")
        return 0

    # --- reassembly ------------------------------------------------------------------------------

    cdef int _take(
        self, Stream stream, uint64_t offset, const uint8_t* data, Py_ssize_t size
    ) except -1:
        """Gather data whose turn it is, or have it wait."""
        cdef Py_ssize_t known
        if offset > stream.received:
            return self._keep(stream, offset, data, size)
        known = <Py_ssize_t>(stream.received - offset)
        if known >= size:
            return 0
        stream.received = offset + <uint64_t>size
        self._gather(stream, PyBytes_FromStringAndSize(<const char*>data + known, size - known))
        if stream.waiting is not None:
            self._take_waiting(stream)
        return 0

    cdef int _keep(
        self, Stream stream, uint64_t offset, const uint8_t* data, Py_ssize_t size
    ) except -1:
        """Have data wait for what comes before it."""
        cdef ReceiveBuffer waiting = stream.waiting
        if waiting is None:
            waiting = stream.waiting = ReceiveBuffer(stream.received)
        self.gaps -= waiting.ranges.count
        waiting.add(offset, data, size)
        self.gaps += waiting.ranges.count
        if self.gaps > self._gaps_max:
            fail(PROTOCOL_VIOLATION, 0, "too many gaps in received data")
        return 0

    cdef int _take_waiting(self, Stream stream) except -1:
        """Gather the data that was waiting for what has come."""
        cdef ReceiveBuffer waiting = stream.waiting
        cdef Py_ssize_t size, part
        self.gaps -= waiting.ranges.count
        size = waiting.ready(stream.received)
        while size:
            part = min(size, PIECE_MAX)
            self._gather(stream, waiting.read(stream.received, part))
            stream.received += <uint64_t>part
            size -= part
        waiting.ready(stream.received)
        self.gaps += waiting.ranges.count
        if waiting.ranges.count == 0:
            stream.waiting = None
        return 0

    cdef int _gather(self, Stream stream, bytes piece) except -1:
        """Keep a piece until the end of the batch."""
        if stream.gathered is None:
            stream.gathered = piece
            self._make_ready(stream)
        elif isinstance(stream.gathered, list):
            (<list>stream.gathered).append(piece)
        else:
            stream.gathered = [stream.gathered, piece]
        return 0

    cdef int _release_waiting(self, Stream stream) except -1:
        if stream.waiting is not None:
            self.gaps -= stream.waiting.ranges.count
            stream.waiting = None
        return 0

    cdef int _drop(self, Stream stream) except -1:
        """Credit all that was received and not delivered, and let go of it."""
        cdef uint64_t undelivered = stream.highest - stream.delivered
        self._release_waiting(stream)
        stream.gathered = None
        stream.received = stream.highest
        stream.delivered = stream.highest
        stream.window.consumed += undelivered
        self._credit(undelivered)
        if not stream.size_known and stream.window.consumed >= stream.window.announce_at:
            self._want(stream, CONTROL_MAX_STREAM_DATA)
        return 0

    # --- upcalls ---------------------------------------------------------------------------------

    cdef int _make_ready(self, Stream stream) except -1:
        if not stream.in_ready_list:
            stream.in_ready_list = True
            self._ready.append(stream)
        return 0

    cdef int _end_receiving(self, Stream stream) except -1:
        """Note that no more comes that the application wants to know."""
        stream.receive_over = True
        self._cancel(stream, CONTROL_MAX_STREAM_DATA)
        self._settle(stream)
        return 0

    cdef int deliver(self) except -1:
        """Tell the application what the batch brought, stream by stream.

        Upcalls may do anything to any stream, and close: everything is looked at again after each.
        """
        cdef Stream stream
        cdef list ready
        if not self._ready:
            return 0
        ready, self._ready = self._ready, []
        for stream in ready:
            stream.in_ready_list = False
            if not (self.closed or stream.receive_over or stream.stopped):
                self._deliver_data(stream)
            if stream.stop_pending and not self.closed:
                stream.stop_pending = False
                self.handler.on_stop_sending(stream.key, stream.peer_stop_code)
        return 0

    cdef int _deliver_data(self, Stream stream) except -1:
        """Hand over a stream's data, then its end or reset."""
        cdef object gathered = stream.gathered
        cdef bytes piece
        cdef list pieces
        cdef Py_ssize_t index = 0
        cdef bint fin = (
            stream.size_known
            and stream.received == stream.final_size
            and not stream.reset_by_peer
        )
        stream.gathered = None
        if gathered is None:
            pieces = [b""] if fin else []
        elif isinstance(gathered, list):
            pieces = joined(<list>gathered)
        else:
            pieces = [gathered]
        for piece in pieces:
            index += 1
            stream.delivered += <uint64_t>PyBytes_GET_SIZE(piece)
            if fin and index == len(pieces):
                self._end_receiving(stream)
            self.handler.on_stream_data(stream.key, piece, stream.receive_over)
            if self.closed or stream.stopped:
                return 0
        if stream.reset_by_peer:
            self._end_receiving(stream)
            self.handler.on_stream_reset(stream.key, stream.peer_reset_code)
        return 0


cdef list joined(list pieces):
    """Return pieces joined to as few as may be, and no longer than ``PIECE_MAX``."""
    cdef list result = []
    cdef Py_ssize_t start = 0, index, size = 0, more
    for index in range(len(pieces)):
        more = PyBytes_GET_SIZE(pieces[index])
        if size + more > PIECE_MAX and index > start:
            result.append(b"".join(pieces[start:index]))
            start = index
            size = 0
        size += more
    result.append(b"".join(pieces[start:]))
    return result
