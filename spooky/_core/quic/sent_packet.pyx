# cython: language_level=3, boundscheck=False, wraparound=False
"""What is remembered of a packet until it is acknowledged or lost."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy


# As many as a window of 1.5 MB: a busy connection allocates none.
@cython.final
@cython.freelist(1024)
cdef class SentPacket:
    """A packet as its sender remembers it.

    Attributes:
        number: Its packet number.
        time_sent: When it was sent, seconds.
        size: Its length on the wire, bytes.
        path: Which of the connection's paths it was sent on, counted by loss recovery.
        ack_eliciting: Whether the peer must acknowledge it.
        in_flight: Whether it counts against the congestion window.
        is_mtu_probe: Whether its loss says nothing about congestion (RFC 9000 section 14.4).
        ecn: The codepoint it was sent with.
    """

    def __cinit__(self):
        self.frames = self._inline
        self._capacity = FRAMES_INLINE

    def __dealloc__(self):
        if self.frames != self._inline:
            free(self.frames)

    def record(self, int kind, uint64_t id, uint64_t offset=0, uint32_t length=0, bint fin=False):
        """Note a frame that the packet carries."""
        cdef FrameRecord* frame = self.add_frame()
        frame.kind = kind
        frame.id = id
        frame.offset = offset
        frame.length = length
        frame.fin = fin

    def records(self):
        """Return the noted frames as tuples of kind, id, offset, length and fin."""
        cdef int index
        return [
            (
                self.frames[index].kind,
                self.frames[index].id,
                self.frames[index].offset,
                self.frames[index].length,
                bool(self.frames[index].fin),
            )
            for index in range(self.frame_count)
        ]

    cdef FrameRecord* add_frame(self) except NULL:
        if self.frame_count == self._capacity:
            self._grow()
        self.frame_count += 1
        return &self.frames[self.frame_count - 1]

    cdef int _grow(self) except -1:
        """Double the room for frame records."""
        cdef int capacity = 2 * self._capacity
        cdef FrameRecord* frames = <FrameRecord*>malloc(capacity * sizeof(FrameRecord))
        if frames == NULL:
            raise MemoryError()
        memcpy(frames, self.frames, self.frame_count * sizeof(FrameRecord))
        if self.frames != self._inline:
            free(self.frames)
        self.frames = frames
        self._capacity = capacity
        return 0
