"""C declarations of the CRYPTO stream of one packet number space."""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.ranges cimport RangeSet
from spooky._core.quic.sent_packet cimport FrameRecord, SentPacket


cdef class CryptoStream:
    cdef int _epoch
    cdef uint64_t _ahead_max  # How far data may run ahead of its turn, bytes.
    cdef Py_ssize_t _pieces_max
    # --- received
    cdef uint64_t _delivered  # What was given to TLS, bytes.
    # From there on, with holes, and what of it is there; None while nothing came ahead of its turn.
    cdef bytearray _waiting
    cdef RangeSet _ranges
    # --- sent
    cdef bytearray _data  # Of what the peer has not acknowledged.
    cdef uint64_t _base  # The offset of its first byte.
    cdef uint64_t _next  # The first that was never sent.
    cdef RangeSet _lost  # None while there is none.
    cdef RangeSet _acknowledged  # None while nothing above `_base` was.

    cdef bytes receive(self, uint64_t offset, const uint8_t* data, uint64_t size)
    cdef int write(self, bytes data) except -1
    cdef bint pending(self) noexcept
    cdef bint has_lost(self) noexcept
    # Writes one frame if it fits; returns the place after it.
    cdef uint8_t* write_frame(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL
    cdef int on_acked(self, FrameRecord* record) except -1
    cdef int on_lost(self, FrameRecord* record) except -1
    cdef bint all_acknowledged(self) noexcept
    cdef bytes _take_front(self)
