"""Hashes that kernels inline: XXH64 for keys, SplitMix64 for numbers.

The twins of both are in :mod:`spooky._core.pure.hashes`.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "<endian.h>" nogil:
    uint64_t le64toh(uint64_t value)
    uint32_t le32toh(uint32_t value)

cdef extern from *:
    """
    #define SPOOKY_GOLDEN 0x9E3779B97F4A7C15ULL
    #define SPOOKY_PRIME_1 0x9E3779B185EBCA87ULL
    #define SPOOKY_PRIME_2 0xC2B2AE3D27D4EB4FULL
    #define SPOOKY_PRIME_3 0x165667B19E3779F9ULL
    #define SPOOKY_PRIME_4 0x85EBCA77C2B2AE63ULL
    #define SPOOKY_PRIME_5 0x27D4EB2F165667C5ULL
    """
    const uint64_t GOLDEN "SPOOKY_GOLDEN"
    const uint64_t PRIME_1 "SPOOKY_PRIME_1"
    const uint64_t PRIME_2 "SPOOKY_PRIME_2"
    const uint64_t PRIME_3 "SPOOKY_PRIME_3"
    const uint64_t PRIME_4 "SPOOKY_PRIME_4"
    const uint64_t PRIME_5 "SPOOKY_PRIME_5"


cdef inline uint64_t mix(uint64_t value) noexcept nogil:
    """Return the SplitMix64 output for a state: every bit depends on every bit."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL
    return value ^ (value >> 31)


cdef inline uint64_t xxh64(const unsigned char* at, Py_ssize_t length) noexcept nogil:
    """Return XXH64 with seed 0."""
    cdef const unsigned char* end = at + length
    cdef uint64_t value = PRIME_5
    cdef uint64_t[4] lanes
    cdef int lane
    if length >= 32:
        lanes = [PRIME_1 + PRIME_2, PRIME_2, 0, 0 - PRIME_1]
        while end - at >= 32:
            for lane in range(4):
                lanes[lane] = round64(lanes[lane], word64(at + 8 * lane))
            at += 32
        value = (
            rotate64(lanes[0], 1) + rotate64(lanes[1], 7)
            + rotate64(lanes[2], 12) + rotate64(lanes[3], 18)
        )
        for lane in range(4):
            value = (value ^ round64(0, lanes[lane])) * PRIME_1 + PRIME_4
    value += <uint64_t>length
    while end - at >= 8:
        value = rotate64(value ^ round64(0, word64(at)), 27) * PRIME_1 + PRIME_4
        at += 8
    if end - at >= 4:
        value = rotate64(value ^ word32(at) * PRIME_1, 23) * PRIME_2 + PRIME_3
        at += 4
    while at < end:
        value = rotate64(value ^ at[0] * PRIME_5, 11) * PRIME_1
        at += 1
    value = (value ^ (value >> 33)) * PRIME_2
    value = (value ^ (value >> 29)) * PRIME_3
    return value ^ (value >> 32)


cdef inline uint64_t word64(const unsigned char* at) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, at, 8)
    return le64toh(word)


cdef inline uint64_t word32(const unsigned char* at) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, at, 4)
    return le32toh(word)


cdef inline uint64_t rotate64(uint64_t value, int bits) noexcept nogil:
    return value << bits | value >> (64 - bits)


cdef inline uint64_t round64(uint64_t lane, uint64_t word) noexcept nogil:
    return rotate64(lane + word * PRIME_2, 31) * PRIME_1
