# cython: language_level=3, boundscheck=False, wraparound=False
"""What reading and writing messages of TLS consists of, and those that both sides send."""

from cpython.bytes cimport PyBytes_FromStringAndSize

from spooky._core.quic.errors import Alert, TlsAlert


cdef int malformed() except -1:
    raise TlsAlert(Alert.DECODE_ERROR, "a malformed handshake message")


cdef int illegal(str phrase) except -1:
    raise TlsAlert(Alert.ILLEGAL_PARAMETER, phrase)


cdef int check_length(Py_ssize_t length) except -1:
    """Refuse to write a vector that is longer than its two bytes of length can say."""
    if length > 0xFFFF:
        raise OverflowError("too long for a handshake message")
    return 0


cdef Cursor body_of(bytes message):
    """Return what follows a message's header, by which it was cut."""
    cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(message)
    return Cursor(start + HEADER_BYTES, start + PyBytes_GET_SIZE(message))


cdef int next_extension(Cursor* source, uint64_t* seen, Cursor* value) except -1:
    """Take an extension, and return its type; one that is known comes once."""
    cdef uint32_t kind
    take_number(source, 2, &kind)
    take_vector(source, 2, value)
    if kind < EXTENSIONS_TOLD:
        if seen[0] >> kind & 1:
            illegal("an extension twice")
        seen[0] |= (<uint64_t>1) << kind
    return kind


cdef bytes rest(Cursor* source):
    return PyBytes_FromStringAndSize(<const char*>source.at, source.end - source.at)


cdef tuple take_pairs(Cursor* inside):
    """Return the numbers of a vector, two bytes each."""
    cdef list found = []
    cdef uint32_t value
    while inside.at != inside.end:
        take_number(inside, 2, &value)
        found.append(value)
    return tuple(found)


cdef list take_opaques(Cursor* inside, int size):
    """Return the vectors of a vector."""
    cdef list found = []
    cdef Cursor item
    while inside.at != inside.end:
        take_vector(inside, size, &item)
        found.append(rest(&item))
    return found


cpdef list read_certificates(bytes message):
    cdef Cursor body = body_of(message)
    cdef Cursor entries, each
    cdef list found = []
    take_vector(&body, 1, &each)
    if each.at != each.end:
        # A client answers our request, whose context was empty; a server answers none.
        illegal("a certificate nobody asked for")
    take_last_vector(&body, 3, &entries)
    while entries.at != entries.end:
        take_vector(&entries, 3, &each)
        if each.at == each.end:
            malformed()
        found.append(rest(&each))
        take_vector(&entries, 2, &each)
        if each.at != each.end:
            # Neither side asks for any (RFC 8446 section 4.4.2).
            raise TlsAlert(Alert.UNSUPPORTED_EXTENSION, "more of a certificate than was asked for")
    return found


cpdef tuple read_certificate_verify(bytes message):
    cdef Cursor body = body_of(message)
    cdef Cursor signature
    cdef uint32_t scheme
    take_number(&body, 2, &scheme)
    take_last_vector(&body, 2, &signature)
    return scheme, rest(&signature)
