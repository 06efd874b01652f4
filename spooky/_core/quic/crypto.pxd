"""QUIC packet protection: what the engine calls for every packet."""

from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    TAG_LENGTH = 16
    NONCE_LENGTH = 12
    SAMPLE_LENGTH = 16
    MASK_LENGTH = 5


    KEY_MAX_LENGTH = 32


cdef class PacketKey:
    cdef void* context  # Its own; NULL while it is used too little for one.
    cdef object cipher  # Of the package; None where libcrypto does the work.
    cdef bint sealing
    cdef int suite
    cdef int packets  # As long as it has no context.
    cdef uint8_t[NONCE_LENGTH] iv
    cdef uint8_t[KEY_MAX_LENGTH] key

    cdef int seal(
        self, uint64_t packet_number, const uint8_t* header, size_t header_length,
        const uint8_t* plain, size_t plain_length, uint8_t* out,
    ) except -1
    cdef Py_ssize_t open(
        self, uint64_t packet_number, const uint8_t* header, size_t header_length,
        const uint8_t* cipher, size_t cipher_length, uint8_t* out,
    ) noexcept
    cdef void* ready(self, const uint8_t* nonce) noexcept
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
    cdef void* context  # As in PacketKey.
    cdef object encryptor  # Of the package, for AES.
    cdef bint by_package
    cdef int suite
    cdef int packets
    cdef uint8_t[KEY_MAX_LENGTH] key

    cdef void* ready(self, const uint8_t* iv) noexcept
    cdef int mask(self, const uint8_t* sample, uint8_t* out5) except -1
    cdef bytes mask_by_package(self, bytes sample)


# Whether libcrypto does the work, and not the package.
cdef bint use_libcrypto

cpdef PacketKey packet_key(int cipher_suite, unsigned int version, bytes secret, bint sealing)
cpdef HeaderKey header_key(int cipher_suite, unsigned int version, bytes secret)
cpdef tuple initial_secrets(unsigned int version, bytes connection_id)
cpdef bytes next_secret(int cipher_suite, unsigned int version, bytes secret)
cdef bytes hash_digest(str hash_name, bytes data)
cpdef bytes hkdf_extract(str hash_name, bytes salt, bytes material)
cpdef bytes hkdf_expand_label(
    str hash_name, bytes secret, bytes label, bytes context, Py_ssize_t length
)
cpdef bytes retry_integrity_tag(
    unsigned int version, bytes original_destination_connection_id, bytes retry_packet
)
cpdef uint64_t confidentiality_limit(int cipher_suite) except 0
cpdef uint64_t integrity_limit(int cipher_suite) except 0
