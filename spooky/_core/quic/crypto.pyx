# cython: language_level=3, boundscheck=False, wraparound=False
"""QUIC packet protection (RFC 9001 sections 5 and 6, RFC 9369 section 3.3).

The ciphers are those of the system's libcrypto. A key that is used much keeps a context, so only
the nonce changes from packet to packet; the others share one. Where that library is missing, the
``cryptography`` package does the same through Python calls.
"""

import hashlib
import hmac
import logging
from importlib import metadata

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.limits cimport INT_MAX
from libc.string cimport memcpy

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from spooky._core.quic cimport digests, libcrypto
from spooky._core.quic.digests cimport State
from spooky._core.quic import libcrypto as library
from spooky._core.quic.libcrypto cimport (
    EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG, Init, Suite, evp, failed,
)

logger = logging.getLogger(__name__)

VERSION_1 = 0x00000001
VERSION_2 = 0x6B3343CF

TLS_AES_128_GCM_SHA256 = 0x1301
TLS_AES_256_GCM_SHA384 = 0x1302
TLS_CHACHA20_POLY1305_SHA256 = 0x1303

LIBCRYPTO = "libcrypto"
CRYPTOGRAPHY = "cryptography"

use_libcrypto = libcrypto.loaded

cdef enum:
    AES_128 = 0x1301
    AES_256 = 0x1302
    CHACHA20 = 0x1303

    PACKETS_WITHOUT_CONTEXT = 16
    # Making a context and freeing it costs as much as setting the key of a shared one a dozen
    # times, and keeping it 1 KiB. Keys of a handshake protect a few packets, as do all of an idle
    # connection.


def provider():
    if use_libcrypto:
        return f"{library.version()} ({library.NAME})"
    return f"cryptography {metadata.version('cryptography')}"


def use_provider(str name):
    global use_libcrypto
    if name not in (LIBCRYPTO, CRYPTOGRAPHY):
        raise ValueError(f"no provider of ciphers is called {name}")
    if name == LIBCRYPTO and not libcrypto.loaded:
        raise LookupError(f"{library.NAME} is not usable here")
    use_libcrypto = name == LIBCRYPTO
    RETRY_KEYS.clear()


