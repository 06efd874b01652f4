# cython: language_level=3, boundscheck=False, wraparound=False
"""HTTP/3 field sections, whose lines are kept as they were last coded.

Without a dynamic table a field line means the same in every section, and most come again. A section
of such lines costs a fifth of decoding it anew, and less than half of encoding it; where three of
eleven are new there is nothing to gain or lose, and more cost a little. What is not found is coded
by pylsqpack, as in the twin. Each line has one place, by its hash, which the next one there that
comes twice takes over: so there is a bound, nothing to sweep, and nobody can make a look-up slow.
"""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memcpy

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
    # What of a section is put together here; where more is kept or new, pylsqpack encodes it all.
    KNOWN_MAX_BYTES = 4096
    NEW_MAX = 64
    # Kinds of names: whose values anybody may know, nobody, or nobody past a question mark.
    OPEN = 0
    SECRET = 1
    LOCATION = 2
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

# What kind names are of: looking for words costs more than a line is worth. As many as lines.
cdef dict _kinds = {}

cdef object _encode = Encoder().encode
cdef object _decoder = Decoder(0, 0)
cdef object _feed_header = _decoder.feed_header


@cython.final
@cython.no_gc
cdef class Line:
    """A field, and how it is encoded."""

    cdef uint64_t hash
    cdef bytes encoded
    cdef tuple field


@cython.final
cdef class Lines:
    """Lines that are kept, each at its place."""

    cdef list kept
    # What came last at each place and was not kept: a line is, once it comes again.
    cdef uint64_t[PLACES] passed

    def __cinit__(self):
        self.kept = [None] * PLACES


# What we encoded and what others did, apart: they may choose another form for a field.
cdef Lines _sent = Lines()
cdef Lines _received = Lines()


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


cdef inline Line kept(Lines lines, uint64_t hash):
    """Return the line with this hash; None if it is not there."""
    cdef Line line = <Line>lines.kept[<Py_ssize_t>(hash & (PLACES - 1))]
    return line if line is not None and line.hash == hash else None


cdef bint may_be_secret(bytes name, bytes value) except -1:
    """Whether a field is for nobody else to guess."""
    kind = _kinds.get(name)
    if kind is None:
        if len(_kinds) == PLACES:
            _kinds.clear()
        kind = _kinds[name] = kind_of(name)
    if kind == LOCATION:
        return memchr(PyBytes_AS_STRING(value), c"?", PyBytes_GET_SIZE(value)) != NULL
    return kind == SECRET


cdef int kind_of(bytes name) except -1:
    """Return what kind a name is of."""
    cdef bytes word
    if name in LOCATION_NAMES:
        return LOCATION
    if name in SECRET_NAMES:
        return SECRET
    if name == AUTHORITY:  # Has such a word in it, and is everybody's.
        return OPEN
    for word in SECRET_WORDS:
        if word in name:
            return SECRET
    return OPEN


cdef int keep(
    Lines lines, uint64_t hash, const unsigned char* encoded, Py_ssize_t size, tuple field
) except -1:
    """Keep a line that came before, unless it is long or secret."""
    cdef Py_ssize_t place = hash & (PLACES - 1)
    cdef Line line
    if size > LINE_MAX_BYTES or may_be_secret(field[0], field[1]):
        return 0
    if lines.passed[place] != hash:
        lines.passed[place] = hash
        return 0
    line = Line.__new__(Line)
    line.hash = hash
    line.encoded = PyBytes_FromStringAndSize(<const char*>encoded, size)
    line.field = field
    lines.kept[place] = line
    return 0


cdef inline bint is_never_indexed(bytes line) noexcept:
    """Whether its sender marked a line as secret (RFC 9204 section 7.1.3)."""
    cdef unsigned char first = <unsigned char>PyBytes_AS_STRING(line)[0]
    return first & 0xE0 == 0x60 or first & 0xF0 == 0x30


# --- encoding ----------------------------------------------------------------------------------
cdef struct Gap:
    # A line that is not kept: where it belongs among those that are, and its hash.
    Py_ssize_t at
    uint64_t hash


cpdef bytes encode_fields(object fields):
    """Encode a field section; see the twin."""
    cdef unsigned char[KNOWN_MAX_BYTES] known
    cdef Gap[NEW_MAX] gaps
    cdef list missing = []
    cdef Py_ssize_t size = PREFIX_BYTES, count = 0, line_size
    cdef tuple field
    cdef bytes name, value
    cdef uint64_t hash
    cdef Line line
    memcpy(known, PyBytes_AS_STRING(PREFIX), PREFIX_BYTES)
    for field in fields:
        name, value = field
        if name is None or value is None:
            raise TypeError("names and values must be bytes")
        hash = hash_of_field(name, value)
        line = kept(_sent, hash)
        if line is not None and same(line.field[0], name) and same(line.field[1], value):
            line_size = PyBytes_GET_SIZE(line.encoded)
            if size + line_size > KNOWN_MAX_BYTES:
                return _encode(STREAM_ID, list(fields))[1]
            memcpy(known + size, PyBytes_AS_STRING(line.encoded), line_size)
            size += line_size
        else:
            if count == NEW_MAX:
                return _encode(STREAM_ID, list(fields))[1]
            gaps[count] = Gap(size, hash)
            count += 1
            missing.append(field)
    if count == 0:
        return PyBytes_FromStringAndSize(<const char*>known, size)
    return _filled(known, size, gaps, missing)


cdef bytes _filled(const unsigned char* known, Py_ssize_t size, const Gap* gaps, list missing):
    """Encode what is missing, and put it in its gaps."""
    cdef bytes block = _encode(STREAM_ID, missing)[1]
    cdef const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(block)
    cdef const unsigned char* end = p + PyBytes_GET_SIZE(block)
    cdef bytes section = PyBytes_FromStringAndSize(NULL, size + (end - p) - PREFIX_BYTES)
    cdef unsigned char* out = <unsigned char*>PyBytes_AS_STRING(section)
    cdef Py_ssize_t index, line_size, at = 0
    p += PREFIX_BYTES
    for index in range(len(missing)):
        memcpy(out, known + at, gaps[index].at - at)
        out += gaps[index].at - at
        at = gaps[index].at
        line_size = qpack.line_size(p, end)
        if line_size <= 0:
            raise ValueError("the encoder made what is no field section")
        keep(_sent, gaps[index].hash, p, line_size, <tuple>missing[index])
        memcpy(out, p, line_size)
        out += line_size
        p += line_size
    if p != end:
        raise ValueError("the encoder made what is no field section")
    memcpy(out, known + at, size - at)
    return section


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
    cdef const unsigned char* p
    cdef Py_ssize_t index, size, at = 0
    cdef bytes encoded
    cdef tuple field
    if len(made) != len(missing) - 1:
        raise ProtocolError(QPACK_DECOMPRESSION_FAILED, "the field section is malformed")
    for index in range(len(fields)):
        if fields[index] is None:
            field = <tuple>made[at]
            at += 1
            encoded = <bytes>missing[at]
            fields[index] = field
            if not is_never_indexed(encoded):
                p = <const unsigned char*>PyBytes_AS_STRING(encoded)
                size = PyBytes_GET_SIZE(encoded)
                keep(_received, hash_of_line(p, size), p, size, field)
    return 0
