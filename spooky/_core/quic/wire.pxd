"""Reading and writing what QUIC puts on the wire (RFC 9000 section 16); inline."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    VARINT_MAX_SIZE = 8


cdef struct Reader:
    # What is left of a packet's payload; `failed` is set by the first read past its end, and
    # every read after that gives 0, so that a frame is checked once, after all its fields.
    const uint8_t* data
    Py_ssize_t position
    Py_ssize_t end
    bint failed


cdef inline uint8_t read_byte(Reader* reader) noexcept nogil:
    if reader.position >= reader.end:
        reader.failed = True
        return 0
    reader.position += 1
    return reader.data[reader.position - 1]


cdef inline uint64_t read_varint(Reader* reader) noexcept nogil:
    cdef Py_ssize_t position = reader.position
    cdef Py_ssize_t size
    cdef uint64_t value
    cdef Py_ssize_t index
    if position >= reader.end:
        reader.failed = True
        return 0
    value = reader.data[position]
    size = (<Py_ssize_t>1) << (value >> 6)
    if position + size > reader.end:
        reader.failed = True
        return 0
    value &= 0x3F
    for index in range(1, size):
        value = (value << 8) | reader.data[position + index]
    reader.position = position + size
    return value


cdef inline void skip_zeros(Reader* reader) noexcept nogil:
    # Skip bytes that are zero: padding, of which a client's first packet has a thousand.
    cdef uint64_t word
    while reader.end - reader.position >= <Py_ssize_t>sizeof(word):
        memcpy(&word, reader.data + reader.position, sizeof(word))
        if word:
            break
        reader.position += sizeof(word)
    while reader.position < reader.end and reader.data[reader.position] == 0:
        reader.position += 1


cdef inline const uint8_t* read_bytes(Reader* reader, uint64_t count) noexcept nogil:
    # The place of the next `count` bytes, which are skipped; NULL if there are fewer.
    if reader.failed or count > <uint64_t>(reader.end - reader.position):
        reader.failed = True
        return NULL
    reader.position += <Py_ssize_t>count
    return reader.data + reader.position - <Py_ssize_t>count


cdef inline Py_ssize_t varint_size(uint64_t value) noexcept nogil:
    if value < 0x40:
        return 1
    if value < 0x4000:
        return 2
    if value < 0x40000000:
        return 4
    return 8


cdef inline uint8_t* write_varint(uint8_t* out, uint64_t value) noexcept nogil:
    # Writes 1 to 8 bytes, whose room the caller has checked; returns the place after them.
    if value < 0x40:
        out[0] = <uint8_t>value
        return out + 1
    if value < 0x4000:
        out[0] = 0x40 | <uint8_t>(value >> 8)
        out[1] = <uint8_t>value
        return out + 2
    if value < 0x40000000:
        out[0] = 0x80 | <uint8_t>(value >> 24)
        out[1] = <uint8_t>(value >> 16)
        out[2] = <uint8_t>(value >> 8)
        out[3] = <uint8_t>value
        return out + 4
    out[0] = 0xC0 | <uint8_t>(value >> 56)
    out[1] = <uint8_t>(value >> 48)
    out[2] = <uint8_t>(value >> 40)
    out[3] = <uint8_t>(value >> 32)
    out[4] = <uint8_t>(value >> 24)
    out[5] = <uint8_t>(value >> 16)
    out[6] = <uint8_t>(value >> 8)
    out[7] = <uint8_t>value
    return out + 8


cdef inline uint32_t read_uint32(const uint8_t* data) noexcept nogil:
    return (<uint32_t>data[0] << 24) | (<uint32_t>data[1] << 16) | (<uint32_t>data[2] << 8) | data[3]


cdef inline uint8_t* write_uint32(uint8_t* out, uint32_t value) noexcept nogil:
    out[0] = <uint8_t>(value >> 24)
    out[1] = <uint8_t>(value >> 16)
    out[2] = <uint8_t>(value >> 8)
    out[3] = <uint8_t>value
    return out + 4


cdef inline uint8_t* write_uint16_varint(uint8_t* out, uint64_t value) noexcept nogil:
    # A 2-byte integer, for a length that is filled in after what it measures.
    out[0] = 0x40 | <uint8_t>(value >> 8)
    out[1] = <uint8_t>value
    return out + 2


cdef inline uint8_t* write_data(uint8_t* out, const uint8_t* data, Py_ssize_t size) noexcept nogil:
    memcpy(out, data, size)
    return out + size
