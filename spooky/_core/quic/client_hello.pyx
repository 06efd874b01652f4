# cython: language_level=3, boundscheck=False, wraparound=False
"""What a client's hello says (RFC 8446 section 4.1.2), read once."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from spooky._core.quic.tls_wire cimport (
    ALPN,
    CLIENT_HELLO,
    EARLY_DATA,
    KEY_SHARE,
    PRE_SHARED_KEY,
    PSK_KEY_EXCHANGE_MODES,
    QUIC_TRANSPORT_PARAMETERS,
    RANDOM_BYTES,
    SERVER_NAME,
    SIGNATURE_ALGORITHMS,
    SUPPORTED_GROUPS,
    SUPPORTED_VERSIONS,
    TLS_1_2,
    Cursor,
    check_end,
    illegal,
    malformed,
    next_extension,
    rest,
    take_last_vector,
    take_number,
    take_opaques,
    take_pairs,
    take_vector,
)

from spooky._core.quic.errors import Alert, TlsAlert

cdef enum:
    HOST_NAME = 0


@cython.final
cdef class ClientHello:
    """A hello; what was not in it is ``None``."""


cpdef ClientHello parse_client_hello(bytes message):
    cdef ClientHello hello = ClientHello.__new__(ClientHello)
    cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(message)
    cdef Cursor source = Cursor(start, start + PyBytes_GET_SIZE(message))
    cdef Cursor body, inside
    cdef uint32_t value
    take_number(&source, 1, &value)
    if value != CLIENT_HELLO:
        raise TlsAlert(Alert.UNEXPECTED_MESSAGE, "not a ClientHello")
    take_last_vector(&source, 3, &body)
    take_number(&body, 2, &value)
    if value != TLS_1_2:
        malformed()
    if body.end - body.at < RANDOM_BYTES:
        malformed()
    hello.random = PyBytes_FromStringAndSize(<const char*>body.at, RANDOM_BYTES)
    body.at += RANDOM_BYTES
    take_vector(&body, 1, &inside)
    hello.session_id = rest(&inside)
    take_vector(&body, 2, &inside)
    hello.cipher_suites = take_pairs(&inside)
    take_vector(&body, 1, &inside)
    hello.compression_methods = rest(&inside)
    take_last_vector(&body, 2, &inside)
    extensions(hello, &inside, start)
    return hello


cdef int extensions(ClientHello hello, Cursor* source, const uint8_t* start) except -1:
    cdef int kind
    cdef uint64_t seen = 0
    cdef Cursor value
    while source.at != source.end:
        kind = next_extension(source, &seen, &value)
        extension(hello, kind, &value, start)
        if kind == PRE_SHARED_KEY and source.at != source.end:
            illegal("pre_shared_key is not the last extension")
    return 0


cdef int extension(
    ClientHello hello, int kind, Cursor* value, const uint8_t* start
) except -1:
    cdef Cursor inside
    if kind == SERVER_NAME:
        server_name(hello, value)
    elif kind == SUPPORTED_GROUPS:
        take_last_vector(value, 2, &inside)
        hello.supported_groups = take_pairs(&inside)
    elif kind == SIGNATURE_ALGORITHMS:
        take_last_vector(value, 2, &inside)
        hello.signature_schemes = take_pairs(&inside)
    elif kind == ALPN:
        take_last_vector(value, 2, &inside)
        hello.protocols = take_opaques(&inside, 1)
    elif kind == PRE_SHARED_KEY:
        pre_shared_key(hello, value, start)
    elif kind == EARLY_DATA:
        check_end(value)
        hello.early_data = True
    elif kind == SUPPORTED_VERSIONS:
        take_last_vector(value, 1, &inside)
        hello.versions = take_pairs(&inside)
    elif kind == PSK_KEY_EXCHANGE_MODES:
        take_last_vector(value, 1, &inside)
        hello.psk_modes = rest(&inside)
    elif kind == KEY_SHARE:
        take_last_vector(value, 2, &inside)
        key_shares(hello, &inside)
    elif kind == QUIC_TRANSPORT_PARAMETERS:
        hello.transport_parameters = rest(value)
    return 0


cdef int server_name(ClientHello hello, Cursor* value) except -1:
    cdef Cursor names, name
    cdef uint32_t kind
    take_last_vector(value, 2, &names)
    take_number(&names, 1, &kind)
    if kind != HOST_NAME:
        illegal("an unknown type of server name")
    # No other type exists, and there may be one name of each (RFC 6066 section 3).
    take_last_vector(&names, 2, &name)
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
        take_number(inside, 2, &group)
        take_vector(inside, 2, &key)
        hello.key_shares.append((group, rest(&key)))
    return 0


cdef int pre_shared_key(ClientHello hello, Cursor* value, const uint8_t* start) except -1:
    cdef Cursor inside, identity
    cdef uint32_t age
    hello.identities = []
    take_vector(value, 2, &inside)
    while inside.at != inside.end:
        take_vector(&inside, 2, &identity)
        take_number(&inside, 4, &age)
        hello.identities.append((rest(&identity), age))
    hello.binders_at = value.at - start
    take_last_vector(value, 2, &inside)
    hello.binders = take_opaques(&inside, 1)
    if not hello.identities or len(hello.identities) != len(hello.binders):
        illegal("as many binders as tickets are needed")
    return 0
