# cython: language_level=3, boundscheck=False, wraparound=False
"""SHA-256 and SHA-384 of libcrypto, and HMAC over them (RFC 2104).

A handshake asks for some fifty digests of short texts. Through the interface that libcrypto has for
all hashes each of these makes, copies and frees contexts, which costs several times the hashing;
here what was hashed so far is plain data.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcpy, memset

from spooky._core.quic.libcrypto cimport evp, failed

cdef enum:
    BLOCK_MAX_BYTES = 128
    INNER_PAD = 0x36
    OUTER_PAD = 0x5C

cdef size_t[2] BLOCK_BYTES = [64, 128]
cdef size_t[2] DIGEST_BYTES = [32, 48]

# By hash, the key that was used last, and what HMAC begins with under it: half of all keys derived
# come from the secret of the one before. It is kept so that no other key can be taken for it.
cdef list KEYS = [None, None]
cdef State[2] INNER
cdef State[2] OUTER


cdef int begin(int hash, State* state) except -1:
    if evp.begin_hash[hash](state) <= 0:
        failed()
    return 0


cdef int update(int hash, State* state, const uint8_t* data, size_t size) except -1:
    if evp.update_hash[hash](state, data, size) <= 0:
        failed()
    return 0


cdef int finish(int hash, State* state, uint8_t* out) except -1:
    if evp.finish_hash[hash](out, state) <= 0:
        failed()
    return 0


cdef int hmac(int hash, bytes key, const uint8_t* data, size_t size, uint8_t* out) except -1:
    cdef State state
    cdef uint8_t[DIGEST_MAX_BYTES] inner
    if KEYS[hash] is not key:
        take_key(hash, key)
    state = INNER[hash]
    update(hash, &state, data, size)
    finish(hash, &state, inner)
    state = OUTER[hash]
    update(hash, &state, inner, DIGEST_BYTES[hash])
    finish(hash, &state, out)
    return 0


cdef int take_key(int hash, bytes key) except -1:
    cdef uint8_t[BLOCK_MAX_BYTES] pad
    cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(key)
    cdef size_t size = PyBytes_GET_SIZE(key), block = BLOCK_BYTES[hash], i
    cdef State state
    KEYS[hash] = None
    memset(pad, 0, block)
    if size > block:
        begin(hash, &state)
        update(hash, &state, start, size)
        finish(hash, &state, pad)
    else:
        memcpy(pad, start, size)
    for i in range(block):
        pad[i] ^= INNER_PAD
    begin(hash, &INNER[hash])
    update(hash, &INNER[hash], pad, block)
    for i in range(block):
        pad[i] ^= INNER_PAD ^ OUTER_PAD
    begin(hash, &OUTER[hash])
    update(hash, &OUTER[hash], pad, block)
    evp.cleanse(pad, block)
    KEYS[hash] = key
    return 0
