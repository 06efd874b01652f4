# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The sending parts of a connection's streams (RFC 9000 sections 2.2 and 3.1)."""

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from spooky._core.quic.frames cimport FRAME_STREAM, STREAM_FIN, STREAM_LEN, STREAM_OFF
from spooky._core.quic.records cimport RECORD_STREAM
from spooky._core.quic.send_buffer cimport SendBuffer
from spooky._core.quic.sent_packet cimport FrameRecord, SentPacket
from spooky._core.quic.stream cimport (
    CONTROL_RESET_STREAM,
    CONTROL_STREAM_DATA_BLOCKED,
    QUEUE_FRESH,
    QUEUE_NONE,
    QUEUE_REPEATS,
    SendQueue,
    Stream,
)
from spooky._core.quic.stream_limits cimport CONTROL_DATA_BLOCKED, StreamLimits
from spooky._core.quic.wire cimport varint_size, write_varint


def _rank_of(Stream stream):
    return stream.rank


cdef int _sort_by_rank(list streams) except -1:
    """Put the more urgent first, and leave the order of equals; mostly all are equal."""
    cdef Py_ssize_t index
    for index in range(1, len(streams)):
        if (<Stream>streams[index]).rank < (<Stream>streams[index - 1]).rank:
            streams.sort(key=_rank_of)
            break
    return 0


