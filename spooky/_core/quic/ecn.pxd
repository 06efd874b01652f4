"""C declarations of ECN validation."""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.space cimport PacketNumberSpace


cdef enum EcnState:
    ECN_TESTING
    ECN_UNKNOWN  # Enough was marked; nothing more until the peer reports.
    ECN_CAPABLE
    ECN_FAILED


cdef class EcnPath:
    cdef EcnState _state
    cdef uint64_t _tested
    cdef uint64_t _lost

    cdef uint8_t codepoint(self) noexcept
    cdef void on_marked_sent(self) noexcept
    cdef void on_marked_lost(self) noexcept
    cdef void on_nothing_reported(self, PacketNumberSpace space) noexcept
    # Returns how many packets more than before were CE-marked; 0 if the counts are wrong too.
    cdef uint64_t on_reported(
        self, PacketNumberSpace space, uint64_t ect0, uint64_t ect1, uint64_t ce, bint this_path
    ) noexcept
