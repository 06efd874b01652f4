"""Field-block work between the two sides of an exchange: strip, forward, rewrite, pack.

The rules are those of the twin, :mod:`spooky._core.pure.fields`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy

from spooky._core.validate cimport Request, Response

from spooky._core.pure.fields import REASON_PHRASES

Field = tuple[bytes, bytes]

cdef tuple TE_TRAILERS = (b"te", b"trailers")

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

cdef tuple STATUSES = tuple([b"%d" % status for status in range(600)])
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


cdef set nominated(list fields):
    """Return the names that ``Connection`` says end at this hop, or ``None`` without one."""
    cdef tuple field
    cdef bytes name, value
    cdef set names = None
    for field in fields:
        name, value = field
        if fate(name) != CONNECTION:
            continue
        # The usual value, which names nothing that would pass otherwise.
        if equal(value, b"keep-alive") or equal(value, b"Keep-Alive"):
            continue
        if names is None:
            names = set()
        names.update(members(value))
    return names


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
        (b":scheme", backend_scheme),
        (b":authority", authority),
        (b":path", path),
    ]

    cdef tuple field
    cdef bytes name, value
    cdef Fate what
    cdef set dropped = nominated(request.fields)
    cdef bint preserve = policy.forwarded == Forwarded.PRESERVE
    cdef bint append = policy.forwarded == Forwarded.APPEND
    cdef bint trailers_accepted = False
    cdef list elements = None, addresses = None, protocols = None, hosts = None
    for field in request.fields:
        name, value = field
        what = fate(name)
        if what == TE:
            trailers_accepted = (
                trailers_accepted or equal(value, b"trailers") or b"trailers" in members(value)
            )
        elif is_hop_by_hop(what) or (dropped is not None and name in dropped):
            pass
        elif what == PASSES or preserve or (append and what == FORWARDED_PORT):
            head.append(field)
        elif append and PyBytes_GET_SIZE(value) > 0:
            if what == FORWARDED_FOR:
                addresses = extended(addresses, value)
            elif what == FORWARDED_PROTO:
                protocols = extended(protocols, value)
            elif what == FORWARDED_HOST:
                hosts = extended(hosts, value)
            elif quotes_closed(value):
                elements = extended(elements, value)
    if trailers_accepted:
        head.append(TE_TRAILERS)
    if request.content_length >= 0:
        head.append((b"content-length", decimal(request.content_length)))
    if preserve:
        return head

    cdef bytes element = forwarded_element(client_address, request.authority, client_scheme)
    head.append((b"forwarded", after(elements, element)))
    head.append((b"x-forwarded-for", after(addresses, client_address)))
    head.append((b"x-forwarded-proto", after(protocols, client_scheme)))
    head.append((b"x-forwarded-host", after(hosts, request.authority)))
    return head


def forward_response(Response response not None, tuple extra not None):
    """Return the head to send to the client: ``:status``, the fields that may pass, ``extra``."""
    cdef tuple field
    cdef bytes name
    cdef set dropped = nominated(response.fields)
    cdef list head = [(b":status", STATUSES[response.status])]
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


cdef list extended(list values, bytes value):
    """Return the list, made if it is ``None``, with one value more."""
    if values is None:
        return [value]
    values.append(value)
    return values


cdef bytes after(list values, bytes last):
    """Return ``last`` at the end of a list of values, which may be ``None``."""
    return last if values is None else b", ".join(extended(values, last))


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


# --- write -------------------------------------------------------------------------------------
# Everything is written twice by the same code: first to no buffer, which gives the size, then to
# one of that size.
cdef struct Writer:
    char* out
    Py_ssize_t size


cdef inline void put(Writer* writer, bytes piece) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(piece)
    if writer.out != NULL:
        memcpy(writer.out + writer.size, PyBytes_AS_STRING(piece), size)
    writer.size += size


cdef void put_field(Writer* writer, bytes name, bytes value) noexcept:
    put(writer, name)
    put(writer, b": ")
    put(writer, value)
    put(writer, b"\r\n")


cdef void put_quoted(Writer* writer, bytes value, bint in_brackets) noexcept:
    """Write a token as it is, anything else as a quoted-string."""
    cdef const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(value)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    cdef Py_ssize_t i
    cdef bint is_token = size > 0 and not in_brackets
    for i in range(size):
        if not IN_TOKEN[p[i]]:
            is_token = False
            break
    if is_token:
        put(writer, value)
        return
    put(writer, b'"[' if in_brackets else b'"')
    put(writer, value)
    put(writer, b']"' if in_brackets else b'"')


cdef void put_forwarded_element(
    Writer* writer, bytes client_address, bytes host, bytes scheme
) noexcept:
    cdef bint is_ipv6 = memchr(
        PyBytes_AS_STRING(client_address), c":", PyBytes_GET_SIZE(client_address)
    ) != NULL
    put(writer, b"for=")
    put_quoted(writer, client_address, is_ipv6)
    put(writer, b";host=")
    put_quoted(writer, host, False)
    put(writer, b";proto=")
    put(writer, scheme)


cdef bytes forwarded_element(bytes client_address, bytes host, bytes scheme):
    """Return one element of ``Forwarded`` (RFC 7239 section 4)."""
    cdef Writer writer
    cdef bytes element
    writer.out = NULL
    writer.size = 0
    put_forwarded_element(&writer, client_address, host, scheme)
    element = PyBytes_FromStringAndSize(NULL, writer.size)
    writer.out = PyBytes_AS_STRING(element)
    writer.size = 0
    put_forwarded_element(&writer, client_address, host, scheme)
    return element


# --- pack --------------------------------------------------------------------------------------
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
