# cython: language_level=3, boundscheck=False, wraparound=False
"""The CRYPTO stream of one packet number space (RFC 9000 sections 7.5 and 19.6)."""

cimport cython
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from spooky._core.quic.frames cimport FRAME_CRYPTO
from spooky._core.quic.ranges cimport RangeSet
from spooky._core.quic.records cimport RECORD_CRYPTO
from spooky._core.quic.sent_packet cimport FrameRecord, SentPacket
from spooky._core.quic.wire cimport varint_size, write_data, write_varint

from spooky._core.quic.errors import QuicError, TransportError

cdef enum:
    # Type, the widest offset there is (64 KiB and some), length, and a byte.
    FRAME_OVERHEAD = 1 + 8 + 2


@cython.final
cdef class CryptoStream:
    """Handshake bytes of both directions, without flow control.

    Arguments:
        epoch: The packet number space they belong to.
        limits: How much may wait for its turn.
    """

    def __init__(self, int epoch, limits):
        self._epoch = epoch
        self._ahead_max = limits.crypto_ahead_bytes
        self._pieces_max = limits.crypto_pieces
        self._data = bytearray()

    # --- receiving ------------------------------------------------------------------------------

    cdef bytes receive(self, uint64_t offset, const uint8_t* data, uint64_t size):
        """Take a frame's data and return the bytes whose turn it is."""
        cdef uint64_t end = offset + size
        cdef uint64_t skip
        cdef uint8_t* waiting
        if end > self._delivered + self._ahead_max:
            raise QuicError(
                TransportError.CRYPTO_BUFFER_EXCEEDED, FRAME_CRYPTO, "too much handshake data"
            )
        if not size or end <= self._delivered:
            return b""
        if offset < self._delivered:
            skip = self._delivered - offset
            data, offset, size = data + skip, self._delivered, size - skip
        if offset == self._delivered and (self._ranges is None or not self._ranges.count):
            self._delivered = end
            return data[:size]
        if self._ranges is None:
            self._ranges = RangeSet()
            self._waiting = bytearray()
        if end - self._delivered > <uint64_t>len(self._waiting):
            self._waiting.extend(bytes(end - self._delivered - len(self._waiting)))
        waiting = self._waiting
        memcpy(waiting + (offset - self._delivered), data, size)
        self._ranges.add(offset, end)
        if self._ranges.count > self._pieces_max:
            raise QuicError(
                TransportError.PROTOCOL_VIOLATION, FRAME_CRYPTO, "too many gaps in received data"
            )
        return self._take_front()

    cdef bytes _take_front(self):
        cdef uint64_t size
        cdef bytes front
        if self._ranges.items[0].start > self._delivered:
            return b""
        size = self._ranges.items[0].stop - self._delivered
        front = bytes(self._waiting[:size])
        del self._waiting[:size]
        self._delivered += size
        self._ranges.remove_below(self._delivered)
        return front

    # --- sending --------------------------------------------------------------------------------

    cdef int write(self, bytes data) except -1:
        """Send more."""
        self._data.extend(data)
        return 0

    cdef bint pending(self) noexcept:
        """Whether there is something to send."""
        return self.has_lost() or self._next < self._base + <uint64_t>len(self._data)

    cdef bint has_lost(self) noexcept:
        return self._lost is not None and self._lost.count > 0

    cdef uint8_t* write_frame(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL:
        cdef uint64_t offset, size, room
        cdef FrameRecord* record
        cdef uint8_t* data
        cdef bint again = self.has_lost()
        if end - out <= FRAME_OVERHEAD:
            return out
        if again:
            offset = self._lost.items[0].start
            size = self._lost.items[0].stop - offset
        else:
            offset = self._next
            size = self._base + len(self._data) - offset
        room = end - out - 1 - varint_size(offset) - 2
        if size > room:
            size = room
        if again:
            self._lost.remove(offset, offset + size)
        else:
            self._next += size
        record = packet.add_frame()
        record.kind, record.id, record.offset = RECORD_CRYPTO, self._epoch, offset
        record.length, record.fin = size, False
        data = self._data
        out[0] = FRAME_CRYPTO
        out = write_varint(write_varint(out + 1, offset), size)
        return write_data(out, data + (offset - self._base), size)

    cdef int on_acked(self, FrameRecord* record) except -1:
        """Let go of what the peer has."""
        # What is below is gone already: the peer may acknowledge another copy of it.
        cdef uint64_t start = max(record.offset, self._base)
        cdef uint64_t stop = record.offset + record.length
        if start >= stop:
            return 0
        if self._lost is not None:
            self._lost.remove(start, stop)
        if self._acknowledged is None and start > self._base:
            self._acknowledged = RangeSet()
        if self._acknowledged is not None:
            self._acknowledged.add(start, stop)
            if self._acknowledged.items[0].start > self._base:
                return 0
            stop = self._acknowledged.items[0].stop
            self._acknowledged.remove_below(stop)
        del self._data[: stop - self._base]
        self._base = stop
        return 0

    cdef int on_lost(self, FrameRecord* record) except -1:
        """Send again what the peer may not have."""
        cdef Py_ssize_t index
        cdef uint64_t start = max(record.offset, self._base)
        cdef uint64_t stop = record.offset + record.length
        if start >= stop:
            return 0
        if self._lost is None:
            self._lost = RangeSet()
        self._lost.add(start, stop)
        if self._acknowledged is None:
            return 0
        for index in range(self._acknowledged.count):
            self._lost.remove(
                self._acknowledged.items[index].start, self._acknowledged.items[index].stop
            )
        return 0

    cdef bint all_acknowledged(self) noexcept:
        return len(self._data) == 0