# --- keys --------------------------------------------------------------------------------------
@cython.final
cdef class PacketKey:
    def __cinit__(self, int cipher_suite, bytes key, bytes iv, bint sealing):
        check_key(cipher_suite, key)
        if PyBytes_GET_SIZE(iv) != NONCE_LENGTH:
            raise ValueError("an IV has 12 bytes")
        memcpy(self.iv, PyBytes_AS_STRING(iv), NONCE_LENGTH)
        memcpy(self.key, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        self.sealing = sealing
        self.suite = cipher_suite - AES_128
        if not use_libcrypto:
            self.cipher = (ChaCha20Poly1305 if cipher_suite == CHACHA20 else AESGCM)(key)

    def __dealloc__(self):
        if libcrypto.loaded:
            evp.cleanse(self.key, KEY_MAX_LENGTH)
        if self.context != NULL:
            evp.free_context(self.context)

    def seal_bytes(
        self, uint64_t packet_number, const uint8_t[::1] header, const uint8_t[::1] plain
    ):
        cdef size_t size = plain.shape[0]
        cdef bytes sealed = PyBytes_FromStringAndSize(NULL, size + TAG_LENGTH)
        self.seal(
            packet_number, pointer(header), header.shape[0], pointer(plain), size,
            <uint8_t*>PyBytes_AS_STRING(sealed),
        )
        return sealed

    def open_bytes(
        self, uint64_t packet_number, const uint8_t[::1] header, const uint8_t[::1] cipher
    ):
        cdef size_t size = cipher.shape[0]
        cdef bytes opened = PyBytes_FromStringAndSize(NULL, size)
        cdef Py_ssize_t length = self.open(
            packet_number, pointer(header), header.shape[0], pointer(cipher), size,
            <uint8_t*>PyBytes_AS_STRING(opened),
        )
        return opened[:length] if length >= 0 else None

    cdef void* ready(self, const uint8_t* nonce) noexcept:
        """Return a context with this key and a nonce; ``NULL`` if libcrypto gives none."""
        cdef Suite* suite = &evp.suites[self.suite]
        cdef Init init = evp.encrypt_init if self.sealing else evp.decrypt_init
        cdef void* context = self.context
        cdef void* cipher = NULL
        cdef const uint8_t* key = NULL
        if context == NULL:
            key = self.key
            self.packets += 1
            if self.packets > PACKETS_WITHOUT_CONTEXT:
                context = self.context = evp.new_context()
                cipher = suite.aead
            else:
                context = suite.sealing if self.sealing else suite.opening
        if context == NULL or init(context, cipher, NULL, key, nonce) <= 0:
            return NULL
        return context

    cdef void nonce(self, uint64_t packet_number, uint8_t* out) noexcept:
        """Write the IV combined with the packet number (RFC 9001 section 5.3)."""
        cdef int i
        memcpy(out, self.iv, NONCE_LENGTH)
        for i in range(8):
            out[NONCE_LENGTH - 1 - i] ^= <uint8_t>(packet_number >> (8 * i))

    cdef int seal(
        self, uint64_t packet_number, const uint8_t* header, size_t header_length,
        const uint8_t* plain, size_t plain_length, uint8_t* out,
    ) except -1:
        cdef uint8_t[NONCE_LENGTH] nonce
        cdef void* context
        cdef int written
        if not self.sealing or header_length > INT_MAX or plain_length > INT_MAX:
            raise ValueError("not a key to seal with, or more than a packet")
        self.nonce(packet_number, nonce)
        if self.cipher is not None:
            return self.seal_by_package(nonce, header, header_length, plain, plain_length, out)
        context = self.ready(nonce)
        if (
            context == NULL
            or (
                header_length > 0
                and evp.encrypt_update(context, NULL, &written, header, header_length) <= 0
            )
            or (
                plain_length > 0
                and evp.encrypt_update(context, out, &written, plain, plain_length) <= 0
            )
            or evp.encrypt_final(context, out + plain_length, &written) <= 0
            or evp.control(context, EVP_CTRL_AEAD_GET_TAG, TAG_LENGTH, out + plain_length) <= 0
        ):
            failed()
        return 0

    cdef Py_ssize_t open(
        self, uint64_t packet_number, const uint8_t* header, size_t header_length,
        const uint8_t* cipher, size_t cipher_length, uint8_t* out,
    ) noexcept:
        cdef uint8_t[NONCE_LENGTH] nonce
        cdef void* context
        cdef int written
        cdef size_t length = cipher_length - TAG_LENGTH
        if (
            self.sealing
            or cipher_length < TAG_LENGTH
            or header_length > INT_MAX
            or cipher_length > INT_MAX
        ):
            return -1
        self.nonce(packet_number, nonce)
        if self.cipher is not None:
            return self.open_by_package(nonce, header, header_length, cipher, cipher_length, out)
        context = self.ready(nonce)
        if (
            context == NULL
            or evp.control(
                context, EVP_CTRL_AEAD_SET_TAG, TAG_LENGTH, <void*>(cipher + length)
            ) <= 0
            or (
                header_length > 0
                and evp.decrypt_update(context, NULL, &written, header, header_length) <= 0
            )
            or (
                length > 0
                and evp.decrypt_update(context, out, &written, cipher, length) <= 0
            )
            or evp.decrypt_final(context, out + length, &written) <= 0
        ):
            # What is left in the queue would be taken for an error of the thread's next caller.
            evp.clear_errors()
            return -1
        return length

    cdef int seal_by_package(
        self, const uint8_t* nonce, const uint8_t* header, size_t header_length,
        const uint8_t* plain, size_t plain_length, uint8_t* out,
    ) except -1:
        cdef bytes sealed = self.cipher.encrypt(
            nonce[:NONCE_LENGTH], plain[:plain_length], header[:header_length]
        )
        memcpy(out, PyBytes_AS_STRING(sealed), plain_length + TAG_LENGTH)
        return 0

    cdef Py_ssize_t open_by_package(
        self, const uint8_t* nonce, const uint8_t* header, size_t header_length,
        const uint8_t* cipher, size_t cipher_length, uint8_t* out,
    ) noexcept:
        cdef bytes opened
        try:
            opened = self.cipher.decrypt(
                nonce[:NONCE_LENGTH], cipher[:cipher_length], header[:header_length]
            )
        except InvalidTag:
            return -1
        except Exception:
            # For whatever reason, it was not authenticated.
            logger.exception("a packet could not be opened")
            return -1
        memcpy(out, PyBytes_AS_STRING(opened), cipher_length - TAG_LENGTH)
        return cipher_length - TAG_LENGTH


@cython.final
cdef class HeaderKey:
    def __cinit__(self, int cipher_suite, bytes key):
        check_key(cipher_suite, key)
        memcpy(self.key, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        self.suite = cipher_suite - AES_128
        self.by_package = not use_libcrypto
        if self.by_package and cipher_suite != CHACHA20:
            self.encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()

    def __dealloc__(self):
        if libcrypto.loaded:
            evp.cleanse(self.key, KEY_MAX_LENGTH)
        if self.context != NULL:
            evp.free_context(self.context)

    def mask_bytes(self, bytes sample):
        cdef uint8_t[MASK_LENGTH] out
        if PyBytes_GET_SIZE(sample) != SAMPLE_LENGTH:
            raise ValueError("a sample has 16 bytes")
        self.mask(<const uint8_t*>PyBytes_AS_STRING(sample), out)
        return out[:MASK_LENGTH]

    cdef void* ready(self, const uint8_t* iv) noexcept:
        """Return a context with this key, as in PacketKey."""
        cdef Suite* suite = &evp.suites[self.suite]
        cdef void* context = self.context
        cdef void* cipher = NULL
        cdef const uint8_t* key = NULL
        if context == NULL:
            key = self.key
            self.packets += 1
            if self.packets > PACKETS_WITHOUT_CONTEXT:
                context = self.context = evp.new_context()
                cipher = suite.header_cipher
            else:
                context = suite.masking
        elif iv == NULL:
            return context
        if context == NULL or evp.encrypt_init(context, cipher, NULL, key, iv) <= 0 or (
            cipher != NULL and evp.set_padding(context, 0) <= 0
        ):
            return NULL
        return context

    cdef int mask(self, const uint8_t* sample, uint8_t* out5) except -1:
        """Write the mask of a sample (RFC 9001 sections 5.4.3 and 5.4.4)."""
        cdef uint8_t[SAMPLE_LENGTH] block
        cdef const uint8_t* source = sample
        cdef const uint8_t* iv = NULL
        cdef void* context
        cdef int size = SAMPLE_LENGTH
        cdef int written
        cdef bytes found
        if self.by_package:
            found = self.mask_by_package(sample[:SAMPLE_LENGTH])
            memcpy(out5, PyBytes_AS_STRING(found), MASK_LENGTH)
            return 0
        if self.suite == CHACHA20 - AES_128:
            # The sample is counter and nonce as libcrypto takes them, and the mask the keystream.
            iv = sample
            source = <const uint8_t*>b"\0\0\0\0\0"
            size = MASK_LENGTH
        context = self.ready(iv)
        if context == NULL or evp.encrypt_update(context, block, &written, source, size) <= 0:
            failed()
        memcpy(out5, block, MASK_LENGTH)
        return 0

    cdef bytes mask_by_package(self, bytes sample):
        if self.encryptor is None:
            cipher = Cipher(algorithms.ChaCha20(self.key[:KEY_MAX_LENGTH], sample), None)
            return cipher.encryptor().update(bytes(MASK_LENGTH))
        return self.encryptor.update(sample)


cdef inline const uint8_t* pointer(const uint8_t[::1] data) noexcept:
    return &data[0] if data.shape[0] > 0 else NULL


cdef int check_suite(int cipher_suite) except -1:
    if not AES_128 <= cipher_suite <= CHACHA20:
        raise ValueError(f"no cipher suite of QUIC: {cipher_suite:#06x}")
    return 0


cdef int check_key(int cipher_suite, bytes key) except -1:
    """Refuse what is no cipher suite of QUIC, and a key of another length."""
    check_suite(cipher_suite)
    if PyBytes_GET_SIZE(key) != key_length(cipher_suite):
        raise ValueError("a key of another cipher suite")
    return 0


cdef inline int key_length(int cipher_suite) noexcept:
    return 16 if cipher_suite == AES_128 else 32


# --- derivation --------------------------------------------------------------------------------
cdef dict INITIAL_SALTS = {
    VERSION_1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    VERSION_2: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
}

# RFC 9001 section 5.8, RFC 9369 section 3.3.3: the keys of all Retry packets come from these.
cdef dict RETRY_SECRETS = {
    VERSION_1: bytes.fromhex("d9c9943e6101fd200021506bcc02814c73030f25c79d71ce876eca876e6fca8e"),
    VERSION_2: bytes.fromhex("c4dd2484d681aefa4ff4d69c2c20299984a765a5d3c31982f38fc74162155e9f"),
}
cdef dict RETRY_KEYS = {}

cdef dict LABEL_PREFIXES = {VERSION_1: b"quic ", VERSION_2: b"quicv2 "}


cdef enum:
    LABEL_MAX = 249  # what one byte can say, less "tls13 "
    INFORMATION_MAX = 2 + 1 + 6 + LABEL_MAX + 1 + 0xFF + 1


cdef bytes of_version(dict table, unsigned int version):
    value = table.get(version)
    if value is None:
        raise ValueError(f"no version of QUIC: {version:#010x}")
    return value


cdef str hash_of(int cipher_suite):
    return "sha384" if cipher_suite == AES_256 else "sha256"


cdef bytes expand(
    int cipher_suite, unsigned int version, bytes secret, bytes label, Py_ssize_t length
):
    """Return what a secret gives under a label of a version (RFC 9369 section 3.3.2)."""
    check_suite(cipher_suite)
    label = of_version(LABEL_PREFIXES, version) + label
    return hkdf_expand_label(hash_of(cipher_suite), secret, label, b"", length)


cpdef PacketKey packet_key(int cipher_suite, unsigned int version, bytes secret, bint sealing):
    key = expand(cipher_suite, version, secret, b"key", key_length(cipher_suite))
    iv = expand(cipher_suite, version, secret, b"iv", NONCE_LENGTH)
    return PacketKey(cipher_suite, key, iv, sealing)


cpdef HeaderKey header_key(int cipher_suite, unsigned int version, bytes secret):
    return HeaderKey(
        cipher_suite, expand(cipher_suite, version, secret, b"hp", key_length(cipher_suite))
    )


cpdef tuple initial_secrets(unsigned int version, bytes connection_id):
    secret = hkdf_extract("sha256", of_version(INITIAL_SALTS, version), connection_id)
    return (
        hkdf_expand_label("sha256", secret, b"client in", b"", 32),
        hkdf_expand_label("sha256", secret, b"server in", b"", 32),
    )


cpdef bytes next_secret(int cipher_suite, unsigned int version, bytes secret):
    return expand(cipher_suite, version, secret, b"ku", PyBytes_GET_SIZE(secret))


cpdef bytes hkdf_extract(str hash_name, bytes salt, bytes material):
    return hmac_digest(
        hash_name, salt, <const uint8_t*>PyBytes_AS_STRING(material), PyBytes_GET_SIZE(material)
    )


@cython.final
cdef class Hmac:
    cdef bytes key
    cdef bytes prefix
    cdef Py_ssize_t length

    def __init__(self, bytes key not None, bytes prefix not None, Py_ssize_t length):
        self.key = key
        self.prefix = prefix
        self.length = length

    def __call__(self, bytes text not None):
        return hkdf_extract("sha256", self.key, self.prefix + text)[: self.length]


cpdef bytes hkdf_expand_label(
    str hash_name, bytes secret, bytes label, bytes context, Py_ssize_t length
):
    cdef uint8_t[INFORMATION_MAX] information
    cdef uint8_t* end = information
    cdef Py_ssize_t label_size = PyBytes_GET_SIZE(label), size = PyBytes_GET_SIZE(context)
    cdef bytes block, output
    if not 0 <= length <= 0xFFFF or label_size > LABEL_MAX or size > 0xFF:
        raise ValueError("longer than a label can say (RFC 8446 section 7.1)")
    end[0], end[1], end[2] = length >> 8, length & 0xFF, 6 + label_size
    memcpy(end + 3, b"tls13 ", 6)
    memcpy(end + 9, PyBytes_AS_STRING(label), label_size)
    end += 9 + label_size
    end[0] = size
    memcpy(end + 1, PyBytes_AS_STRING(context), size)
    end += 1 + size
    end[0] = 1  # the first block's number
    block = output = hmac_digest(hash_name, secret, information, end + 1 - information)
    while PyBytes_GET_SIZE(output) < length:
        if end[0] == 0xFF:
            raise ValueError("longer than HKDF gives (RFC 5869 section 2.3)")
        end[0] += 1
        block = hkdf_extract(hash_name, secret, block + information[: end + 1 - information])
        output += block
    return output if PyBytes_GET_SIZE(output) == length else output[:length]


cdef int index_of(str hash_name) except -1:
    """Return the number of a hash in ``digests``."""
    if hash_name == "sha256":
        return 0
    if hash_name == "sha384":
        return 1
    raise ValueError(f"no hash of a cipher suite: {hash_name}")


cdef bytes hash_digest(str hash_name, bytes data):
    cdef int hash = index_of(hash_name)
    cdef State state
    cdef bytes found
    if not use_libcrypto:
        return hashlib.new(hash_name, data).digest()
    found = PyBytes_FromStringAndSize(NULL, 48 if hash else 32)
    digests.begin(hash, &state)
    digests.update(hash, &state, <const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    digests.finish(hash, &state, <uint8_t*>PyBytes_AS_STRING(found))
    return found


cdef bytes hmac_digest(str hash_name, bytes key, const uint8_t* data, Py_ssize_t size):
    cdef int hash = index_of(hash_name)
    cdef bytes digest
    if not use_libcrypto:
        return hmac.digest(key, data[:size], hash_name)
    digest = PyBytes_FromStringAndSize(NULL, 48 if hash else 32)
    digests.hmac(hash, key, data, size, <uint8_t*>PyBytes_AS_STRING(digest))
    return digest


cpdef bytes retry_integrity_tag(
    unsigned int version, bytes original_destination_connection_id, bytes retry_packet
):
    cdef PacketKey key = RETRY_KEYS.get(version)
    if key is None:
        secret = of_version(RETRY_SECRETS, version)
        key = RETRY_KEYS[version] = packet_key(AES_128, version, secret, True)
    pseudo_packet = (
        bytes((len(original_destination_connection_id),))
        + original_destination_connection_id
        + retry_packet
    )
    return key.seal_bytes(0, pseudo_packet, b"")


cpdef uint64_t confidentiality_limit(int cipher_suite) except 0:
    check_suite(cipher_suite)
    return <uint64_t>1 << (62 if cipher_suite == CHACHA20 else 23)


cpdef uint64_t integrity_limit(int cipher_suite) except 0:
    check_suite(cipher_suite)
    return <uint64_t>1 << (36 if cipher_suite == CHACHA20 else 52)
