"""C declarations of the control frames of a connection's streams."""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.sent_packet cimport FrameRecord, SentPacket
from spooky._core.quic.stream cimport Stream
from spooky._core.quic.stream_sender cimport StreamSender


cdef class StreamControl(StreamSender):
    cdef uint8_t* _write_control(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL
    cdef uint8_t* _write_limits(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL
    cdef uint8_t* _write_stream_control(
        self, Stream stream, uint8_t* out, uint8_t* end, SentPacket packet
    ) except NULL
    cdef int _announce_stream_window(self, Stream stream) except -1
    cdef int _on_control_lost(self, FrameRecord* record) except -1
    cdef int _on_stream_control_lost(self, FrameRecord* record) except -1
