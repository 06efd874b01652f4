# cython: language_level=3, boundscheck=False, wraparound=False
"""AES-256-GCM under random nonces, in the contexts of libcrypto that packets are sealed in.

Each of these has the code and the tables of a handshake's packets in the processor's caches, and
makes and frees nothing.
"""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.limits cimport INT_MAX
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spooky._core.quic cimport crypto, libcrypto
from spooky._core.quic.libcrypto cimport (
    EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG, evp, failed,
)

cdef enum:
    NONCE_LENGTH = 12
    TAG_LENGTH = 16

    AES_256_GCM = 1  # Its place among the suites.


@cython.final
cdef class Sealer:
    def __cinit__(self, bytes key not None):
        if PyBytes_GET_SIZE(key) != KEY_LENGTH:
            raise ValueError("a key has 32 bytes")
        memcpy(self.key, PyBytes_AS_STRING(key), KEY_LENGTH)
        if not crypto.use_libcrypto:
            self.cipher = AESGCM(key)

    def __dealloc__(self):
        if libcrypto.loaded:
            evp.cleanse(self.key, KEY_LENGTH)

    def seal(self, bytes plain not None, bytes associated not None=b""):
        cdef bytes nonce = os.urandom(NONCE_LENGTH)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(plain)
        cdef bytes sealed
        cdef uint8_t* out
        cdef void* context = evp.suites[AES_256_GCM].sealing
        cdef int written
        if self.cipher is not None:
            return nonce + self.cipher.encrypt(nonce, plain, associated)
        if size > INT_MAX - NONCE_LENGTH - TAG_LENGTH or PyBytes_GET_SIZE(associated) > INT_MAX:
            raise OverflowError("more than can be sealed at once")
        sealed = PyBytes_FromStringAndSize(NULL, NONCE_LENGTH + size + TAG_LENGTH)
        out = <uint8_t*>PyBytes_AS_STRING(sealed)
        memcpy(out, PyBytes_AS_STRING(nonce), NONCE_LENGTH)
        out += NONCE_LENGTH
        if (
            evp.encrypt_init(
                context, NULL, NULL, self.key, <const uint8_t*>PyBytes_AS_STRING(nonce)
            ) <= 0
            or (
                PyBytes_GET_SIZE(associated) > 0
                and evp.encrypt_update(
                    context, NULL, &written, <const uint8_t*>PyBytes_AS_STRING(associated),
                    <int>PyBytes_GET_SIZE(associated),
                ) <= 0
            )
            or (
                size > 0
                and evp.encrypt_update(
                    context, out, &written, <const uint8_t*>PyBytes_AS_STRING(plain), <int>size
                ) <= 0
            )
            or evp.encrypt_final(context, out + size, &written) <= 0
            or evp.control(context, EVP_CTRL_AEAD_GET_TAG, TAG_LENGTH, out + size) <= 0
        ):
            failed()
        return sealed

    def open(self, bytes sealed not None, bytes associated not None=b""):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(sealed) - NONCE_LENGTH - TAG_LENGTH
        cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(sealed)
        cdef bytes plain
        cdef void* context = evp.suites[AES_256_GCM].opening
        cdef int written
        if size < 0 or size > INT_MAX or PyBytes_GET_SIZE(associated) > INT_MAX:
            return None
        if self.cipher is not None:
            try:
                return self.cipher.decrypt(
                    sealed[:NONCE_LENGTH], sealed[NONCE_LENGTH:], associated
                )
            except InvalidTag:
                return None
        plain = PyBytes_FromStringAndSize(NULL, size)
        if (
            evp.decrypt_init(context, NULL, NULL, self.key, start) <= 0
            or evp.control(
                context, EVP_CTRL_AEAD_SET_TAG, TAG_LENGTH, <void*>(start + NONCE_LENGTH + size)
            ) <= 0
            or (
                PyBytes_GET_SIZE(associated) > 0
                and evp.decrypt_update(
                    context, NULL, &written, <const uint8_t*>PyBytes_AS_STRING(associated),
                    <int>PyBytes_GET_SIZE(associated),
                ) <= 0
            )
            or (
                size > 0
                and evp.decrypt_update(
                    context, <uint8_t*>PyBytes_AS_STRING(plain), &written, start + NONCE_LENGTH,
                    <int>size,
                ) <= 0
            )
            or evp.decrypt_final(
                context, <uint8_t*>PyBytes_AS_STRING(plain) + size, &written
            ) <= 0
        ):
            # What is left in the queue would be taken for an error of the thread's next caller.
            evp.clear_errors()
            return None
        return plain
