"""C declarations of a connection's table of streams, and of the limits on it."""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.receive_window cimport ReceiveWindow
from spooky._core.quic.stream cimport Stream

cdef enum:
    # Bits of StreamLimits._control: frames of the connection that are to be written.
    CONTROL_MAX_DATA = 1
    CONTROL_DATA_BLOCKED = 2
    # And those for each kind of stream, shifted by it.
    CONTROL_MAX_STREAMS = 4
    CONTROL_STREAMS_BLOCKED = 16


cdef class StreamLimits:
    cdef public object handler  # spooky.protocol.quic.session.QuicHandler
    # Told by the connection before calls that need them.
    cdef public double now  # Seconds.
    cdef public double smoothed_rtt  # Seconds.
    cdef public uint64_t congestion_window  # Bytes.
    cdef readonly bint closed
    cdef dict _table
    cdef uint64_t _our_bit  # The low bit of the IDs of our streams (RFC 9000 section 2.1).
    cdef uint8_t _control
    cdef list _controls  # Streams with frames to write, and some that had.
    cdef readonly Py_ssize_t control_count  # How many have.

    # --- how many streams, by kind: 0 for bidirectional, 1 for unidirectional
    cdef uint64_t[2] _opened  # Ours.
    cdef uint64_t[2] _max_streams  # The peer's limit for them.
    cdef uint64_t[2] _streams_blocked_at  # What the peer was told.
    cdef uint64_t[2] _opened_by_peer
    cdef uint64_t[2] _streams_announced  # Our limit for those, as the peer knows it.
    cdef uint64_t[2] _streams_allowed  # And as it would be announced now.
    cdef bint _open_refused
    cdef bint _streams_raised

    # --- how much data, received
    cdef object _account
    cdef ReceiveWindow _window
    cdef uint64_t _window_max
    cdef uint64_t _window_growth
    cdef uint64_t _stream_window
    cdef uint64_t _stream_window_max
    cdef readonly uint64_t received  # The sum of the highest offsets.
    cdef Py_ssize_t _gaps_max  # Ranges that may wait, of all streams.

    # --- how much data, sent
    cdef uint64_t _max_data
    cdef readonly uint64_t sent  # The sum of the highest offsets.
    cdef uint64_t _blocked_at
    # Whether streams that were refused may have more room than when they were last looked at.
    cdef bint _room_changed
    cdef uint64_t _peer_window_bidi_ours
    cdef uint64_t _peer_window_bidi_theirs
    cdef uint64_t _peer_window_uni

    cdef uint64_t announced_streams(self) noexcept
    cdef Stream _find(self, uint64_t stream_id)
    cdef Stream _named(self, uint64_t frame_type, uint64_t stream_id, bint by_sender)
    cdef Stream _add(self, uint64_t stream_id)
    cdef int _settle(self, Stream stream) except -1
    cdef int _want(self, Stream stream, uint8_t frames) except -1
    cdef int _cancel(self, Stream stream, uint8_t frames) except -1
    cdef int _consider_streams(self, int kind) except -1
    cdef int _raise_max_streams(self, int kind, uint64_t limit) except -1
    cdef int _receive_up_to(self, uint64_t frame_type, Stream stream, uint64_t end) except -1
    cdef int _credit(self, uint64_t count) except -1
    cdef int _tune_window(self) except -1
    cdef uint64_t _initial_limit(self, uint64_t stream_id) noexcept
    cdef int _raise_max_data(self, uint64_t limit) except -1
    cdef int _raise_stream_limit(self, Stream stream, uint64_t limit) except -1
    cdef int _schedule(self, Stream stream) except -1
    cpdef int set_peer_limits(
        self,
        uint64_t max_data,
        uint64_t stream_data_bidi_local,
        uint64_t stream_data_bidi_remote,
        uint64_t stream_data_uni,
        uint64_t streams_bidi,
        uint64_t streams_uni,
    ) except -1
    cpdef object open_stream(self, bint unidirectional)


cdef int fail(int error_code, uint64_t frame_type, str phrase) except -1
