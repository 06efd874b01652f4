"""C declarations of hashes and HMAC; ``hash`` is 0 for SHA-256, 1 for SHA-384."""

from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    DIGEST_MAX_BYTES = 48
    # As 64-bit words, room for SHA512_CTX of openssl/sha.h, which has 216 bytes; SHA256_CTX has 112.
    STATE_WORDS = 28


cdef struct State:
    # What was hashed so far: plain data, to be copied.
    uint64_t words[STATE_WORDS]


cdef int begin(int hash, State* state) except -1
cdef int update(int hash, State* state, const uint8_t* data, size_t size) except -1
cdef int finish(int hash, State* state, uint8_t* out) except -1
cdef int hmac(int hash, bytes key, const uint8_t* data, size_t size, uint8_t* out) except -1
