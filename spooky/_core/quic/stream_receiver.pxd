"""C declarations of the receiving parts of a connection's streams."""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.stream cimport Stream
from spooky._core.quic.stream_control cimport StreamControl
from spooky._core.quic.wire cimport Reader

cdef enum:
    # What is handed to the application in one piece at most, if it came in several; bytes.
    PIECE_MAX = 64 * 1024


cdef class StreamReceiver(StreamControl):
    cdef readonly Py_ssize_t gaps  # Ranges that wait, of all streams.
    cdef list _ready  # Streams with something to tell.

    cpdef int consume(self, uint64_t stream_id, Py_ssize_t count) except -1
    cpdef int stop_sending(self, uint64_t stream_id, uint64_t error_code) except -1
    cdef int _on_stream(self, uint64_t frame_type, Reader* reader) except -1
    cdef int _on_reset_stream(self, Reader* reader) except -1
    cdef int _check_size(self, uint64_t frame_type, Stream stream, uint64_t end, bint fin) except -1
    cdef int _take(
        self, Stream stream, uint64_t offset, const uint8_t* data, Py_ssize_t size
    ) except -1
    cdef int _keep(
        self, Stream stream, uint64_t offset, const uint8_t* data, Py_ssize_t size
    ) except -1
    cdef int _take_waiting(self, Stream stream) except -1
    cdef int _gather(self, Stream stream, bytes piece) except -1
    cdef int _release_waiting(self, Stream stream) except -1
    cdef int _drop(self, Stream stream) except -1
    cdef int _make_ready(self, Stream stream) except -1
    cdef int _end_receiving(self, Stream stream) except -1
    cdef int deliver(self) except -1
    cdef int _deliver_data(self, Stream stream) except -1