cdef class StreamSender(StreamLimits):
    """What the application has given to send, and the STREAM frames made of it.

    Streams that have something to send stand in one of two queues, since what was sent before and
    ends without data do not wait for the connection's flow control.
    """

    def __init__(self, bint is_client, parameters):
        StreamLimits.__init__(self, is_client, parameters)
        self._repeats = SendQueue(QUEUE_REPEATS)
        self._fresh = SendQueue(QUEUE_FRESH)
        self._refused = []

    # --- the application -------------------------------------------------------------------------

    cpdef Py_ssize_t send(self, uint64_t stream_id, bytes data, bint fin) except? -1:
        """Send stream data.

        Data for a stream that is over, unknown, or of which our part has ended counts as accepted.

        The last of a stream is accepted only as far as the peer lets us send: whoever sent all of
        a stream thinks no more of it, and nobody else asks how long the peer takes to let the rest
        go.

        Returns:
            How many bytes were accepted; if not all, ``on_stream_writable`` tells when to offer
            the rest. ``fin`` counts only if all were accepted; if it was not, and there were no
            bytes, that is -1.
        """
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Stream stream = self._find(stream_id)
        cdef uint64_t held = 0
        cdef uint64_t room
        if stream is None or not stream.is_writing():
            return size
        if stream.output is not None:
            held = stream.output.end - stream.output.base
        # What is within a stream's share is accepted without looking at the others.
        if held + <uint64_t>size > STREAM_SHARE:
            room = self._room(stream, held)
            if <uint64_t>size > room:
                self._refuse(stream)
                data = data[: <Py_ssize_t>room]
                size = <Py_ssize_t>room
                fin = False
        stream.end_refused = False
        if fin:
            stream.rest_refused = size > 0
            if self._overdraws(stream):
                self._refuse_end(stream)
                return 0 if size else -1
            room = self._allowed(stream)
            if <uint64_t>size > room:
                self._refuse_end(stream)
                data = data[: <Py_ssize_t>room]
                size = <Py_ssize_t>room
                fin = False
        if not (size or fin):
            return 0
        if stream.output is None:
            stream.output = SendBuffer()
        stream.output.append(data, fin)
        self.buffered += <uint64_t>size
        if fin:
            self.ends_outstanding += 1
            self._unsent_of_ended += stream.output.end - stream.output.next
        self._schedule(stream)
        return size

    cpdef int reset(self, uint64_t stream_id, uint64_t error_code) except -1:
        """Abandon our sending part; what is unsent is dropped. Always returns 0."""
        cdef Stream stream = self._find(stream_id)
        if stream is not None:
            self._reset(stream, error_code)
        return 0

    cpdef int set_priority(self, uint64_t stream_id, int urgency, bint incremental) except -1:
        """Say in which order streams are served (RFC 9218); always returns 0.

        Arguments:
            urgency: From 0, the most urgent, to 7; -1 goes before these; the nearest is taken.
            incremental: Whether it is of use in parts, and so takes turns with others.
        """
        cdef Stream stream = self._find(stream_id)
        cdef uint8_t queue
        if stream is None:
            return 0
        queue = stream.queue
        self._leave_queue(stream)
        stream.prioritize(urgency, incremental)
        if stream.refused:
            # One more urgent may have room now.
            self._room_changed = True
        if queue == QUEUE_REPEATS:
            self._repeats.add(stream)
        elif queue == QUEUE_FRESH:
            self._fresh.add(stream)
        return 0

    cdef int _reset(self, Stream stream, uint64_t error_code) except -1:
        """Abandon a stream's sending part, unless the peer has all of it (RFC 9000 section 3.1)."""
        if stream.send_over or stream.reset_by_us:
            return 0
        stream.reset_by_us = True
        stream.reset_code = error_code
        stream.refused = False
        if stream.output is None or not stream.output.ended:
            self.ends_outstanding += 1
        if stream.output is not None:
            stream.reset_size = stream.output.next
            self.buffered -= stream.output.end - stream.output.base
            if stream.output.ended:
                self._unsent_of_ended -= stream.output.end - stream.output.next
            self._room_changed = True
            stream.output = None
        self._cancel(stream, CONTROL_STREAM_DATA_BLOCKED)
        self._want(stream, CONTROL_RESET_STREAM)
        self._schedule(stream)
        return 0

    cdef int _end_sending(self, Stream stream) except -1:
        """Note that the peer has all of a stream, or our reset."""
        self.ends_outstanding -= 1
        stream.send_over = True
        stream.refused = False
        stream.output = None
        self._cancel(stream, CONTROL_RESET_STREAM | CONTROL_STREAM_DATA_BLOCKED)
        self._schedule(stream)
        self._settle(stream)
        return 0

    # --- how much may be held --------------------------------------------------------------------

    cdef uint64_t _stream_capacity(self) noexcept:
        return min(
            max(<uint64_t>STREAM_BUFFER, BUFFER_WINDOWS * self.congestion_window),
            <uint64_t>BUFFER_MAX,
        )

    cdef uint64_t _room(self, Stream stream, uint64_t held) noexcept:
        """Return how much more a stream may hold, so that the path stays full and no fuller.

        The less urgent leave some of the connection's share to the more urgent. A stream that
        comes late would else be held to its least, while what waits behind it keeps the rest.
        """
        cdef uint64_t of_stream = self._stream_capacity()
        cdef uint64_t of_connection = max(<uint64_t>CONNECTION_BUFFER, of_stream) - (
            <uint64_t>max(stream.urgency, 0) * URGENCY_RESERVE
        )
        cdef uint64_t room = 0
        if held < of_stream and self.buffered < of_connection:
            room = min(of_stream - held, of_connection - self.buffered)
        if held < STREAM_SHARE:
            room = max(room, STREAM_SHARE - held)
        return room

    cdef uint64_t _promised(self, Stream stream) noexcept:
        """Return what the peer has to let us send for a stream's end to follow what it holds.

        That is what was sent, what is unsent of the streams that ended, and of this one; nothing of
        those that go on: what is beyond their own windows may wait for ever, and no end waits for
        that. What they send before an end that was accepted can make it wait in the queue.
        """
        cdef uint64_t promised = self.sent + self._unsent_of_ended
        if stream.output is not None:
            promised += stream.output.end - stream.output.next
        return promised

    cdef bint _overdraws(self, Stream stream) noexcept:
        """Return whether a stream holds more than the peer lets us send; an end alone always may."""
        if stream.output is None or stream.output.next == stream.output.end:
            return False
        return stream.output.end > stream.limit or self._promised(stream) > self._max_data

    cdef uint64_t _allowed(self, Stream stream) noexcept:
        """Return how much more the peer lets us send of a stream that does not overdraw."""
        cdef uint64_t end = 0 if stream.output is None else stream.output.end
        cdef uint64_t promised = self._promised(stream)
        if promised >= self._max_data:
            return 0
        return min(stream.limit - end, self._max_data - promised)

    cdef bint _is_end_writable(self, Stream stream) noexcept:
        """Return whether a stream's end, once refused, is worth offering again."""
        return not self._overdraws(stream) and (
            not stream.rest_refused or self._allowed(stream) > 0
        )

    cdef bint _is_writable(self, Stream stream) noexcept:
        """Return whether a stream once refused has so much room that it is worth offering again."""
        cdef uint64_t held = 0
        if stream.end_refused and not self._is_end_writable(stream):
            return False
        if stream.output is not None:
            held = stream.output.end - stream.output.base
        return (
            held <= STREAM_SHARE // 2
            or self._room(stream, held) >= self._stream_capacity() // 2
        )

    cdef int _refuse(self, Stream stream) except -1:
        """Have the application told when the stream accepts more."""
        stream.refused = True
        if not stream.in_refused_list:
            stream.in_refused_list = True
            self._refused.append(stream)
        return 0

    cpdef uint64_t unacknowledged(self, uint64_t stream_id) except? 0:
        """Return how much is held of a stream that the peer has not acknowledged; bytes."""
        cdef Stream stream = self._find(stream_id)
        if stream is None or stream.output is None:
            return 0
        return stream.output.end - stream.output.base

    cpdef bint is_held_up(self, uint64_t stream_id) except -1:
        """Return whether a stream has something to send that its own window does not allow."""
        cdef Stream stream = self._find(stream_id)
        if stream is None:
            return False
        if stream.output is None:
            return stream.refused and stream.limit == 0
        if stream.output.next < stream.limit:
            return False
        return stream.refused or stream.output.next < stream.output.end

    cdef int _refuse_end(self, Stream stream) except -1:
        """Have the application told when the peer lets us send more, and tell the peer."""
        cdef uint64_t end = 0 if stream.output is None else stream.output.end
        stream.end_refused = True
        self._refuse(stream)
        # Whichever of the two limits comes first.
        if stream.limit <= end or stream.limit - end + self._promised(stream) <= self._max_data:
            if stream.blocked_at != stream.limit:
                stream.blocked_at = stream.limit
                self._want(stream, CONTROL_STREAM_DATA_BLOCKED)
        elif self._blocked_at != self._max_data:
            self._blocked_at = self._max_data
            self._control |= CONTROL_DATA_BLOCKED
        return 0

    cdef int tell_writable(self) except -1:
        """Make the upcalls that acknowledgments, resets and credit have made due."""
        cdef Stream stream
        cdef list refused
        if self._streams_raised and self._open_refused and not self.closed:
            self._open_refused = False
            self.handler.on_streams_available()
        if not self._room_changed or not self._refused:
            return 0
        self._room_changed = False
        refused, self._refused = self._refused, []
        _sort_by_rank(refused)
        for stream in refused:
            stream.in_refused_list = False
            if self.closed or not stream.refused:
                continue
            if self._is_writable(stream):
                stream.refused = False
                self.handler.on_stream_writable(stream.key)
            else:
                self._refuse(stream)
        return 0

    # --- whose turn it is ------------------------------------------------------------------------

    cdef int _schedule(self, Stream stream) except -1:
        """Put a stream into the queue in which it belongs, after anything of it changed."""
        cdef SendBuffer output = stream.output
        cdef uint8_t queue = QUEUE_NONE
        if output is not None:
            if output.has_repeats():
                queue = QUEUE_REPEATS
            elif output.next < output.end:
                if output.next < stream.limit:
                    queue = QUEUE_FRESH
                elif stream.blocked_at != stream.limit:
                    stream.blocked_at = stream.limit
                    self._want(stream, CONTROL_STREAM_DATA_BLOCKED)
        if queue == stream.queue:
            return 0
        self._leave_queue(stream)
        if queue == QUEUE_REPEATS:
            self._repeats.add(stream)
        elif queue == QUEUE_FRESH:
            self._fresh.add(stream)
            self._note_blocked()
        return 0

    cdef int _leave_queue(self, Stream stream) except -1:
        if stream.queue == QUEUE_REPEATS:
            self._repeats.remove(stream)
        elif stream.queue == QUEUE_FRESH:
            self._fresh.remove(stream)
        return 0

    cdef int _note_blocked(self) except -1:
        """Tell the peer, once for each limit, that it holds us up (RFC 9000 section 4.1)."""
        if self._fresh.count and self.sent >= self._max_data and self._blocked_at != self._max_data:
            self._blocked_at = self._max_data
            self._control |= CONTROL_DATA_BLOCKED
        return 0

    cdef bint _may_send_data(self) noexcept:
        """Return whether a STREAM frame can be sent."""
        return self._repeats.count > 0 or (self._fresh.count > 0 and self.sent < self._max_data)

    cdef Stream _next(self):
        """Return the stream to send of; None if there is none.

        What was lost goes before new data of the same priority (RFC 9000 section 13.3).
        """
        cdef Stream repeat = self._repeats.first()
        cdef Stream fresh = None
        if self.sent < self._max_data:
            fresh = self._fresh.first()
        if repeat is None:
            return fresh
        if fresh is None or repeat.rank <= fresh.rank:
            return repeat
        return fresh

    # --- STREAM frames ---------------------------------------------------------------------------

    cdef uint8_t* _write_data(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL:
        """Write STREAM frames until there is no more room or nothing to send."""
        cdef Stream stream
        cdef uint8_t* after
        while out < end:
            stream = self._next()
            if stream is None:
                break
            after = self._write_stream(stream, out, end, packet)
            if after == out:
                break
            out = after
            if stream.incremental:
                self._pass_turn(stream)
            self._schedule(stream)
        self._note_blocked()
        return out

    cdef int _pass_turn(self, Stream stream) except -1:
        """Let the others of its priority go first."""
        if stream.queue == QUEUE_REPEATS:
            self._repeats.pass_turn(stream)
        else:
            self._fresh.pass_turn(stream)
        return 0

    cdef uint8_t* _write_stream(
        self, Stream stream, uint8_t* out, uint8_t* end, SentPacket packet
    ) except NULL:
        """Write one STREAM frame of a stream that has something to send, if there is room."""
        cdef SendBuffer output = stream.output
        cdef FrameRecord* record
        cdef uint64_t start = 0
        cdef uint64_t stop = output.pick(stream.limit, &start)
        cdef bint is_new = start == output.next
        cdef Py_ssize_t room, size
        cdef uint8_t* at
        cdef uint8_t frame_type = FRAME_STREAM
        if is_new:
            stop = min(stop, start + (self._max_data - self.sent))
        size = <Py_ssize_t>(stop - start)
        room = (end - out) - 1 - varint_size(stream.id)
        if start:
            frame_type |= STREAM_OFF
            room -= varint_size(start)
        if size < room or size == 0:
            # With a length, which may take the place of the last bytes of data.
            frame_type |= STREAM_LEN
            room -= varint_size(size)
            size = min(size, room)
        else:
            size = room
        # The end alone needs its length; data needs room for at least one byte.
        if room < 0 or (size <= 0 and start != stop):
            return out
        stop = start + <uint64_t>size
        if is_new:
            self.sent += <uint64_t>size
            if output.ended:
                self._unsent_of_ended -= <uint64_t>size
        record = packet.add_frame()
        record.kind = RECORD_STREAM
        record.id = stream.id
        record.offset = start
        record.length = <uint32_t>size
        record.fin = output.on_sent(start, stop)
        if record.fin:
            frame_type |= STREAM_FIN
        out[0] = frame_type
        at = write_varint(out + 1, stream.id)
        if frame_type & STREAM_OFF:
            at = write_varint(at, start)
        if frame_type & STREAM_LEN:
            at = write_varint(at, <uint64_t>size)
        output.read(at, start, size)
        return at + size

    # --- what became of them ---------------------------------------------------------------------

    cdef int _on_data_acked(self, FrameRecord* record) except -1:
        """Let go of data that the peer has."""
        cdef Stream stream = self._find(record.id)
        cdef Py_ssize_t freed
        if stream is None or stream.output is None:
            return 0
        freed = stream.output.on_acked(record.offset, record.offset + record.length, record.fin)
        if freed:
            self.buffered -= <uint64_t>freed
            self.acknowledged += <uint64_t>freed
            self._room_changed = True
        if stream.output.complete():
            self._end_sending(stream)
        elif stream.queue == QUEUE_REPEATS:
            self._schedule(stream)
        return 0

    cdef int _on_data_lost(self, FrameRecord* record) except -1:
        """Have data sent again, unless the peer has it or does not want it."""
        cdef Stream stream = self._find(record.id)
        if stream is None or stream.output is None:
            return 0
        stream.output.on_lost(record.offset, record.offset + record.length, record.fin)
        self._schedule(stream)
        return 0
