"""What kernels ask of bytes: whether they are equal, a field value, a number.

The twins of these are in :mod:`spooky._core.pure.validate`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.limits cimport LLONG_MAX
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    PORT_MAX = 65535
    PORT_MAX_DIGITS = 5


cdef inline const unsigned char* data(bytes value) noexcept:
    return <const unsigned char*>PyBytes_AS_STRING(value)


cdef inline bint equal(const unsigned char* p, Py_ssize_t size, bytes other) noexcept:
    return size == PyBytes_GET_SIZE(other) and memcmp(p, PyBytes_AS_STRING(other), size) == 0


cdef inline unsigned char lowered(unsigned char byte) noexcept:
    return byte | 0x20 if c"A" <= byte <= c"Z" else byte


cdef inline bint equal_ignoring_case(
    const unsigned char* p, Py_ssize_t size, const unsigned char* q, Py_ssize_t other_size
) noexcept:
    cdef Py_ssize_t i
    if size != other_size:
        return False
    for i in range(size):
        if lowered(p[i]) != lowered(q[i]):
            return False
    return True


cdef inline bint is_lower(bytes value, bytes word) noexcept:
    """Tell whether a value is this lowercase word, whatever its case."""
    return equal_ignoring_case(
        data(value), PyBytes_GET_SIZE(value), data(word), PyBytes_GET_SIZE(word)
    )


cdef inline uint64_t suspects(const unsigned char* p) noexcept:
    """Return non-zero if one of the eight bytes at ``p`` is below 0x20 or is 0x7F.

    Each lane borrows only if it or a lower lane holds such a byte, so zero is exact.
    """
    cdef uint64_t word, delete
    memcpy(&word, p, 8)
    delete = word ^ 0x7F7F7F7F7F7F7F7FULL
    return (
        ((word - 0x2020202020202020ULL) & ~word) | ((delete - 0x0101010101010101ULL) & ~delete)
    ) & 0x8080808080808080ULL


cdef inline bint no_control_but_tab(const unsigned char* p, Py_ssize_t size) noexcept:
    cdef Py_ssize_t i
    for i in range(size):
        if (p[i] < 0x20 and p[i] != c"\t") or p[i] == 0x7F:
            return False
    return True


cdef inline bint is_field_value(bytes value) noexcept:
    """Tell whether this is a field value without whitespace around it."""
    cdef const unsigned char* p = data(value)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    cdef Py_ssize_t i = 0
    if size == 0:
        return True
    if p[0] == c" " or p[0] == c"\t" or p[size - 1] == c" " or p[size - 1] == c"\t":
        return False
    while i + 8 <= size:
        if suspects(p + i):
            return no_control_but_tab(p + i, size - i)
        i += 8
    return no_control_but_tab(p + i, size - i)


# --- numbers -----------------------------------------------------------------------------------
cdef inline long long parse_content_length(bytes value, long long known) noexcept:
    """Return the length, or -1 if it is malformed or differs from one already ``known``."""
    cdef const unsigned char* p = data(value)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    cdef Py_ssize_t i = 0, start
    cdef long long length
    cdef int digit
    while True:
        while i < size and (p[i] == c" " or p[i] == c"\t"):
            i += 1
        start = i
        length = 0
        while i < size and c"0" <= p[i] <= c"9":
            digit = p[i] - c"0"
            if length > (LLONG_MAX - digit) // 10:
                return -1
            length = length * 10 + digit
            i += 1
        if i == start or (known >= 0 and length != known):
            return -1
        known = length
        while i < size and (p[i] == c" " or p[i] == c"\t"):
            i += 1
        if i == size:
            return known
        if p[i] != c",":
            return -1
        i += 1


cdef inline int parse_status(bytes value) noexcept:
    """Return 100 to 599 but not 101, or -1."""
    cdef const unsigned char* p = data(value)
    if PyBytes_GET_SIZE(value) != 3:
        return -1
    if not (c"1" <= p[0] <= c"5" and c"0" <= p[1] <= c"9" and c"0" <= p[2] <= c"9"):
        return -1
    cdef int status = (p[0] - c"0") * 100 + (p[1] - c"0") * 10 + (p[2] - c"0")
    return -1 if status == 101 else status


cdef inline bint parse_port(const unsigned char* p, Py_ssize_t size, int* port) noexcept:
    """Tell whether this is a colon and a port."""
    cdef Py_ssize_t i
    cdef int value = 0
    if p[0] != c":" or size < 2 or size > 1 + PORT_MAX_DIGITS:
        return False
    for i in range(1, size):
        if not c"0" <= p[i] <= c"9":
            return False
        value = value * 10 + (p[i] - c"0")
    if value > PORT_MAX:
        return False
    port[0] = value
    return True
