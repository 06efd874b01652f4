"""C declarations of the keys of one connection."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from spooky._core.quic.crypto cimport HeaderKey, PacketKey


cdef class EpochKeys:
    cdef PacketKey sealing  # None until TLS gave the secret, as all of them.
    cdef PacketKey opening
    cdef HeaderKey masking
    cdef HeaderKey unmasking
    cdef int cipher_suite
    cdef uint64_t _sealed
    cdef uint64_t _limit

    cdef int set_secret(
        self, bint sending, int cipher_suite, unsigned int version, bytes secret
    ) except -1


    cdef void set_limit(self, uint64_t limit) noexcept
    cdef bint at_confidentiality_limit(self) noexcept


cdef class PhasedKeys(EpochKeys):
    cdef unsigned int _version
    cdef bytes _send_secret
    cdef bytes _receive_secret
    cdef readonly bint phase  # Of what we send.
    cdef bint update_wanted
    cdef uint64_t _first_sent  # The number of the first packet sent in this phase.
    cdef uint64_t _first_received  # The lowest received in this phase; 2**64 - 1 for none.
    cdef PacketKey _previous
    cdef double _previous_until
    cdef PacketKey _following
    cdef uint64_t _change_after

    # Returns the size of the payload, -1 if it is not authentic.
    cdef Py_ssize_t open_phased(
        self, bint phase, uint64_t number, const uint8_t* header, Py_ssize_t header_size,
        const uint8_t* cipher, Py_ssize_t cipher_size, uint8_t* out, double now, double keep,
    ) except -2
    # Before each packet: changes the keys if that is wanted and allowed.
    cdef int prepare_to_seal(
        self, uint64_t number, int64_t largest_acknowledged, bint confirmed, double now,
        double keep,
    ) except -1
    cdef int _update(self, uint64_t next_number, double now, double keep) except -1
    cdef PacketKey _next_opening(self)
