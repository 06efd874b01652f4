# cython: language_level=3, boundscheck=False, wraparound=False
"""HTTP/3 field sections, whose lines are kept as they were last coded.

Without a dynamic table a field line means the same in every section, and most come again: looking
one up costs a tenth of coding it. What is not found is coded by pylsqpack, as in the twin. Each
line has one place, by its hash, which the next one there takes over: so there is a bound, nothing
to sweep, and nobody can make a look-up slow.
"""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from pylsqpack import Decoder, DecompressionFailed, Encoder, StreamBlocked

from spooky._core.h3_errors import QPACK_DECOMPRESSION_FAILED, ProtocolError

from spooky._core cimport qpack
from spooky._core.hashing cimport mix

from spooky._core import qpack as verdicts

cdef enum:
    # Lines that are kept, those of each coder; a power of two.
    PLACES = 1024
    # Longer lines are not kept, so that all together take no more than some hundred KiB.
    LINE_MAX_BYTES = 128
    STREAM_ID = 0
    PREFIX_BYTES = 2

# Odd, and not to be known: else a client could choose lines that take each other's places.
cdef uint64_t MIXER = int.from_bytes(os.urandom(8), "little") | 1

cdef int WITHIN_LIMITS = verdicts.WITHIN_LIMITS
cdef int MALFORMED = verdicts.MALFORMED

# What a section begins with that refers to no dynamic table (RFC 9204 section 4.5.1).
cdef bytes PREFIX = b"\0\0"

# Not kept: nobody is to find out by the time it takes that another one sent the same.
cdef frozenset SECRET_NAMES = frozenset((b"cookie", b"set-cookie"))

# Neither are values of names that say so themselves.
cdef tuple SECRET_WORDS = (
    b"auth", b"token", b"key", b"secret", b"session", b"csrf", b"password", b"credential",
    b"signature",
)

# Nor what carries a query, which often has tokens.
cdef frozenset LOCATION_NAMES = frozenset((b":path", b"location", b"content-location", b"referer"))

cdef bytes AUTHORITY = b":authority"

cdef object _encode = Encoder().encode
cdef object _decoder = Decoder(0, 0)
cdef object _feed_header = _decoder.feed_header


@cython.final
cdef class Line:
    """A field, and how it is encoded."""

    cdef uint64_t hash
    cdef bytes encoded
    cdef tuple field


# What we encoded and what others did, apart: they may choose another form for a field.
cdef list _sent = [None] * PLACES
cdef list _received = [None] * PLACES


cdef inline uint64_t mixed(uint64_t hash, const unsigned char* p, Py_ssize_t size) noexcept nogil:
    cdef uint64_t word
    hash ^= <uint64_t>size
    while size >= 8:
        memcpy(&word, p, 8)
        hash = (hash ^ word) * MIXER
        hash ^= hash >> 32
        p += 8
        size -= 8
    if size:
        word = 0
        memcpy(&word, p, size)
        hash = (hash ^ word) * MIXER
        hash ^= hash >> 32
    return hash


cdef inline uint64_t hash_of_line(const unsigned char* p, Py_ssize_t size) noexcept nogil:
    # All bits depend on the last bytes too, so that lines that differ there have other places.
    return mix(mixed(MIXER, p, size))


