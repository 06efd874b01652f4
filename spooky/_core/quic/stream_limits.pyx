# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A connection's table of streams, and the limits on it: how many, and how much data.

RFC 9000 sections 2.1, 4 and 19.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.receive_window cimport open_window, wanted_size
from spooky._core.quic.stream cimport CONTROL_STREAM_DATA_BLOCKED, NO_LIMIT, Stream

from spooky._core.quic.errors import QuicError, TransportError

cdef int FLOW_CONTROL_ERROR = TransportError.FLOW_CONTROL_ERROR
cdef int STREAM_LIMIT_ERROR = TransportError.STREAM_LIMIT_ERROR
cdef int STREAM_STATE_ERROR = TransportError.STREAM_STATE_ERROR


cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(dict table, object key) except? NULL


cdef int fail(int error_code, uint64_t frame_type, str phrase) except -1:
    """Raise what the peer did wrong."""
    raise QuicError(TransportError(error_code), frame_type, phrase)


cdef class StreamLimits:
    """The streams of a connection by their IDs, and what limits them.

    A stream is known by its ID from when it is opened until both its directions are over and all
    that was delivered of it is consumed.
    """

    def __init__(self, bint is_client, parameters):
        cdef int kind
        self._our_bit = 0 if is_client else 1
        self._table = {}
        self._controls = []
        self._account = parameters.account
        self._stream_window = parameters.stream_window
        self._stream_window_max = max(parameters.stream_window, parameters.stream_window_max)
        self._window_max = max(parameters.connection_window, parameters.connection_window_max)
        self._gaps_max = parameters.limits.stream_pieces
        open_window(&self._window, parameters.connection_window)
        self._streams_allowed[0] = parameters.max_streams_bidi
        self._streams_allowed[1] = parameters.max_streams_uni
        for kind in range(2):
            self._streams_announced[kind] = self._streams_allowed[kind]
            self._streams_blocked_at[kind] = NO_LIMIT
        self._blocked_at = NO_LIMIT

    @property
    def stream_ids(self):
        """The IDs of the streams that are known."""
        return list(self._table)

    cdef uint64_t announced_streams(self) noexcept:
        """Return how many bidirectional streams the peer knows it may open, in all."""
        return self._streams_announced[0]

    cpdef int set_peer_limits(
        self,
        uint64_t max_data,
        uint64_t stream_data_bidi_local,
        uint64_t stream_data_bidi_remote,
        uint64_t stream_data_uni,
        uint64_t streams_bidi,
        uint64_t streams_uni,
    ) except -1:
        """Learn the peer's transport parameters, named alike; always returns 0.

        Those remembered for 0-RTT come first, and the later ones only raise them.
        """
        cdef Stream stream
        self._peer_window_bidi_theirs = max(self._peer_window_bidi_theirs, stream_data_bidi_local)
        self._peer_window_bidi_ours = max(self._peer_window_bidi_ours, stream_data_bidi_remote)
        self._peer_window_uni = max(self._peer_window_uni, stream_data_uni)
        for stream in list(self._table.values()):
            self._raise_stream_limit(stream, self._initial_limit(stream.id))
        self._raise_max_data(max_data)
        self._raise_max_streams(0, streams_bidi)
        self._raise_max_streams(1, streams_uni)
        return 0

    # --- the table -------------------------------------------------------------------------------

    cdef Stream _find(self, uint64_t stream_id):
        """Return a stream, or None if it is over or was never opened."""
        cdef PyObject* stream = PyDict_GetItemWithError(self._table, stream_id)
        return None if stream == NULL else <Stream>stream

    cdef Stream _named(self, uint64_t frame_type, uint64_t stream_id, bint by_sender):
        """Return the stream that a frame is about, opened if need be; None if it is over.

        Arguments:
            by_sender: Whether the frame comes from its sending part, or else its receiving part.
        """
        cdef bint ours = (stream_id & 1) == self._our_bit
        cdef int kind = (stream_id >> 1) & 1
        cdef uint64_t number = stream_id >> 2
        cdef Stream stream
        if kind and ours == by_sender:
            fail(STREAM_STATE_ERROR, frame_type, "the stream has no such direction")
        stream = self._find(stream_id)
        if stream is not None:
            return stream
        if ours:
            if number >= self._opened[kind]:
                fail(STREAM_STATE_ERROR, frame_type, "the stream was never opened")
            return None
        if number < self._opened_by_peer[kind]:
            return None
        if number >= self._streams_announced[kind]:
            fail(STREAM_LIMIT_ERROR, frame_type, "too many streams")
        # Opening a stream opens those below it (RFC 9000 section 2.1).
        while self._opened_by_peer[kind] <= number:
            stream = self._add((self._opened_by_peer[kind] << 2) | (stream_id & 3))
            self._opened_by_peer[kind] += 1
        self._consider_streams(kind)
        return stream

    cdef Stream _add(self, uint64_t stream_id):
        cdef Stream stream = Stream()
        cdef bint ours = (stream_id & 1) == self._our_bit
        stream.id = stream_id
        stream.key = stream_id
        stream.limit = self._initial_limit(stream_id)
        open_window(&stream.window, self._stream_window)
        if stream_id & 2:
            if ours:
                stream.receive_over = True
            else:
                stream.send_over = True
        self._table[stream.key] = stream
        return stream

    cdef int _settle(self, Stream stream) except -1:
        """Forget a stream if it is over; its place goes to another one of the peer's."""
        cdef int kind
        if not (stream.receive_over and stream.send_over):
            return 0
        if not stream.over:
            stream.over = True
            if (stream.id & 1) != self._our_bit:
                kind = (stream.id >> 1) & 1
                self._streams_allowed[kind] += 1
                self._consider_streams(kind)
        if stream.control == 0 and stream.window.consumed >= stream.delivered:
            self._table.pop(stream.key, None)
        return 0

    # --- frames that are to be written -----------------------------------------------------------

    cdef int _want(self, Stream stream, uint8_t frames) except -1:
        """Have frames about a stream written."""
        if stream.control == 0:
            self.control_count += 1
            if not stream.in_control_list:
                stream.in_control_list = True
                self._controls.append(stream)
        stream.control |= frames
        return 0

    cdef int _cancel(self, Stream stream, uint8_t frames) except -1:
        """Have them not written, or count them as written."""
        if stream.control:
            stream.control &= ~frames
            if stream.control == 0:
                self.control_count -= 1
        return 0

    # --- how many streams ------------------------------------------------------------------------

    cdef int _consider_streams(self, int kind) except -1:
        """Announce more streams once the peer has fewer left than that would grant."""
        cdef uint64_t announced = self._streams_announced[kind]
        if self._streams_allowed[kind] - announced > announced - self._opened_by_peer[kind]:
            self._control |= CONTROL_MAX_STREAMS << kind
        return 0

    cdef int _raise_max_streams(self, int kind, uint64_t limit) except -1:
        """Learn how many streams the peer lets us open."""
        if limit <= self._max_streams[kind]:
            return 0
        self._max_streams[kind] = limit
        self._control &= ~(CONTROL_STREAMS_BLOCKED << kind)
        self._streams_raised = True
        return 0

    cpdef object open_stream(self, bint unidirectional):
        """Return the ID of a new stream, or None while the peer's limit is reached."""
        cdef int kind = 1 if unidirectional else 0
        cdef Stream stream
        if self.closed:
            return None
        if self._opened[kind] >= self._max_streams[kind]:
            self._open_refused = True
            self._streams_raised = False
            if self._streams_blocked_at[kind] != self._max_streams[kind]:
                self._streams_blocked_at[kind] = self._max_streams[kind]
                self._control |= CONTROL_STREAMS_BLOCKED << kind
            return None
        stream = self._add((self._opened[kind] << 2) | (<uint64_t>kind << 1) | self._our_bit)
        self._opened[kind] += 1
        return stream.key

    # --- how much data ---------------------------------------------------------------------------

    cdef int _receive_up_to(self, uint64_t frame_type, Stream stream, uint64_t end) except -1:
        """Count what the peer has sent of a stream, up to an offset (RFC 9000 section 4.1)."""
        cdef uint64_t more
        if end <= stream.highest:
            return 0
        more = end - stream.highest
        if end > stream.window.limit:
            fail(FLOW_CONTROL_ERROR, frame_type, "more data than the stream may carry")
        if more > self._window.limit - self.received:
            fail(FLOW_CONTROL_ERROR, frame_type, "more data than the connection may carry")
        stream.highest = end
        self.received += more
        return 0

    cdef int _credit(self, uint64_t count) except -1:
        """Count bytes as consumed, and announce it when it is worth it."""
        self._window.consumed += count
        if self._window.consumed >= self._window.announce_at:
            self._control |= CONTROL_MAX_DATA
        return 0

    cdef int _tune_window(self) except -1:
        """Let the connection's window grow, if the application is fast enough and memory allows."""
        cdef uint64_t size = wanted_size(
            &self._window, self._window_max, self.now, self.smoothed_rtt
        )
        cdef uint64_t growth = size - self._window.size
        if growth and self._account.grow(growth):
            self._window.size = size
            self._window_growth += growth
        return 0

    cdef uint64_t _initial_limit(self, uint64_t stream_id) noexcept:
        """Return what the peer's transport parameters let us send on a stream."""
        cdef bint ours = (stream_id & 1) == self._our_bit
        if stream_id & 2:
            return self._peer_window_uni if ours else 0
        return self._peer_window_bidi_ours if ours else self._peer_window_bidi_theirs

    cdef int _raise_max_data(self, uint64_t limit) except -1:
        """Learn how much the peer lets us send on all streams together."""
        if limit > self._max_data:
            self._max_data = limit
            self._room_changed = True
            self._control &= ~CONTROL_DATA_BLOCKED
        return 0

    cdef int _raise_stream_limit(self, Stream stream, uint64_t limit) except -1:
        """Learn how much the peer lets us send on a stream."""
        if limit > stream.limit:
            stream.limit = limit
            self._room_changed = True
            self._cancel(stream, CONTROL_STREAM_DATA_BLOCKED)
            self._schedule(stream)
        return 0

    cdef int _schedule(self, Stream stream) except -1:
        """Queue a stream if it may send; the part that sends does."""
        return 0
