"""C declarations of how a connection builds its datagrams."""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.endpoint cimport Endpoint
from spooky._core.quic.path cimport Path
from spooky._core.quic.sent_packet cimport SentPacket


cdef struct Draft:
    # A packet whose payload is written and not yet protected.
    int epoch
    uint64_t number
    uint8_t* start
    uint8_t* number_at
    uint8_t* payload
    uint8_t* end
    bint eliciting
    bint is_early  # 0-RTT.


cdef class Sending(Endpoint):
    cpdef list flush(self, double now)
    cdef bint owes_acknowledgment(self) noexcept
    cdef list build_runs(self)
    cdef list build_close(self)
    cdef bint sends_early(self) noexcept
    cdef bint may_send(self, int epoch) noexcept
    cdef bint has_content(self, int epoch) noexcept
    cdef Py_ssize_t build_datagram(self, uint8_t* out, Py_ssize_t limit) except -1
    cdef bint draft_packet(
        self, int epoch, uint8_t* out, uint8_t* end, bint content, SentPacket packet, Draft* draft
    ) except -1
    cdef uint8_t* write_header(
        self, int epoch, uint8_t* out, bytes destination, Draft* draft
    ) except NULL
    cdef uint8_t* write_content(
        self, int epoch, uint8_t* out, uint8_t* end, SentPacket packet
    ) except NULL
    cdef uint8_t* write_control(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL
    cdef uint8_t* write_close(self, int epoch, uint8_t* out, uint8_t* end) except NULL
    cdef int finish_packet(self, Draft* draft, SentPacket packet, Py_ssize_t padding) except -1
    cdef Py_ssize_t build_probe(
        self, uint8_t* out, Path path, Py_ssize_t size, bint is_mtu_probe
    ) except -1
    cdef bint must_not_seal(self) noexcept
    cdef int add_path_probes(self, list runs, uint8_t* buffer) except -1
    cdef bint give_id(self, Path path)
    cdef list repeat_goodbye(self)
    cdef int add_size_probe(self, list runs, uint8_t* buffer) except -1
    cdef object make_run(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t segment, Path path)
