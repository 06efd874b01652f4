"""Field-block work between the two sides of an exchange: strip, forward, rewrite, pack.

The rules are those of the twin, :mod:`spooky._core.pure.fields`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy

from spooky._core.validate cimport Request, Response

from spooky._core.pure.fields import REASON_PHRASES

Field = tuple[bytes, bytes]

# Fields that most requests have alike.
cdef tuple TE_TRAILERS = (b"te", b"trailers")
cdef tuple SCHEME_HTTP = (b":scheme", b"http")
cdef tuple SCHEME_HTTPS = (b":scheme", b"https")
cdef tuple FORWARDED_PROTO_HTTPS = (b"x-forwarded-proto", b"https")

cdef dict FORWARDED_MODES = {
    "overwrite": Forwarded.OVERWRITE,
    "append": Forwarded.APPEND,
    "preserve": Forwarded.PRESERVE,
}
cdef dict HOST_MODES = {
    "pass_through": HostMode.PASS_THROUGH,
    "rewrite": HostMode.REWRITE,
    "upstream": HostMode.UPSTREAM,
}

cdef tuple STATUS_FIELDS = tuple([(b":status", b"%d" % status) for status in range(600)])
cdef dict STATUS_LINES = {
    status: b"HTTP/1.1 %b %b\r\n" % (status, phrase) for status, phrase in REASON_PHRASES.items()
}

cdef enum:
    DIGITS_MAX = 19  # of a content-length, which is below 2**63

cdef bint[256] IN_TOKEN  # RFC 9110 section 5.6.2


cdef void fill_table() noexcept:
    cdef int byte
    cdef bytes alphanumeric = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for byte in range(256):
        IN_TOKEN[byte] = byte in b"!#$%&'*+-.^_`|~" + alphanumeric


fill_table()


@cython.final
cdef class ForwardingPolicy:
    """How requests to one upstream are rewritten."""

    def __init__(self, str forwarded="overwrite", str host_mode="pass_through", bytes host=b""):
        if forwarded not in FORWARDED_MODES:
            raise ValueError(f"unknown forwarded mode: {forwarded}")
        if host_mode not in HOST_MODES:
            raise ValueError(f"unknown host mode: {host_mode}")
        if host_mode == "rewrite" and not host:
            raise ValueError("host mode rewrite needs a host")
        self.forwarded = FORWARDED_MODES[forwarded]
        self.appends = forwarded == "append"
        self.host_mode = HOST_MODES[host_mode]
        self.host = host


# --- what happens to a field -------------------------------------------------------------------
cdef enum Fate:
    PASSES
    ENDS_HERE
    CONNECTION
    TE
    FORWARDED
    FORWARDED_FOR
    FORWARDED_HOST
    FORWARDED_PORT
    FORWARDED_PROTO


cdef inline Fate fate(bytes name) noexcept:
    cdef const char* p = PyBytes_AS_STRING(name)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(name)
    if size == 2:
        if memcmp(p, b"te", 2) == 0:
            return TE
    elif size == 7:
        if memcmp(p, b"upgrade", 7) == 0:
            return ENDS_HERE
    elif size == 9:
        if memcmp(p, b"forwarded", 9) == 0:
            return FORWARDED
    elif size == 10:
        if memcmp(p, b"connection", 10) == 0:
            return CONNECTION
        if memcmp(p, b"keep-alive", 10) == 0:
            return ENDS_HERE
    elif size == 15:
        if memcmp(p, b"x-forwarded-for", 15) == 0:
            return FORWARDED_FOR
    elif size == 16:
        if memcmp(p, b"x-forwarded-host", 16) == 0:
            return FORWARDED_HOST
        if memcmp(p, b"x-forwarded-port", 16) == 0:
            return FORWARDED_PORT
        if memcmp(p, b"proxy-connection", 16) == 0:
            return ENDS_HERE
    elif size == 17:
        if memcmp(p, b"x-forwarded-proto", 17) == 0:
            return FORWARDED_PROTO
        if memcmp(p, b"transfer-encoding", 17) == 0:
            return ENDS_HERE
    elif size == 18:
        if memcmp(p, b"proxy-authenticate", 18) == 0:
            return ENDS_HERE
    elif size == 19:
        if memcmp(p, b"proxy-authorization", 19) == 0:
            return ENDS_HERE
    return PASSES


cdef inline bint is_hop_by_hop(Fate what) noexcept:
    return what == ENDS_HERE or what == CONNECTION or what == TE


cdef inline bint equal(bytes one, bytes other) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(one)
    return (
        size == PyBytes_GET_SIZE(other)
        and memcmp(PyBytes_AS_STRING(one), PyBytes_AS_STRING(other), size) == 0
    )


cdef list members(bytes value):
    """Return the members of a list of tokens in lowercase (RFC 9110 section 5.6.1)."""
    return [member.strip(b" \t").lower() for member in value.split(b",")]


cdef inline bint names_nothing(bytes connection) noexcept:
    """Tell whether this is the usual ``Connection``, which names nothing that would pass."""
    return equal(connection, b"keep-alive") or equal(connection, b"Keep-Alive")


cdef enum:
    SOME_CONNECTION = 1  # one that names fields
    SOME_HOP_BY_HOP = 2
    SOME_FORWARDING = 4


cdef int kinds(list fields) except -1:
    """Return what there is among the fields that may not pass as it is; mostly nothing."""
    cdef tuple field
    cdef Fate what
    cdef int found = 0
    for field in fields:
        what = fate(field[0])
        if what == PASSES:
            continue
        if what == CONNECTION and not names_nothing(field[1]):
            found |= SOME_CONNECTION
        found |= SOME_HOP_BY_HOP if is_hop_by_hop(what) else SOME_FORWARDING
    return found


cdef set nominated(list fields):
    """Return the names that ``Connection`` says end at this hop (RFC 9110 section 7.6.1)."""
    cdef tuple field
    cdef bytes name, value
    cdef set names = set()
    for field in fields:
        name, value = field
        if fate(name) == CONNECTION:
            names.update(members(value))
    return names


# --- write -------------------------------------------------------------------------------------
cdef struct Writer:
    char* out  # NULL: only count
    Py_ssize_t size


cdef inline void put(Writer* writer, bytes piece) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(piece)
    if writer.out != NULL:
        memcpy(writer.out + writer.size, PyBytes_AS_STRING(piece), size)
    writer.size += size


# --- forward -----------------------------------------------------------------------------------
def forward_request(
    Request request not None,
    ForwardingPolicy policy not None,
    bytes client_address not None,
    bytes client_scheme not None,
    bytes backend_scheme not None,
    bytes backend_authority not None,
):
    """Return the head to send upstream: pseudo-headers, then the fields that may pass."""
    cdef bytes authority = request.authority
    if policy.host_mode == HostMode.REWRITE:
        authority = policy.host
    elif policy.host_mode == HostMode.UPSTREAM:
        authority = backend_authority
    cdef bytes path = request.path
    if request.query is not None:
        path = joined(path, b"?", request.query)
    cdef list head = [
        (b":method", request.method),
        scheme_field(backend_scheme),
        (b":authority", authority),
        (b":path", path),
    ]
    cdef Inbound inbound = None
    cdef int found = kinds(request.fields)
    cdef bint preserve = policy.forwarded == Forwarded.PRESERVE
    if found == 0 or (preserve and found == SOME_FORWARDING):
        head.extend(request.fields)
    else:
        inbound = Inbound.__new__(Inbound)
        pass_request_fields(
            request.fields,
            nominated(request.fields) if found & SOME_CONNECTION else None,
            policy.forwarded,
            head,
            inbound,
        )
    if request.content_length >= 0:
        head.append((b"content-length", decimal(request.content_length)))
    if not preserve:
        add_forwarding_fields(head, inbound, client_address, request.authority, client_scheme)
    return head


@cython.final
@cython.freelist(8)
@cython.no_gc
cdef class Inbound:
    """What came in the forwarding fields, joined, under ``append``; ``None`` where nothing did."""

    cdef bytes elements
    cdef bytes addresses
    cdef bytes protocols
    cdef bytes hosts


cdef int pass_request_fields(
    list fields, set dropped, Forwarded mode, list head, Inbound inbound
) except -1:
    """Put the fields that may pass into ``head``, and those to append to into ``inbound``."""
    cdef tuple field
    cdef bytes name, value
    cdef Fate what
    cdef bint append = mode == Forwarded.APPEND
    cdef bint trailers_accepted = False
    for field in fields:
        name, value = field
        what = fate(name)
        if what == TE:
            trailers_accepted = (
                trailers_accepted or equal(value, b"trailers") or b"trailers" in members(value)
            )
        elif is_hop_by_hop(what) or (dropped is not None and name in dropped):
            continue
        elif (
            what == PASSES
            or mode == Forwarded.PRESERVE
            or (append and what == FORWARDED_PORT)
        ):
            head.append(field)
        elif append and PyBytes_GET_SIZE(value) > 0:
            if what == FORWARDED_FOR:
                inbound.addresses = after(inbound.addresses, value)
            elif what == FORWARDED_PROTO:
                inbound.protocols = after(inbound.protocols, value)
            elif what == FORWARDED_HOST:
                inbound.hosts = after(inbound.hosts, value)
            elif quotes_closed(value):
                inbound.elements = after(inbound.elements, value)
    if trailers_accepted:
        head.append(TE_TRAILERS)
    return 0


cdef int add_forwarding_fields(
    list head, Inbound inbound, bytes client_address, bytes authority, bytes client_scheme
) except -1:
    cdef bytes element = forwarded_element(client_address, authority, client_scheme)
    if inbound is not None:
        element = after(inbound.elements, element)
        client_address = after(inbound.addresses, client_address)
        client_scheme = after(inbound.protocols, client_scheme)
        authority = after(inbound.hosts, authority)
    head.append((b"forwarded", element))
    head.append((b"x-forwarded-for", client_address))
    if equal(client_scheme, b"https"):
        head.append(FORWARDED_PROTO_HTTPS)
    else:
        head.append((b"x-forwarded-proto", client_scheme))
    head.append((b"x-forwarded-host", authority))
    return 0


cdef inline tuple scheme_field(bytes scheme):
    if equal(scheme, b"http"):
        return SCHEME_HTTP
    if equal(scheme, b"https"):
        return SCHEME_HTTPS
    return (b":scheme", scheme)


def forward_response(Response response not None, tuple extra not None):
    """Return the head to send to the client: ``:status``, the fields that may pass, ``extra``."""
    cdef tuple field
    cdef bytes name
    cdef list head = [STATUS_FIELDS[response.status]]
    cdef set dropped = None
    if kinds(response.fields) & SOME_CONNECTION:
        dropped = nominated(response.fields)
    for field in response.fields:
        name = field[0]
        if is_hop_by_hop(fate(name)) or (dropped is not None and name in dropped):
            continue
        if not is_named(name, extra):
            head.append(field)
    # RFC 9110 section 8.6: never in a 1xx or 204 response.
    if response.content_length >= 0 and response.status >= 200 and response.status != 204:
        head.append((b"content-length", decimal(response.content_length)))
    head.extend(extra)
    return head


def forward_trailers(list fields not None):
    """Return the trailers that may pass: no hop-by-hop fields."""
    cdef tuple field
    cdef list passing = []
    for field in fields:
        if not is_hop_by_hop(fate(field[0])):
            passing.append(field)
    return passing


cdef bint is_named(bytes name, tuple fields) except -1:
    """Tell whether one of the fields has this name."""
    cdef tuple field
    for field in fields:
        if equal(name, field[0]):
            return True
    return False


cdef inline bytes after(bytes before, bytes last):
    """Return ``last`` at the end of a list of values, which is ``None`` if there are none."""
    return last if before is None else joined(before, b", ", last)


cdef bytes joined(bytes left, bytes between, bytes right):
    cdef Writer writer
    cdef bytes result = PyBytes_FromStringAndSize(
        NULL, PyBytes_GET_SIZE(left) + PyBytes_GET_SIZE(between) + PyBytes_GET_SIZE(right)
    )
    writer.out = PyBytes_AS_STRING(result)
    writer.size = 0
    put(&writer, left)
    put(&writer, between)
    put(&writer, right)
    return result


cdef bytes decimal(long long number):
    cdef char[DIGITS_MAX] digits
    cdef Py_ssize_t i = DIGITS_MAX
    while True:
        i -= 1
        digits[i] = c"0" + <char>(number % 10)
        number //= 10
        if number == 0:
            return PyBytes_FromStringAndSize(&digits[i], DIGITS_MAX - i)


cdef bint quotes_closed(bytes value) noexcept:
    """Tell whether every quoted-string ends (RFC 9110 section 5.6.4)."""
    cdef const char* p = PyBytes_AS_STRING(value)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    cdef Py_ssize_t i = 0
    cdef bint quoted = False
    while i < size:
        if p[i] == c'"':
            quoted = not quoted
        elif quoted and p[i] == c"\\":
            i += 1
        i += 1
    return not quoted


cdef bint is_token(bytes value) noexcept:
    cdef const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(value)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    cdef Py_ssize_t i
    for i in range(size):
        if not IN_TOKEN[p[i]]:
            return False
    return size > 0


cdef bytes forwarded_element(bytes client_address, bytes host, bytes scheme):
    """Return one element of ``Forwarded`` (RFC 7239 section 4)."""
    cdef bytes opening = b"for=", between = b";host=", quote = b"", closing = b";proto="
    if memchr(PyBytes_AS_STRING(client_address), c":", PyBytes_GET_SIZE(client_address)):
        opening = b'for="['
        between = b']";host='
    elif not is_token(client_address):
        opening = b'for="'
        between = b'";host='
    if not is_token(host):
        quote = b'"'
        closing = b'";proto='
    cdef bytes element = PyBytes_FromStringAndSize(
        NULL,
        PyBytes_GET_SIZE(opening) + PyBytes_GET_SIZE(client_address) + PyBytes_GET_SIZE(between)
        + PyBytes_GET_SIZE(quote) + PyBytes_GET_SIZE(host) + PyBytes_GET_SIZE(closing)
        + PyBytes_GET_SIZE(scheme),
    )
    cdef Writer writer
    writer.out = PyBytes_AS_STRING(element)
    writer.size = 0
    put(&writer, opening)
    put(&writer, client_address)
    put(&writer, between)
    put(&writer, quote)
    put(&writer, host)
    put(&writer, closing)
    put(&writer, scheme)
    return element


# --- pack --------------------------------------------------------------------------------------
# A head is written twice by the same code: first to nowhere, which gives its size, then to bytes of
# that size.
cdef void put_field(Writer* writer, bytes name, bytes value) noexcept:
    put(writer, name)
    put(writer, b": ")
    put(writer, value)
    put(writer, b"\r\n")


def pack_http1_request(list fields not None, bint chunked):
    """Return an HTTP/1.1 request head, from pseudo-headers and fields, in origin form."""
    cdef bytes method = pseudo_header(fields, b":method")
    cdef bytes path = pseudo_header(fields, b":path")
    cdef bytes authority = pseudo_header(fields, b":authority")
    cdef Writer writer
    cdef bytes head
    writer.out = NULL
    writer.size = 0
    put_request(&writer, method, path, authority, fields, chunked)
    head = PyBytes_FromStringAndSize(NULL, writer.size)
    writer.out = PyBytes_AS_STRING(head)
    writer.size = 0
    put_request(&writer, method, path, authority, fields, chunked)
    return head


def pack_http1_response(list fields not None, bint chunked, bint close):
    """Return an HTTP/1.1 response head, from ``:status`` and fields."""
    cdef bytes status = fields[0][1]
    cdef bytes status_line = STATUS_LINES.get(status)
    if status_line is None:
        status_line = b"HTTP/1.1 %b \r\n" % status
    cdef Writer writer
    cdef bytes head
    writer.out = NULL
    writer.size = 0
    put_response(&writer, status_line, fields, chunked, close)
    head = PyBytes_FromStringAndSize(NULL, writer.size)
    writer.out = PyBytes_AS_STRING(head)
    writer.size = 0
    put_response(&writer, status_line, fields, chunked, close)
    return head


cdef bytes pseudo_header(list fields, bytes wanted):
    """Return the value of a pseudo-header; raises KeyError if there is none."""
    cdef tuple field
    for field in fields:
        if equal(field[0], wanted):
            return field[1]
    raise KeyError(wanted)


cdef int put_request(
    Writer* writer, bytes method, bytes path, bytes authority, list fields, bint chunked
) except -1:
    cdef tuple field
    cdef bytes name, value
    cdef bint cookie_sent = False
    put(writer, method)
    put(writer, b" ")
    put(writer, path)
    put(writer, b" HTTP/1.1\r\n")
    put_field(writer, b"host", authority)
    for field in fields:
        name, value = field
        if is_pseudo_header(name) or equal(name, b"host"):
            continue
        if chunked and equal(name, b"content-length"):
            continue
        if equal(name, b"cookie"):
            if not cookie_sent:
                put_cookie(writer, fields)
                cookie_sent = True
            continue
        put_field(writer, name, value)
        if equal(name, b"te"):
            put(writer, b"connection: TE\r\n")
    if chunked:
        put(writer, b"transfer-encoding: chunked\r\n")
    put(writer, b"\r\n")
    return 0


cdef int put_cookie(Writer* writer, list fields) except -1:
    """Write all cookie crumbs as one field (RFC 9113 section 8.2.3)."""
    cdef tuple field
    cdef bytes name, value
    cdef bint first = True
    for field in fields:
        name, value = field
        if equal(name, b"cookie"):
            put(writer, b"cookie: " if first else b"; ")
            put(writer, value)
            first = False
    put(writer, b"\r\n")
    return 0


cdef int put_response(
    Writer* writer, bytes status_line, list fields, bint chunked, bint close
) except -1:
    cdef tuple field
    cdef bytes name, value
    put(writer, status_line)
    for field in fields:
        name, value = field
        if is_pseudo_header(name) or (chunked and equal(name, b"content-length")):
            continue
        put_field(writer, name, value)
    if chunked:
        put(writer, b"transfer-encoding: chunked\r\n")
    if close:
        put(writer, b"connection: close\r\n")
    put(writer, b"\r\n")
    return 0


cdef inline bint is_pseudo_header(bytes name) noexcept:
    return PyBytes_GET_SIZE(name) > 0 and PyBytes_AS_STRING(name)[0] == c":"
