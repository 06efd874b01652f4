"""Request and response heads: from fields off the wire to a canonical head, or a reason.

The rules and their order are those of the twin, :mod:`spooky._core.pure.validate`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy

from spooky._core.octets cimport (
    data,
    equal,
    equal_ignoring_case,
    is_field_value,
    is_lower,
    lowered,
    parse_content_length,
    parse_port,
    parse_status,
)

from spooky._core import reasons
from spooky._core.pure.validate import NOT_IN_TRAILERS

cdef extern from "<arpa/inet.h>" nogil:
    int AF_INET6
    int inet_pton(int family, const char* source, void* destination)

HTTP_1, HTTP_2, HTTP_3 = 1, 2, 3

UNDERSCORES_PASS = 0
UNDERSCORES_DROP = 1
UNDERSCORES_REJECT = 2

cdef enum:
    VERSION_1 = 1
    DROP = 1
    REJECT = 2
    # "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    IPV6_TEXT_MAX = 45
    IPV6_BYTES = 16

cdef frozenset _not_in_trailers = NOT_IN_TRAILERS

# --- what each byte may be ---------------------------------------------------------------------
cdef enum:
    IN_METHOD = 1  # a token (RFC 9110 section 5.6.2) without lowercase
    IN_NAME = 2  # a token without uppercase
    IN_TARGET = 4  # path and query: printable ASCII but "#"
    IN_PATH_AS_IS = 8  # IN_TARGET without what needs a closer look: "%", "\", "."
    IN_HOST = 16  # unreserved and sub-delims (RFC 3986 section 2) without the comma
    IN_IPV6 = 32
    UNRESERVED = 64  # RFC 3986 section 2.3
    IN_PLAIN_NAME = 128  # IN_NAME without the underscore

cdef unsigned char[256] BYTE
cdef unsigned char[256] HEX
cdef enum:
    NOT_HEX = 0xFF


cdef void allow(bytes members, unsigned char flag) noexcept:
    cdef unsigned char byte
    for byte in members:
        BYTE[byte] |= flag


cdef void fill_tables() noexcept:
    cdef bytes digits = b"0123456789"
    cdef bytes lower = b"abcdefghijklmnopqrstuvwxyz"
    cdef bytes alphanumeric = digits + lower + lower.upper()
    cdef bytes printable = bytes(range(0x21, 0x7F))
    cdef bytes target = printable.replace(b"#", b"")
    cdef int value
    for value in range(256):
        BYTE[value] = 0
        HEX[value] = NOT_HEX
    for value in range(16):
        HEX[b"0123456789abcdef"[value]] = value
        HEX[b"0123456789ABCDEF"[value]] = value
    allow(b"!#$%&'*+-.^_`|~" + digits + lower, IN_NAME)
    allow(b"!#$%&'*+-.^`|~" + digits + lower, IN_PLAIN_NAME)
    # Methods are case-sensitive (RFC 9110 section 9.1), yet some backends fold them: what is no
    # DELETE for us must be none for them.
    allow(b"!#$%&'*+-.^_`|~" + digits + lower.upper(), IN_METHOD)
    allow(target, IN_TARGET)
    allow(target.translate(None, b"%\\."), IN_PATH_AS_IS)
    allow(alphanumeric + b"-._~" + b"!$&'()*+;=", IN_HOST)
    allow(b"0123456789abcdefABCDEF:.", IN_IPV6)
    allow(alphanumeric + b"-._~", UNRESERVED)


fill_tables()


cdef inline bint all_in(const unsigned char* p, Py_ssize_t size, unsigned char flag) noexcept:
    """Tell whether there are bytes, and all of one class."""
    cdef Py_ssize_t i
    cdef unsigned char common = flag
    for i in range(size):
        common &= BYTE[p[i]]
    return size > 0 and common != 0


# --- heads -------------------------------------------------------------------------------------
cdef class Limits:
    """What a request head may be."""

    def __init__(
        self,
        max_headers_count=128,
        max_headers_bytes=16384,
        enforce_authority_host_match=True,
        allowed_methods=(),
        denied_path_prefixes=(),
        underscores=UNDERSCORES_PASS,
    ):
        self.max_headers_count = max_headers_count
        self.max_headers_bytes = max_headers_bytes
        self.enforce_authority_host_match = enforce_authority_host_match
        self.allowed_methods = frozenset(allowed_methods)
        self.denied_path_prefixes = tuple(denied_path_prefixes)
        self.underscores = underscores


# Heads hold bytes and lists of pairs of bytes, never each other: the collector need not know them.
@cython.final
@cython.freelist(64)
@cython.no_gc
cdef class Request:
    """A canonical request head."""


@cython.final
@cython.freelist(64)
@cython.no_gc
cdef class Response:
    """A canonical response head."""


# --- field names that ask for more -------------------------------------------------------------
cdef enum Meaning:
    ORDINARY
    CONNECTION_SPECIFIC
    TE
    TRANSFER_ENCODING
    HOST
    CONTENT_LENGTH
    EXPECT


cdef inline Meaning meaning(const unsigned char* p, Py_ssize_t size) noexcept:
    if size == 2:
        if memcmp(p, b"te", 2) == 0:
            return TE
    elif size == 4:
        if memcmp(p, b"host", 4) == 0:
            return HOST
    elif size == 6:
        if memcmp(p, b"expect", 6) == 0:
            return EXPECT
    elif size == 7:
        if memcmp(p, b"upgrade", 7) == 0:
            return CONNECTION_SPECIFIC
    elif size == 10:
        if memcmp(p, b"connection", 10) == 0 or memcmp(p, b"keep-alive", 10) == 0:
            return CONNECTION_SPECIFIC
    elif size == 14:
        if memcmp(p, b"content-length", 14) == 0:
            return CONTENT_LENGTH
    elif size == 16:
        if memcmp(p, b"proxy-connection", 16) == 0:
            return CONNECTION_SPECIFIC
    elif size == 17:
        if memcmp(p, b"transfer-encoding", 17) == 0:
            return TRANSFER_ENCODING
    return ORDINARY


# --- the rules ---------------------------------------------------------------------------------
cdef Py_ssize_t total_size(list fields) except -1:
    """Return the sum of name and value lengths."""
    cdef tuple field
    cdef bytes name, value
    cdef Py_ssize_t size = 0
    for field in fields:
        name, value = field
        size += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value)
    return size


def validate_request(list fields not None, int version, Limits limits not None):
    """Check a request head and make it canonical."""
    if len(fields) > limits.max_headers_count:
        return reasons.TOO_MANY_FIELDS
    if total_size(fields) > limits.max_headers_bytes:
        return reasons.FIELDS_TOO_LARGE

    cdef tuple field
    cdef bytes name, value
    cdef bytes method = None, scheme = None, target = None, authority = None, host_field = None
    cdef list regular = []
    cdef bint regular_began = False, chunked = False, underscored
    cdef int dropped = 0
    cdef long long content_length = -1
    cdef const unsigned char* p
    cdef Py_ssize_t size
    cdef Meaning what
    for field in fields:
        name, value = field
        p = data(name)
        size = PyBytes_GET_SIZE(name)
        if size > 0 and p[0] == c":":
            if regular_began:
                return reasons.BAD_PSEUDO_HEADER
            if equal(p, size, b":method") and method is None:
                method = value
            elif equal(p, size, b":scheme") and scheme is None:
                scheme = value
            elif equal(p, size, b":path") and target is None:
                target = value
            elif equal(p, size, b":authority") and authority is None:
                authority = value
            else:
                return reasons.BAD_PSEUDO_HEADER
            continue
        regular_began = True
        underscored = not all_in(p, size, IN_PLAIN_NAME)
        if underscored and not all_in(p, size, IN_NAME):
            return reasons.BAD_FIELD_NAME
        if not is_field_value(value):
            return reasons.BAD_FIELD_VALUE
        if underscored and limits.underscores:
            if limits.underscores == REJECT:
                return reasons.UNDERSCORE_IN_NAME
            dropped += 1
            continue
        what = meaning(p, size)
        if what != ORDINARY:
            if version != VERSION_1 and (
                what == CONNECTION_SPECIFIC
                or what == TRANSFER_ENCODING
                or (what == TE and not is_lower(value, b"trailers"))
            ):
                return reasons.CONNECTION_SPECIFIC_FIELD
            if what == TRANSFER_ENCODING:
                if chunked or not is_lower(value, b"chunked"):
                    return reasons.BAD_FRAMING
                chunked = True
            elif what == HOST:
                if host_field is not None:
                    return reasons.DUPLICATE_HOST
                host_field = value
                continue
            elif what == CONTENT_LENGTH:
                content_length = parse_content_length(value, content_length)
                if content_length < 0:
                    return reasons.BAD_CONTENT_LENGTH
                continue
            elif what == EXPECT and not is_lower(value, b"100-continue"):
                return reasons.EXPECTATION_FAILED
        regular.append(field)
    if chunked and content_length >= 0:
        return reasons.BAD_FRAMING

    if method is None:
        return reasons.MISSING_PSEUDO_HEADER
    p = data(method)
    size = PyBytes_GET_SIZE(method)
    if not all_in(p, size, IN_METHOD):
        return reasons.BAD_METHOD
    if equal(p, size, b"CONNECT"):
        return reasons.CONNECT_NOT_ALLOWED

    if scheme is None:
        return reasons.MISSING_PSEUDO_HEADER
    if is_lower(scheme, b"https"):
        scheme = b"https"
    elif is_lower(scheme, b"http"):
        scheme = b"http"
    else:
        return reasons.BAD_SCHEME

    cdef Request request = Request.__new__(Request)
    if target is None:
        return reasons.MISSING_PSEUDO_HEADER
    reason = set_target(request, target, equal(p, size, b"OPTIONS"))
    if reason is not None:
        return reason

    # HTTP/1 asks for Host even beside an absolute target (RFC 9112 section 3.2).
    if version == VERSION_1 and host_field is None:
        return reasons.BAD_AUTHORITY
    if authority is None:
        authority = host_field
        host_field = None
    if authority is None:
        return reasons.BAD_AUTHORITY
    reason = set_authority(request, authority, host_field, limits.enforce_authority_host_match)
    if reason is not None:
        return reason

    if limits.allowed_methods and method not in limits.allowed_methods:
        return reasons.METHOD_NOT_ALLOWED
    if limits.denied_path_prefixes and request.path.startswith(limits.denied_path_prefixes):
        return reasons.PATH_DENIED

    request.method = method
    request.scheme = scheme
    request.fields = regular
    request.content_length = content_length
    request.version = version
    request.dropped = dropped
    return request


def validate_response(list fields not None, Py_ssize_t max_count, Py_ssize_t max_bytes):
    """Check a response head from a backend and make it canonical."""
    if len(fields) > max_count or total_size(fields) > max_bytes:
        return reasons.UPSTREAM_FIELDS_TOO_LARGE

    cdef tuple field
    cdef bytes name, value
    cdef list regular = []
    cdef bint first = True
    cdef bint chunked = False
    cdef long long content_length = -1
    cdef int status = 0
    cdef const unsigned char* p
    cdef Py_ssize_t size
    cdef Meaning what
    for field in fields:
        name, value = field
        p = data(name)
        size = PyBytes_GET_SIZE(name)
        if first:
            first = False
            if not equal(p, size, b":status"):
                return reasons.UPSTREAM_BAD_RESPONSE
            status = parse_status(value)
            if status < 0:
                return reasons.UPSTREAM_BAD_RESPONSE
            continue
        if not all_in(p, size, IN_NAME) or not is_field_value(value):
            return reasons.UPSTREAM_BAD_RESPONSE
        what = meaning(p, size)
        if what == CONTENT_LENGTH:
            content_length = parse_content_length(value, content_length)
            if content_length < 0:
                return reasons.UPSTREAM_BAD_RESPONSE
            continue
        if what == TRANSFER_ENCODING:
            chunked = True
        regular.append(field)
    if first or (chunked and content_length >= 0):
        return reasons.UPSTREAM_BAD_RESPONSE

    cdef Response response = Response.__new__(Response)
    response.status = status
    response.fields = regular
    response.content_length = content_length
    return response


def validate_trailers(
    list fields not None,
    Py_ssize_t max_count,
    Py_ssize_t max_bytes,
    int underscores=UNDERSCORES_PASS,
):
    """Check trailers: number, bytes, then field by field name, value and whether it may trail."""
    if len(fields) > max_count:
        return reasons.TOO_MANY_FIELDS
    if total_size(fields) > max_bytes:
        return reasons.FIELDS_TOO_LARGE
    cdef tuple field
    cdef bytes name, value
    cdef const unsigned char* p
    cdef Py_ssize_t size
    for field in fields:
        name, value = field
        p = data(name)
        size = PyBytes_GET_SIZE(name)
        if size > 0 and p[0] == c":":
            return reasons.BAD_TRAILER
        if not all_in(p, size, IN_NAME):
            return reasons.BAD_FIELD_NAME
        if not is_field_value(value):
            return reasons.BAD_FIELD_VALUE
        if name in _not_in_trailers:
            return reasons.BAD_TRAILER
        if underscores == REJECT and b"_" in name:
            return reasons.UNDERSCORE_IN_NAME
    if underscores == DROP:
        fields[:] = [field for field in fields if b"_" not in field[0]]
    return None


# --- the path ----------------------------------------------------------------------------------
cdef object set_target(Request request, bytes target, bint is_options):
    """Set the canonical path and the query; return the reason if one of them is malformed."""
    cdef const unsigned char* p = data(target)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(target)
    cdef const void* mark = memchr(p, c"?", size)
    cdef Py_ssize_t path_size = <const unsigned char*>mark - p if mark else size
    cdef Py_ssize_t decodable = 0
    cdef bint dotted = False
    request.path = target
    if is_options and equal(p, size, b"*"):
        return None
    reason = check_path(p, path_size, &decodable, &dotted)
    if reason is not None:
        return reason
    if decodable:
        request.path = decoded_path(p, path_size, decodable)
    elif path_size < size:
        request.path = PyBytes_FromStringAndSize(<const char*>p, path_size)
    if dotted and has_dot_segment(data(request.path), PyBytes_GET_SIZE(request.path)):
        return reasons.PATH_DOT_SEGMENT
    if path_size < size:
        if path_size + 1 < size and not all_in(p + path_size + 1, size - path_size - 1, IN_TARGET):
            return reasons.BAD_PATH
        request.query = PyBytes_FromStringAndSize(
            <const char*>p + path_size + 1, size - path_size - 1
        )
    return None


cdef object check_path(
    const unsigned char* p, Py_ssize_t size, Py_ssize_t* decodable, bint* dotted
):
    """Return the leftmost offence in a path.

    Sets the number of escapes to decode, and whether there is a dot, escaped or not.
    """
    cdef Py_ssize_t i = 0
    cdef unsigned char high, low, byte
    if size == 0 or p[0] != c"/":
        return reasons.BAD_PATH
    while i < size:
        byte = p[i]
        if BYTE[byte] & IN_PATH_AS_IS:
            i += 1
        elif byte == c".":
            dotted[0] = True
            i += 1
        elif byte == c"%":
            if size - i < 3:
                return reasons.PATH_BAD_ESCAPE
            high = HEX[p[i + 1]]
            low = HEX[p[i + 2]]
            if high == NOT_HEX or low == NOT_HEX:
                return reasons.PATH_BAD_ESCAPE
            byte = high << 4 | low
            if byte == 0:
                return reasons.BAD_PATH
            if byte == c"\\":
                return reasons.PATH_BACKSLASH
            if BYTE[byte] & UNRESERVED:
                decodable[0] += 1
                if byte == c".":
                    dotted[0] = True
            i += 3
        elif byte == c"\\":
            return reasons.PATH_BACKSLASH
        else:
            return reasons.BAD_PATH
    return None


cdef bytes decoded_path(const unsigned char* p, Py_ssize_t size, Py_ssize_t decodable):
    """Decode the escapes that stand for unreserved bytes; ``check_path`` has passed the path."""
    cdef bytes path = PyBytes_FromStringAndSize(NULL, size - 2 * decodable)
    cdef unsigned char* out = <unsigned char*>PyBytes_AS_STRING(path)
    cdef Py_ssize_t i = 0
    cdef unsigned char byte
    while i < size:
        byte = p[i]
        if byte == c"%" and size - i >= 3:
            byte = HEX[p[i + 1]] << 4 | HEX[p[i + 2]]
            if BYTE[byte] & UNRESERVED:
                i += 2
            else:
                byte = c"%"
        out[0] = byte
        out += 1
        i += 1
    return path


cdef bint has_dot_segment(const unsigned char* p, Py_ssize_t size) noexcept:
    """Tell whether ``.`` or ``..`` stands alone between two of ``/``, ``%2F`` and the end."""
    cdef Py_ssize_t i = 0, start = 0, width, segment
    while i <= size:
        if i == size or p[i] == c"/":
            width = 1
        elif p[i] == c"%" and size - i >= 3 and p[i + 1] == c"2" and p[i + 2] | 0x20 == c"f":
            width = 3
        else:
            i += 1
            continue
        segment = i - start
        if segment == 1 and p[start] == c".":
            return True
        if segment == 2 and p[start] == c"." and p[start + 1] == c".":
            return True
        i += width
        start = i
    return False


# --- the authority -----------------------------------------------------------------------------
cdef struct Authority:
    Py_ssize_t host_size  # from the start of the text, brackets included, trailing dot not
    int port  # -1 if there is none
    bint has_uppercase


cdef object set_authority(Request request, bytes authority, bytes host_field, bint must_agree):
    """Set authority, host and port; return the reason if they are malformed or disagree."""
    cdef Authority parts, host_parts
    cdef const unsigned char* p = data(authority)
    if not parse_authority(authority, &parts):
        return reasons.BAD_AUTHORITY
    if host_field is not None and host_field != authority:
        if not parse_authority(host_field, &host_parts):
            return reasons.BAD_AUTHORITY
        if must_agree and not (
            equal_ignoring_case(p, parts.host_size, data(host_field), host_parts.host_size)
            and (parts.port == host_parts.port or parts.port < 0 or host_parts.port < 0)
        ):
            return reasons.AUTHORITY_MISMATCH
    request.authority = authority
    request.port = parts.port
    if parts.host_size == PyBytes_GET_SIZE(authority) and not parts.has_uppercase:
        request.host = authority
    else:
        request.host = lowered_bytes(p, parts.host_size)
    return None


cdef bytes lowered_bytes(const unsigned char* p, Py_ssize_t size):
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    cdef unsigned char* out = <unsigned char*>PyBytes_AS_STRING(result)
    cdef Py_ssize_t i
    for i in range(size):
        out[i] = lowered(p[i])
    return result


cdef bint parse_authority(bytes authority, Authority* parts) noexcept:
    """Tell whether this is a host with or without a port, and take it apart."""
    cdef const unsigned char* p = data(authority)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(authority)
    cdef Py_ssize_t i
    parts.has_uppercase = False
    parts.port = -1
    if size > 0 and p[0] == c"[":
        i = ipv6_size(p, size)
        parts.has_uppercase = True  # cheaper to copy than to look
    else:
        i = name_size(p, size, &parts.has_uppercase)
    if i == 0:
        return False
    parts.host_size = i - 1 if p[i - 1] == c"." else i
    return i == size or parse_port(p + i, size - i, &parts.port)


cdef Py_ssize_t name_size(
    const unsigned char* p, Py_ssize_t size, bint* has_uppercase
) noexcept:
    """Return the length of the registered name that the text begins with; 0 if malformed."""
    cdef Py_ssize_t i = 0
    cdef unsigned char byte, before = c"."
    while i < size:
        byte = p[i]
        if not BYTE[byte] & IN_HOST:
            break
        if byte == c"." and before == c".":
            return 0  # an empty label
        if c"A" <= byte <= c"Z":
            has_uppercase[0] = True
        before = byte
        i += 1
    return i


cdef Py_ssize_t ipv6_size(const unsigned char* p, Py_ssize_t size) noexcept:
    """Return the length of the bracketed address that the text begins with; 0 if malformed."""
    cdef char[IPV6_TEXT_MAX + 1] text
    cdef unsigned char[IPV6_BYTES] address
    cdef Py_ssize_t i = 1
    while i < size and BYTE[p[i]] & IN_IPV6:
        i += 1
    if i >= size or p[i] != c"]" or i - 1 > IPV6_TEXT_MAX:
        return 0
    memcpy(text, p + 1, i - 1)
    text[i - 1] = 0
    return i + 1 if inet_pton(AF_INET6, text, address) == 1 else 0
