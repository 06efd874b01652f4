"""What the engine calls of the system's libcrypto: opened at run time, never linked."""

from libc.stdint cimport uint8_t

# From openssl/evp.h and openssl/crypto.h, whose values are part of the library's ABI.
cdef enum:
    EVP_CTRL_AEAD_GET_TAG = 0x10
    EVP_CTRL_AEAD_SET_TAG = 0x11
    OPENSSL_VERSION = 0

ctypedef const char* (*Version)(int kind) noexcept
ctypedef void (*ClearErrors)() noexcept
ctypedef void (*Cleanse)(void* data, size_t size) noexcept
ctypedef void* (*Fetch)(void* library, const char* name, const char* properties) noexcept
ctypedef void* (*NewContext)() noexcept
ctypedef void (*FreeContext)(void* context) noexcept
ctypedef int (*SetPadding)(void* context, int padding) noexcept
ctypedef int (*Control)(void* context, int kind, int size, void* value) noexcept
ctypedef int (*Init)(
    void* context, void* cipher, void* engine, const uint8_t* key, const uint8_t* iv
) noexcept
ctypedef int (*Update)(
    void* context, uint8_t* out, int* written, const uint8_t* data, int size
) noexcept
ctypedef int (*Final)(void* context, uint8_t* out, int* written) noexcept
ctypedef int (*BeginHash)(void* state) noexcept
ctypedef int (*UpdateHash)(void* state, const void* data, size_t size) noexcept
ctypedef int (*FinishHash)(uint8_t* out, void* state) noexcept

cdef struct Suite:
    void* aead
    void* header_cipher
    # Kept contexts, for keys that have none of their own: each use sets a key.
    void* sealing
    void* opening
    void* masking

cdef struct Library:
    # By cipher suite, less the number of the first, TLS_AES_128_GCM_SHA256.
    Suite suites[3]
    # Of SHA-256 and SHA-384.
    BeginHash begin_hash[2]
    UpdateHash update_hash[2]
    FinishHash finish_hash[2]
    Version version
    ClearErrors clear_errors
    Cleanse cleanse
    Fetch fetch_cipher
    NewContext new_context
    FreeContext free_context
    SetPadding set_padding
    Control control
    Init encrypt_init
    Update encrypt_update
    Final encrypt_final
    Init decrypt_init
    Update decrypt_update
    Final decrypt_final

cdef Library evp

# Whether all of it is there.
cdef bint loaded

cdef int failed() except -1