cdef inline uint64_t hash_of_field(bytes name, bytes value) noexcept:
    cdef uint64_t hash = mixed(
        MIXER, <const unsigned char*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)
    )
    hash = mixed(hash, <const unsigned char*>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    return mix(hash)


cdef inline bint same(bytes one, bytes other) noexcept:
    return one is other or (
        PyBytes_GET_SIZE(one) == PyBytes_GET_SIZE(other)
        and memcmp(PyBytes_AS_STRING(one), PyBytes_AS_STRING(other), PyBytes_GET_SIZE(one)) == 0
    )


cdef inline Line kept(list lines, uint64_t hash):
    """Return the line with this hash; None if it is not there."""
    cdef Line line = <Line>lines[<Py_ssize_t>(hash & (PLACES - 1))]
    return line if line is not None and line.hash == hash else None


cdef bint may_be_secret(bytes name, bytes value) except -1:
    """Whether a field is for nobody else to guess."""
    cdef bytes word
    if name in LOCATION_NAMES:
        return b"?" in value
    if name in SECRET_NAMES:
        return True
    if name == AUTHORITY:  # Has such a word in it, and is everybody's.
        return False
    for word in SECRET_WORDS:
        if word in name:
            return True
    return False


cdef int keep(list lines, uint64_t hash, bytes encoded, tuple field) except -1:
    """Keep a line, unless it is long or secret."""
    cdef Line line
    if PyBytes_GET_SIZE(encoded) > LINE_MAX_BYTES or may_be_secret(field[0], field[1]):
        return 0
    line = Line.__new__(Line)
    line.hash = hash
    line.encoded = encoded
    line.field = field
    lines[<Py_ssize_t>(hash & (PLACES - 1))] = line
    return 0


cdef inline bint is_never_indexed(bytes line) noexcept:
    """Whether its sender marked a line as secret (RFC 9204 section 7.1.3)."""
    cdef unsigned char first = <unsigned char>PyBytes_AS_STRING(line)[0]
    return first & 0xE0 == 0x60 or first & 0xF0 == 0x30


# --- encoding ----------------------------------------------------------------------------------
cpdef bytes encode_fields(object fields):
    """Encode a field section; see the twin."""
    cdef list encoded = [PREFIX]
    cdef list missing = None
    cdef tuple field
    cdef bytes name, value
    cdef Line line
    for field in fields:
        name, value = field
        if name is None or value is None:
            raise TypeError("names and values must be bytes")
        line = kept(_sent, hash_of_field(name, value))
        if line is not None and same(line.field[0], name) and same(line.field[1], value):
            encoded.append(line.encoded)
            continue
        if missing is None:
            missing = []
        missing.append(field)
        encoded.append(None)
    if missing is not None:
        _encode_missing(encoded, missing)
    return b"".join(encoded)


cdef int _encode_missing(list encoded, list missing) except -1:
    """Encode what was not found, and put it where it is missing."""
    cdef bytes block = _encode(STREAM_ID, missing)[1]
    cdef const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(block)
    cdef const unsigned char* end = p + PyBytes_GET_SIZE(block)
    cdef Py_ssize_t index, size, at = 0
    cdef bytes line
    cdef tuple field
    p += PREFIX_BYTES
    for index in range(len(encoded)):
        if encoded[index] is None:
            size = qpack.line_size(p, end)
            if size < 0:
                raise ValueError("the encoder made what is no field section")
            line = PyBytes_FromStringAndSize(<const char*>p, size)
            p += size
            encoded[index] = line
            field = <tuple>missing[at]
            at += 1
            keep(_sent, hash_of_field(<bytes>field[0], <bytes>field[1]), line, field)
    return 0


# --- decoding ----------------------------------------------------------------------------------
cpdef object decode_fields(bytes block, Py_ssize_t max_count, Py_ssize_t max_bytes):
    """Decode a field section, once it is known to be within limits; see the twin."""
    cdef int verdict = qpack.scan(block, max_count, max_bytes)
    cdef list fields, missing = None
    cdef const unsigned char* p
    cdef const unsigned char* end
    cdef Py_ssize_t size
    cdef Line line
    if verdict != WITHIN_LIMITS:
        if verdict == MALFORMED:
            raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "the field section is malformed")
        return verdict
    fields = []
    p = <const unsigned char*>PyBytes_AS_STRING(block)
    end = p + PyBytes_GET_SIZE(block)
    if p[0] != 0 or p[1] != 0 or p + PREFIX_BYTES == end:  # What was scanned has two bytes.
        # A base that nothing refers to, or no line at all: the decoder has its own mind about that.
        return _decode(block)
    p += PREFIX_BYTES
    while p < end:
        size = qpack.line_size(p, end)
        if size <= 0:
            raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "the field section is malformed")
        line = kept(_received, hash_of_line(p, size))
        if (
            line is not None
            and PyBytes_GET_SIZE(line.encoded) == size
            and memcmp(PyBytes_AS_STRING(line.encoded), p, size) == 0
        ):
            fields.append(line.field)
        else:
            if missing is None:
                missing = [PREFIX]
            missing.append(PyBytes_FromStringAndSize(<const char*>p, size))
            fields.append(None)
        p += size
    if missing is not None:
        _decode_missing(fields, missing)
    return fields


cdef list _decode(bytes block):
    """Decode a field section by the decoder alone."""
    try:
        return _feed_header(STREAM_ID, block)[1]
    except DecompressionFailed as error:
        raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "bad Huffman code") from error
    except StreamBlocked as error:
        _decoder.cancel_stream(STREAM_ID)
        raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "the field section breaks off") from error


cdef int _decode_missing(list fields, list missing) except -1:
    """Decode what was not found, and put it where it is missing."""
    cdef list made = _decode(b"".join(missing))
    cdef Py_ssize_t index, at = 0
    cdef bytes encoded
    cdef tuple field
    cdef uint64_t hash
    if len(made) != len(missing) - 1:
        raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "the field section is malformed")
    for index in range(len(fields)):
        if fields[index] is None:
            field = <tuple>made[at]
            at += 1
            encoded = <bytes>missing[at]
            fields[index] = field
            if not is_never_indexed(encoded):
                hash = hash_of_line(
                    <const unsigned char*>PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded)
                )
                keep(_received, hash, encoded, field)
    return 0
