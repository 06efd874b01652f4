"""QUIC packet protection: what the engine calls for every packet."""

from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    TAG_LENGTH = 16
    NONCE_LENGTH = 12
    SAMPLE_LENGTH = 16
    MASK_LENGTH = 5


cdef class PacketKey:
    cdef void* context
    cdef object cipher
    cdef bint sealing
    cdef uint8_t[NONCE_LENGTH] iv

    cdef int seal(
        self, uint64_t packet_number, const uint8_t* header, size_t header_length,
        const uint8_t* plain, size_t plain_length, uint8_t* out,
    ) except -1
    cdef Py_ssize_t open(
        self, uint64_t packet_number, const uint8_t* header, size_t header_length,
        const uint8_t* cipher, size_t cipher_length, uint8_t* out,
    ) noexcept
    cdef void nonce(self, uint64_t packet_number, uint8_t* out) noexcept
    cdef int seal_by_package(
        self, const uint8_t* nonce, const uint8_t* header, size_t header_length,
        const uint8_t* plain, size_t plain_length, uint8_t* out,
    ) except -1
    cdef Py_ssize_t open_by_package(
        self, const uint8_t* nonce, const uint8_t* header, size_t header_length,
        const uint8_t* cipher, size_t cipher_length, uint8_t* out,
    ) noexcept


cdef class HeaderKey:
    cdef void* context
    cdef bytes key
    cdef object encryptor
    cdef bint stream

    cdef int mask(self, const uint8_t* sample, uint8_t* out5) except -1
    cdef bytes mask_by_package(self, bytes sample)


# Whether libcrypto does the work, and not the package.
cdef bint use_libcrypto

cpdef PacketKey packet_key(int cipher_suite, unsigned int version, bytes secret, bint sealing)
cpdef HeaderKey header_key(int cipher_suite, unsigned int version, bytes secret)
cpdef tuple initial_secrets(unsigned int version, bytes connection_id)
cpdef bytes next_secret(int cipher_suite, unsigned int version, bytes secret)
cpdef bytes hkdf_extract(str hash_name, bytes salt, bytes material)
cpdef bytes hkdf_expand_label(
    str hash_name, bytes secret, bytes label, bytes context, Py_ssize_t length
)
cpdef bytes retry_integrity_tag(
    unsigned int version, bytes original_destination_connection_id, bytes retry_packet
)
cpdef uint64_t confidentiality_limit(int cipher_suite) except 0
cpdef uint64_t integrity_limit(int cipher_suite) except 0
