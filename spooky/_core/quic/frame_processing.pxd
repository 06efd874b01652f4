"""C declarations of what a connection makes of frames."""

from libc.stdint cimport uint64_t

from spooky._core.quic.connection_ids cimport IssuedId
from spooky._core.quic.path cimport Path
from spooky._core.quic.ranges cimport RangeSet
from spooky._core.quic.sending cimport Sending
from spooky._core.quic.wire cimport Reader


cdef class FrameProcessing(Sending):
    # Of the packet being processed.
    cdef Path packet_path
    cdef bytes packet_destination
    cdef bint packet_eliciting
    cdef bint packet_probing
    cdef RangeSet ack_ranges
    cdef list newly_acked
    cdef list newly_lost

    cdef int process_payload(self, int epoch, uint64_t allowed, Reader* reader) except -1
    cdef int process_frame(self, int epoch, uint64_t frame_type, Reader* reader) except -1
    cdef int on_ack(self, int epoch, uint64_t frame_type, Reader* reader) except -1
    cdef int on_crypto(self, int epoch, Reader* reader) except -1
    cdef int on_new_connection_id(self, Reader* reader) except -1
    cdef int on_retire_connection_id(self, Reader* reader) except -1
    cdef int on_path_challenge(self, Reader* reader) except -1
    cdef int on_path_response(self, Reader* reader) except -1
    cdef int name_path(self, Path path) except -1
    cdef IssuedId id_of(self, Path path)
    cdef bint shares_its_id(self, Path path)
    cdef bint may_give_up(self, Path path) noexcept
    cdef int drop_path(self, Path path) except -1
    cdef int keep_an_id(self, Path spared) except -1
    cdef double path_patience(self) noexcept
    cdef int on_connection_close(self, uint64_t frame_type, Reader* reader) except -1
    cdef int on_new_token(self, Reader* reader) except -1
