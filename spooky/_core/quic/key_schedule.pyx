# cython: language_level=3, boundscheck=False, wraparound=False
"""The key schedule of TLS 1.3 (RFC 8446 section 7.1), over libcrypto's hashes.

Where libcrypto is missing, ``hashlib`` and ``hmac`` take its place, as for packet protection.
"""

import hashlib

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from spooky._core.quic cimport crypto, digests
from spooky._core.quic.crypto cimport hash_digest, hkdf_expand_label, hkdf_extract
from spooky._core.quic.digests cimport State

cdef enum:
    AES_128 = 0x1301
    AES_256 = 0x1302
    CHACHA20 = 0x1303

# What stands for a first hello in the transcript after it (RFC 8446 section 4.4.1).
cdef bytes MESSAGE_HASH = b"\xfe\0\0"

cdef dict EMPTY_HASHES = {name: hashlib.new(name).digest() for name in ("sha256", "sha384")}
cdef dict ZEROS = {"sha256": bytes(32), "sha384": bytes(48)}

# The early secret without a pre-shared key is the same for all handshakes.
cdef dict EARLY_SECRETS = {name: hkdf_extract(name, zeros, zeros) for name, zeros in ZEROS.items()}


@cython.final
cdef class KeySchedule:
    def __cinit__(self, int cipher_suite, bytes pre_shared_key=None):
        cdef int which = cipher_suite == AES_256
        if not AES_128 <= cipher_suite <= CHACHA20:
            raise ValueError(f"no cipher suite of QUIC: {cipher_suite:#06x}")
        self.cipher_suite = cipher_suite
        self.hash_length = 48 if which else 32
        self.hash_name = "sha384" if which else "sha256"
        if pre_shared_key is None:
            self.secret = EARLY_SECRETS[self.hash_name]
        else:
            self.secret = hkdf_extract(self.hash_name, ZEROS[self.hash_name], pre_shared_key)
        if crypto.use_libcrypto:
            digests.begin(which, &self.state)
        else:
            self.hasher = hashlib.new(self.hash_name)

    cpdef update(self, bytes messages):
        if self.hasher is not None:
            self.hasher.update(messages)
            return
        digests.update(
            self.cipher_suite == AES_256, &self.state,
            <const uint8_t*>PyBytes_AS_STRING(messages), PyBytes_GET_SIZE(messages),
        )

    cpdef bytes transcript(self):
        cdef bytes digest
        cdef State state
        if self.hasher is not None:
            return self.hasher.copy().digest()
        state = self.state
        digest = PyBytes_FromStringAndSize(NULL, self.hash_length)
        digests.finish(
            self.cipher_suite == AES_256, &state, <uint8_t*>PyBytes_AS_STRING(digest)
        )
        return digest

    cpdef bytes derive(self, bytes label):
        return self.expand(self.secret, label, self.transcript())

    cpdef advance(self, bytes material=None):
        cdef bytes salt = self.expand(self.secret, b"derived", EMPTY_HASHES[self.hash_name])
        if material is None:
            material = ZEROS[self.hash_name]
        self.secret = hkdf_extract(self.hash_name, salt, material)

    cpdef bytes verify_data(self, bytes base_key):
        # HKDF-Extract is HMAC, with the salt as its key (RFC 5869 section 2.2).
        return hkdf_extract(
            self.hash_name, self.expand(base_key, b"finished", b""), self.transcript()
        )

    cdef bint fits(self, int cipher_suite) noexcept:
        return (cipher_suite == AES_256) == (self.cipher_suite == AES_256)

    def binder_key(self):
        return self.expand(self.secret, b"res binder", EMPTY_HASHES[self.hash_name])

    def resumption_secret(self, bytes nonce):
        return self.expand(self.derive(b"res master"), b"resumption", nonce)

    cdef bytes expand(self, bytes secret, bytes label, bytes context):
        return hkdf_expand_label(self.hash_name, secret, label, context, self.hash_length)


cdef bytes hello_digest(int cipher_suite, bytes hello):
    cdef bytes digest = hash_digest("sha384" if cipher_suite == AES_256 else "sha256", hello)
    return MESSAGE_HASH + bytes((len(digest),)) + digest
