# cython: language_level=3
"""Opens the system's libcrypto and checks that it has all that the engine calls.

Nothing of it is linked or bundled, and no header of it is needed: what is declared here is the ABI
that OpenSSL keeps within a major version. A table of functions is filled when this module is
imported; where anything is missing, ``cryptography`` takes the place of all of it.
"""

NAME = "libcrypto.so.3"

cdef extern from "dlfcn.h":
    enum:
        RTLD_NOW
        RTLD_LOCAL
    void* dlopen(const char* path, int flags)
    void* dlsym(void* library, const char* name)

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
    table.begin_hash[0] = <BeginHash>function(library, b"SHA256_Init")
    table.update_hash[0] = <UpdateHash>function(library, b"SHA256_Update")
    table.finish_hash[0] = <FinishHash>function(library, b"SHA256_Final")
    table.begin_hash[1] = <BeginHash>function(library, b"SHA384_Init")
    table.update_hash[1] = <UpdateHash>function(library, b"SHA384_Update")
    table.finish_hash[1] = <FinishHash>function(library, b"SHA384_Final")
    # Fetched once for all keys: an implicit fetch costs more than sealing a packet.
    table.suites[0] = suite(&table, b"AES-128-GCM", b"AES-128-ECB")
    table.suites[1] = suite(&table, b"AES-256-GCM", b"AES-256-ECB")
    table.suites[2] = suite(&table, b"ChaCha20-Poly1305", b"ChaCha20")
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
