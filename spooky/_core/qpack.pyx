"""Bounds a QPACK field section before the decoder sees it.

The rules and their order are those of the twin, :mod:`spooky._core.pure.qpack`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

from spooky._core.pure import qpack as twin

cdef enum Verdict:
    WITHIN
    COUNT
    SIZE
    BROKEN

WITHIN_LIMITS = WITHIN
TOO_MANY_FIELDS = COUNT
TOO_LARGE = SIZE
MALFORMED = BROKEN

cdef enum:
    STATIC_ENTRIES = 99
    CONTINUATION_MAX = 9
    HUFFMAN_SHORTEST_CODE = 5

cdef uint64_t INTEGER_MAX = twin.INTEGER_MAX

cdef unsigned char[STATIC_ENTRIES] NAME_LENGTH
cdef unsigned char[STATIC_ENTRIES] ENTRY_LENGTH

for index, (name_length, value_length) in enumerate(twin.STATIC_TABLE):
    NAME_LENGTH[index] = name_length
    ENTRY_LENGTH[index] = name_length + value_length


cdef struct Reader:
    const unsigned char* next
    const unsigned char* end
    bint broken  # what was read last is not there, or too large


cdef inline unsigned char peek(Reader* reader) noexcept nogil:
    """Return the next byte; 0 and ``broken`` if there is none."""
    if reader.next == reader.end:
        reader.broken = True
        return 0
    return reader.next[0]


cdef inline uint64_t integer(Reader* reader, int prefix_bits) noexcept nogil:
    """Read an integer with a prefix of so many bits (RFC 7541 section 5.1)."""
    cdef unsigned char mask = (1 << prefix_bits) - 1
    cdef uint64_t value = peek(reader) & mask
    cdef unsigned char byte
    cdef int index
    if reader.broken:
        return 0
    reader.next += 1
    if value < mask:
        return value
    for index in range(CONTINUATION_MAX):
        byte = peek(reader)
        if reader.broken:
            return 0
        reader.next += 1
        # The last shift is by 56, so the sum stays below 2**64.
        value += <uint64_t>(byte & 0x7F) << (7 * index)
        if byte < 0x80:
            reader.broken = value > INTEGER_MAX
            return value
    reader.broken = True
    return 0


cdef inline uint64_t string(Reader* reader, int prefix_bits) noexcept nogil:
    """Skip a string and return the greatest length it can decode to."""
    cdef bint huffman = peek(reader) >> prefix_bits & 1
    cdef uint64_t length = integer(reader, prefix_bits)
    if reader.broken or length > <uint64_t>(reader.end - reader.next):
        reader.broken = True
        return 0
    reader.next += length
    return length * 8 // HUFFMAN_SHORTEST_CODE if huffman else length


cdef inline uint64_t field_line(Reader* reader) noexcept nogil:
    """Skip a field line and return the sum of its lengths (RFC 9204 sections 4.5.2 to 4.5.6)."""
    cdef unsigned char first = peek(reader)
    cdef uint64_t index
    if first & 0xC0 == 0xC0:  # indexed, static table
        index = integer(reader, 6)
        if index < STATIC_ENTRIES:
            return ENTRY_LENGTH[index]
    elif first & 0xD0 == 0x50:  # literal value, name from the static table
        index = integer(reader, 4)
        if index < STATIC_ENTRIES:
            return NAME_LENGTH[index] + string(reader, 7)
    elif first & 0xE0 == 0x20:  # literal name and value
        index = string(reader, 3)
        return index + string(reader, 7)
    reader.broken = True  # the rest refers to the dynamic table
    return 0


cpdef int scan(bytes block, Py_ssize_t max_count, Py_ssize_t max_bytes) except -1:
    """Tell whether a field section (RFC 9204 section 4.5) stays within limits when decoded."""
    cdef Reader reader
    cdef Py_ssize_t count = 0
    cdef uint64_t size = 0
    if block is None:
        raise TypeError("block must be bytes, not None")
    reader.next = <const unsigned char*>PyBytes_AS_STRING(block)
    reader.end = reader.next + PyBytes_GET_SIZE(block)
    reader.broken = False
    if integer(&reader, 8) != 0:
        return BROKEN
    if peek(&reader) & 0x80:
        return BROKEN
    integer(&reader, 7)
    while not reader.broken and reader.next < reader.end:
        count += 1
        if count > max_count:
            return COUNT
        size += field_line(&reader)
        if size > <uint64_t>max_bytes and not reader.broken:
            return SIZE
    return BROKEN if reader.broken else WITHIN


cdef Py_ssize_t line_size(const unsigned char* start, const unsigned char* end) noexcept nogil:
    """Return the length of the field line at a place; -1 if it is malformed."""
    cdef Reader reader
    reader.next = start
    reader.end = end
    reader.broken = False
    field_line(&reader)
    return -1 if reader.broken else reader.next - start
