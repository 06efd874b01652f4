"""How messages of TLS are read and written (RFC 8446 section 3); inline where it is little.

A vector of TLS is a length and so many bytes, which what is inside has to fill exactly.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

# Handshake messages (RFC 8446 section 4).
cdef enum:
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    NEW_SESSION_TICKET = 4
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    CERTIFICATE_VERIFY = 15
    FINISHED = 20

# Extensions (RFC 8446 section 4.2, RFC 7301, RFC 9001 section 8.2).
cdef enum:
    SERVER_NAME = 0
    STATUS_REQUEST = 5
    SUPPORTED_GROUPS = 10
    SIGNATURE_ALGORITHMS = 13
    ALPN = 16
    SIGNED_CERTIFICATE_TIMESTAMP = 18
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    PSK_KEY_EXCHANGE_MODES = 45
    CERTIFICATE_AUTHORITIES = 47
    OID_FILTERS = 48
    SIGNATURE_ALGORITHMS_CERT = 50
    KEY_SHARE = 51
    QUIC_TRANSPORT_PARAMETERS = 57

    # Those of which a set is kept as bits; a message has each once.
    EXTENSIONS_TOLD = 64

cdef enum:
    TLS_1_2 = 0x0303
    TLS_1_3 = 0x0304

    # Of a message: its type, and its length.
    HEADER_BYTES = 4
    EXTENSION_HEADER_BYTES = 4
    RANDOM_BYTES = 32


cdef struct Cursor:
    # What is left of a message or of a vector.
    const uint8_t* at
    const uint8_t* end


cdef int malformed() except -1
cdef int illegal(str phrase) except -1


# --- reading -----------------------------------------------------------------------------------
cdef inline int take_number(Cursor* source, int size, uint32_t* value) except -1:
    """Take a number of some bytes."""
    cdef int i
    if source.end - source.at < size:
        malformed()
    value[0] = 0
    for i in range(size):
        value[0] = value[0] << 8 | source.at[i]
    source.at += size
    return 0


cdef inline int take_vector(Cursor* source, int size, Cursor* inside) except -1:
    """Take a vector whose length is a number of some bytes."""
    cdef uint32_t length
    take_number(source, size, &length)
    if source.end - source.at < <Py_ssize_t>length:
        malformed()
    inside.at = source.at
    inside.end = source.at = source.at + length
    return 0


cdef inline int take_last_vector(Cursor* source, int size, Cursor* inside) except -1:
    """Take a vector that nothing follows."""
    take_vector(source, size, inside)
    check_end(source)
    return 0


cdef inline int check_end(Cursor* source) except -1:
    if source.at != source.end:
        malformed()
    return 0


cdef Cursor body_of(bytes message)
cdef int next_extension(Cursor* source, uint64_t* seen, Cursor* value) except -1
cdef bytes rest(Cursor* source)
cdef tuple take_pairs(Cursor* inside)
cdef list take_opaques(Cursor* inside, int size)
cpdef list read_certificates(bytes message)
cpdef tuple read_certificate_verify(bytes message)


# --- writing -----------------------------------------------------------------------------------
cdef int check_length(Py_ssize_t length) except -1


cdef inline uint8_t* put_number(uint8_t* at, Py_ssize_t value, int size) noexcept:
    """Write a number of some bytes, and return the place after it."""
    cdef int i
    for i in range(size):
        at[i] = <uint8_t>(value >> 8 * (size - 1 - i))
    return at + size


cdef inline uint8_t* put_bytes(uint8_t* at, bytes data) noexcept:
    memcpy(at, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return at + PyBytes_GET_SIZE(data)


cdef inline uint8_t* put_header(uint8_t* at, int kind, Py_ssize_t length) noexcept:
    """Write the header of a message."""
    return put_number(put_number(at, kind, 1), length, 3)


cdef inline uint8_t* put_extension(uint8_t* at, int kind, Py_ssize_t length) noexcept:
    """Write the header of an extension."""
    return put_number(put_number(at, kind, 2), length, 2)
