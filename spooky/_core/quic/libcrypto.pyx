# cython: language_level=3
"""Opens the system's libcrypto and checks that it has all that the engine calls.

Nothing of it is linked or bundled, and no header of it is needed: what is declared here is the ABI
that OpenSSL keeps within a major version. A table of functions is filled when this module is
imported; where anything is missing, ``cryptography`` takes the place of all of it.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp, strlen

NAME = "libcrypto.so.3"

cdef extern from "dlfcn.h":
    enum:
        RTLD_NOW
        RTLD_LOCAL
    void* dlopen(const char* path, int flags)
    void* dlsym(void* library, const char* name)

cdef enum:
    DIGEST_MAX_BYTES = 64

# OSSL_PARAM of openssl/core.h.
cdef enum:
    OSSL_PARAM_UTF8_STRING = 4

cdef struct Parameter:
    const char* key
    unsigned int data_type
    const void* data
    size_t data_size
    size_t return_size


cdef void* function(void* library, const char* name) except NULL:
    cdef void* found = dlsym(library, name)
    if found == NULL:
        raise LookupError(f"there is no {name.decode()}")
    return found


cdef void* cipher(Library* table, const char* name) except NULL:
    cdef void* fetched = table.fetch_cipher(NULL, name, NULL)
    if fetched == NULL:
        table.clear_errors()
        raise LookupError(f"there is no {name.decode()}")
    return fetched


cdef Suite suite(Library* table, const char* aead, const char* header_cipher) except *:
    """Return a suite whose kept contexts have their cipher, and lack a key."""
    cdef Suite made
    made.aead = cipher(table, aead)
    made.header_cipher = cipher(table, header_cipher)
    made.sealing, made.opening = table.new_context(), table.new_context()
    made.masking = table.new_context()
    if made.sealing == NULL or made.opening == NULL or made.masking == NULL:
        raise MemoryError
    if (
        table.encrypt_init(made.sealing, made.aead, NULL, NULL, NULL) <= 0
        or table.decrypt_init(made.opening, made.aead, NULL, NULL, NULL) <= 0
        or table.encrypt_init(made.masking, made.header_cipher, NULL, NULL, NULL) <= 0
        or table.set_padding(made.masking, 0) <= 0
    ):
        table.clear_errors()
        raise LookupError(f"{aead.decode()} cannot be used")
    return made


cdef void* digest(Library* table, const char* name) except NULL:
    cdef void* fetched = table.fetch_digest(NULL, name, NULL)
    if fetched == NULL:
        table.clear_errors()
        raise LookupError(f"there is no {name.decode()}")
    return fetched


cdef void* hmac(Library* table, const char* digest) except NULL:
    """Return a context that has its hash, and lacks a key."""
    cdef Parameter[2] parameters
    cdef void* context = NULL
    cdef void* mac = table.fetch_mac(NULL, b"HMAC", NULL)
    parameters[0] = Parameter(b"digest", OSSL_PARAM_UTF8_STRING, digest, strlen(digest), 0)
    parameters[1] = Parameter(NULL, 0, NULL, 0, 0)
    if mac != NULL:
        context = table.new_mac(mac)
    if context == NULL or table.init_mac(context, b"\0", 1, parameters) <= 0:
        table.clear_errors()
        raise LookupError(f"there is no HMAC with {digest.decode()}")
    return context


cdef bint begins_again(Library* table, void* context) noexcept:
    """Whether a context of HMAC without a new key goes on with the one it has, from the beginning.

    In the first releases of OpenSSL 3 it went on with the old message.
    """
    cdef uint8_t[2][DIGEST_MAX_BYTES] digests
    cdef size_t[2] written
    cdef int i
    for i in range(2):
        if (
            table.init_mac(context, NULL, 0, NULL) <= 0
            or table.update_mac(context, b"spooky", 6) <= 0
            or table.final_mac(context, digests[i], &written[i], DIGEST_MAX_BYTES) <= 0
        ):
            table.clear_errors()
            return False
    return written[0] == written[1] and memcmp(digests[0], digests[1], written[0]) == 0


def load(str name):
    global evp, loaded
    cdef Library table
    cdef bytes path = name.encode()
    cdef void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL)
    if library == NULL:
        raise LookupError(f"there is no {name}")
    table.version = <Version>function(library, b"OpenSSL_version")
    table.clear_errors = <ClearErrors>function(library, b"ERR_clear_error")
    table.cleanse = <Cleanse>function(library, b"OPENSSL_cleanse")
    table.fetch_cipher = <Fetch>function(library, b"EVP_CIPHER_fetch")
    table.fetch_mac = <Fetch>function(library, b"EVP_MAC_fetch")
    table.new_context = <NewContext>function(library, b"EVP_CIPHER_CTX_new")
    table.free_context = <FreeContext>function(library, b"EVP_CIPHER_CTX_free")
    table.set_padding = <SetPadding>function(library, b"EVP_CIPHER_CTX_set_padding")
    table.control = <Control>function(library, b"EVP_CIPHER_CTX_ctrl")
    table.encrypt_init = <Init>function(library, b"EVP_EncryptInit_ex")
    table.encrypt_update = <Update>function(library, b"EVP_EncryptUpdate")
    table.encrypt_final = <Final>function(library, b"EVP_EncryptFinal_ex")
    table.decrypt_init = <Init>function(library, b"EVP_DecryptInit_ex")
    table.decrypt_update = <Update>function(library, b"EVP_DecryptUpdate")
    table.decrypt_final = <Final>function(library, b"EVP_DecryptFinal_ex")
    table.new_mac = <NewMac>function(library, b"EVP_MAC_CTX_new")
    table.init_mac = <InitMac>function(library, b"EVP_MAC_init")
    table.update_mac = <UpdateMac>function(library, b"EVP_MAC_update")
    table.final_mac = <FinalMac>function(library, b"EVP_MAC_final")
    table.fetch_digest = <Fetch>function(library, b"EVP_MD_fetch")
    table.new_digest = <NewContext>function(library, b"EVP_MD_CTX_new")
    table.free_digest = <FreeContext>function(library, b"EVP_MD_CTX_free")
    table.init_digest = <InitDigest>function(library, b"EVP_DigestInit_ex")
    table.update_digest = <UpdateDigest>function(library, b"EVP_DigestUpdate")
    table.final_digest = <FinalDigest>function(library, b"EVP_DigestFinal_ex")
    table.copy_digest = <CopyDigest>function(library, b"EVP_MD_CTX_copy_ex")
    # Fetched once for all keys: an implicit fetch costs more than sealing a packet.
    table.suites[0] = suite(&table, b"AES-128-GCM", b"AES-128-ECB")
    table.suites[1] = suite(&table, b"AES-256-GCM", b"AES-256-ECB")
    table.suites[2] = suite(&table, b"ChaCha20-Poly1305", b"ChaCha20")
    table.hmacs[0] = hmac(&table, b"SHA256")
    table.hmacs[1] = hmac(&table, b"SHA384")
    table.hmac_begins_again = begins_again(&table, table.hmacs[0]) and begins_again(
        &table, table.hmacs[1]
    )
    table.digests[0] = digest(&table, b"SHA256")
    table.digests[1] = digest(&table, b"SHA384")
    table.digest_copy = table.new_digest()
    if table.digest_copy == NULL:
        raise MemoryError
    evp = table
    loaded = True


def version():
    return evp.version(OPENSSL_VERSION).decode() if loaded else None


cdef int failed() except -1:
    """Raise for an operation that libcrypto refused, and leave no error in its queue."""
    evp.clear_errors()
    raise RuntimeError("libcrypto refused an operation")


try:
    load(NAME)
except LookupError:
    pass  # The packets are protected all the same, and `spooky info` says by what.
