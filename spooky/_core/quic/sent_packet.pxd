"""C declarations of what is remembered of a packet until it is acknowledged or lost."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    # Most packets carry an ACK and one or two frames more.
    FRAMES_INLINE = 3


cdef struct FrameRecord:
    uint64_t id  # The stream, or the value that was announced.
    uint64_t offset
    uint32_t length
    uint8_t kind  # The connection's own constants.
    uint8_t fin


cdef class SentPacket:
    cdef public uint64_t number
    cdef public double time_sent  # Seconds; set by Recovery.on_packet_sent.
    cdef public uint32_t size  # Bytes of the packet on the wire, of all its header too.
    cdef public uint32_t path  # Set by Recovery.on_packet_sent.
    cdef public bint ack_eliciting
    cdef public bint in_flight
    cdef public bint is_mtu_probe
    cdef public uint8_t ecn  # The codepoint it was sent with: 0, 1 for ECT(1), 2 for ECT(0).
    cdef int frame_count
    cdef FrameRecord* frames
    cdef int _capacity
    cdef FrameRecord[FRAMES_INLINE] _inline

    # Returns the place of one more record, uninitialised.
    cdef FrameRecord* add_frame(self) except NULL
    cdef int _grow(self) except -1
