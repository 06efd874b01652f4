"""C declarations of how a connection reads datagrams."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from spooky._core.quic.frame_processing cimport FrameProcessing
from spooky._core.quic.path cimport Path
from spooky._core.quic.protection cimport EpochKeys


cdef struct Packet:
    # What is known of a packet before it is opened.
    bint is_long
    int epoch  # -1: Retry, Version Negotiation, or of no interest.
    bint is_early  # 0-RTT.
    int kind  # The two type bits, as version 1 has them.
    uint32_t version
    const uint8_t* start
    const uint8_t* destination
    Py_ssize_t destination_size
    const uint8_t* source
    Py_ssize_t source_size
    const uint8_t* token
    Py_ssize_t token_size
    const uint8_t* number_at
    const uint8_t* end


cdef class Receiving(FrameProcessing):
    cdef list undecryptable  # Datagrams that came before the keys for them.
    cdef bint came_early  # The one at hand did.
    # The datagram is one of those: what else is in it was looked at before.
    cdef bint again

    cdef int receive_datagram(self, bytes payload, object source, uint8_t ecn) except -1
    cdef void drop(self, int why) noexcept  # A Drop.
    cdef int on_forgery(self) except -1
    cdef int keep_for_later(self, Packet* packet) except -1
    cdef int on_authentic(self, Packet* packet, Path path, EpochKeys keys) except -1
    cdef bint parse(self, const uint8_t* data, const uint8_t* end, Packet* packet) noexcept
    cdef bint is_for_us(self, Packet* packet)
    cdef int receive_packet(self, Packet* packet, Path path, uint8_t ecn) except -1
    cdef EpochKeys opening_keys(self, Packet* packet)
    cdef EpochKeys early_opening_keys(self, Packet* packet)
    cdef int on_opened(
        self, Packet* packet, Path path, uint64_t number, bint latest, uint8_t ecn
    ) except -1
    cdef int on_version_negotiation(self, Packet* packet) except -1
    cdef int on_retry(self, Packet* packet) except -1
    cdef int begin_again(self) except -1
    cdef Path path_from(self, object source)
    cdef int keep_path(self, Path path) except -1
    cdef bint is_misplaced(self, Packet* packet)
    cdef int follow(self, Path path) except -1
    cdef int move_to(self, Path path) except -1
    cdef bint is_stateless_reset(self, const uint8_t* data, const uint8_t* end)
