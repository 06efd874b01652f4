# cython: language_level=3, boundscheck=False, wraparound=False
"""What a client's hello says (RFC 8446 section 4.1.2), read once.

A vector of TLS is a length and so many bytes, which what is inside has to fill exactly.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t

from spooky._core.quic.errors import Alert, TlsAlert

cdef enum:
    CLIENT_HELLO = 1
    LEGACY_VERSION = 0x0303
    RANDOM_LENGTH = 32
    HOST_NAME = 0

# Extensions (RFC 8446 section 4.2, RFC 9001 section 8.2).
cdef enum:
    SERVER_NAME = 0
    SUPPORTED_GROUPS = 10
    SIGNATURE_ALGORITHMS = 13
    ALPN = 16
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    PSK_KEY_EXCHANGE_MODES = 45
    KEY_SHARE = 51
    QUIC_TRANSPORT_PARAMETERS = 57

cdef struct Cursor:
    const uint8_t* at
    const uint8_t* end


@cython.final
cdef class ClientHello:
    """A hello; what was not in it is ``None``."""


cdef inline int malformed() except -1:
    raise TlsAlert(Alert.DECODE_ERROR, "a malformed ClientHello")


cdef inline int illegal(str phrase) except -1:
    raise TlsAlert(Alert.ILLEGAL_PARAMETER, phrase)


cdef inline int number(Cursor* source, int size, uint32_t* value) except -1:
    """Take a number of some bytes."""
    cdef int i
    if source.end - source.at < size:
        malformed()
    value[0] = 0
    for i in range(size):
        value[0] = value[0] << 8 | source.at[i]
    source.at += size
    return 0


cdef inline int vector(Cursor* source, int size, Cursor* inside) except -1:
    """Take a vector whose length is a number of some bytes."""
    cdef uint32_t length
    number(source, size, &length)
    if source.end - source.at < <Py_ssize_t>length:
        malformed()
    inside.at = source.at
    inside.end = source.at = source.at + length
    return 0


cdef inline int only_vector(Cursor* source, int size, Cursor* inside) except -1:
    """Take a vector that nothing follows."""
    vector(source, size, inside)
    if source.at != source.end:
        malformed()
    return 0


cdef inline bytes rest(Cursor* source):
    return PyBytes_FromStringAndSize(<const char*>source.at, source.end - source.at)


cdef tuple pairs(Cursor* inside):
    """Return the numbers of a vector, two bytes each."""
    cdef list found = []
    cdef uint32_t value
    while inside.at != inside.end:
        number(inside, 2, &value)
        found.append(value)
    return tuple(found)


cdef list opaque_list(Cursor* inside, int size):
    cdef list found = []
    cdef Cursor item
    while inside.at != inside.end:
        vector(inside, size, &item)
        found.append(rest(&item))
    return found


cpdef ClientHello parse_client_hello(bytes message):
    cdef ClientHello hello = ClientHello.__new__(ClientHello)
    cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(message)
    cdef Cursor source = Cursor(start, start + PyBytes_GET_SIZE(message))
    cdef Cursor body, inside
    cdef uint32_t value
    number(&source, 1, &value)
    if value != CLIENT_HELLO:
        raise TlsAlert(Alert.UNEXPECTED_MESSAGE, "not a ClientHello")
    only_vector(&source, 3, &body)
    number(&body, 2, &value)
    if value != LEGACY_VERSION:
        malformed()
    if body.end - body.at < RANDOM_LENGTH:
        malformed()
    hello.random = PyBytes_FromStringAndSize(<const char*>body.at, RANDOM_LENGTH)
    body.at += RANDOM_LENGTH
    vector(&body, 1, &inside)
    hello.session_id = rest(&inside)
    vector(&body, 2, &inside)
    hello.cipher_suites = pairs(&inside)
    vector(&body, 1, &inside)
    hello.compression_methods = rest(&inside)
    only_vector(&body, 2, &inside)
    extensions(hello, &inside, start)
    return hello


cdef int extensions(ClientHello hello, Cursor* source, const uint8_t* start) except -1:
    cdef uint32_t kind
    cdef unsigned long long seen = 0
    cdef Cursor value
    while source.at != source.end:
        number(source, 2, &kind)
        vector(source, 2, &value)
        if kind >= 64:
            continue
        if seen >> kind & 1:
            illegal("an extension twice")
        seen |= 1ULL << kind
        extension(hello, kind, &value, start)
        if kind == PRE_SHARED_KEY and source.at != source.end:
            illegal("pre_shared_key is not the last extension")
    return 0


cdef int extension(
    ClientHello hello, uint32_t kind, Cursor* value, const uint8_t* start
) except -1:
    cdef Cursor inside
    if kind == SERVER_NAME:
        server_name(hello, value)
    elif kind == SUPPORTED_GROUPS:
        only_vector(value, 2, &inside)
        hello.supported_groups = pairs(&inside)
    elif kind == SIGNATURE_ALGORITHMS:
        only_vector(value, 2, &inside)
        hello.signature_schemes = pairs(&inside)
    elif kind == ALPN:
        only_vector(value, 2, &inside)
        hello.protocols = opaque_list(&inside, 1)
    elif kind == PRE_SHARED_KEY:
        pre_shared_key(hello, value, start)
    elif kind == EARLY_DATA:
        if value.at != value.end:
            malformed()
        hello.early_data = True
    elif kind == SUPPORTED_VERSIONS:
        only_vector(value, 1, &inside)
        hello.versions = pairs(&inside)
    elif kind == PSK_KEY_EXCHANGE_MODES:
        only_vector(value, 1, &inside)
        hello.psk_modes = rest(&inside)
    elif kind == KEY_SHARE:
        only_vector(value, 2, &inside)
        key_shares(hello, &inside)
    elif kind == QUIC_TRANSPORT_PARAMETERS:
        hello.transport_parameters = rest(value)
    return 0


cdef int server_name(ClientHello hello, Cursor* value) except -1:
    cdef Cursor names, name
    cdef uint32_t kind
    only_vector(value, 2, &names)
    number(&names, 1, &kind)
    if kind != HOST_NAME:
        illegal("an unknown type of server name")
    # No other type exists, and there may be one name of each (RFC 6066 section 3).
    only_vector(&names, 2, &name)
    encoded = rest(&name)
    if not encoded.isascii():
        malformed()
    hello.server_name = encoded.decode("ascii")
    return 0


cdef int key_shares(ClientHello hello, Cursor* inside) except -1:
    cdef Cursor key
    cdef uint32_t group
    hello.key_shares = []
    while inside.at != inside.end:
        number(inside, 2, &group)
        vector(inside, 2, &key)
        hello.key_shares.append((group, rest(&key)))
    return 0


cdef int pre_shared_key(ClientHello hello, Cursor* value, const uint8_t* start) except -1:
    cdef Cursor inside, identity
    cdef uint32_t age
    hello.identities = []
    vector(value, 2, &inside)
    while inside.at != inside.end:
        vector(&inside, 2, &identity)
        number(&inside, 4, &age)
        hello.identities.append((rest(&identity), age))
    hello.binders_at = value.at - start
    only_vector(value, 2, &inside)
    hello.binders = opaque_list(&inside, 1)
    if not hello.identities or len(hello.identities) != len(hello.binders):
        illegal("as many binders as tickets are needed")
    return 0
