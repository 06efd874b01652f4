"""C declarations of the streams of a QUIC connection, as the connection uses them.

What is not declared here is inherited: `handler`, `now`, `smoothed_rtt`, `congestion_window`,
`closed`, `set_peer_limits`, `open_stream`, `send`, `reset`, `set_priority`, `consume`,
`stop_sending`, `deliver` and `tell_writable`.
"""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.sent_packet cimport FrameRecord, SentPacket
from spooky._core.quic.stream_receiver cimport StreamReceiver
from spooky._core.quic.wire cimport Reader


cdef class Streams(StreamReceiver):
    # Takes one frame of types 0x04, 0x05, 0x08 to 0x0f and 0x10 to 0x17; the reader stands after
    # the type. Raises QuicError. Makes no upcalls: `deliver` and `tell_writable` do.
    cdef int on_frame(self, uint64_t frame_type, Reader* reader) except -1
    # Whether `write` would write something, given room; takes constant time.
    cdef bint has_frames(self) noexcept
    # Writes control frames, then STREAM frames in order of priority; adds their records to the
    # packet; returns the place after what was written. The last STREAM frame has no length if it
    # ends at `end`.
    cdef uint8_t* write(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL
    cdef int on_record_acked(self, FrameRecord* record) except -1
    # Has what the record tells of sent again, if it is still wanted.
    cdef int on_record_lost(self, FrameRecord* record) except -1
    cdef bint all_acknowledged(self) noexcept
    # Drops everything, and gives the window's growth back to the account.
    cdef int close(self) except -1
    cdef int _on_stop_sending(self, Reader* reader) except -1
    cdef int _on_max_stream_data(self, Reader* reader) except -1
    cdef int _on_limit(self, uint64_t frame_type, Reader* reader) except -1
