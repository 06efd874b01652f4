"""Request and response heads: from fields off the wire to a canonical head, or a reason.

The rules for a request in their order; the first one broken gives the reason:

1. The number of fields, then the sum of their bytes.
2. The fields one by one, as they came. A pseudo-header is one of the four and comes once, before
   the regular fields. A regular field has a good name, then a good value, then whatever its name
   asks for: connection-specific fields, ``te``, ``transfer-encoding``, ``host``,
   ``content-length``, ``expect``. At last, what is done with a name that has an underscore.
3. ``content-length`` and ``transfer-encoding`` do not come together.
4. The method; CONNECT.
5. The scheme.
6. The path, byte by byte, then its dot segments, then the query.
7. ``:authority``, then ``Host``, then whether they agree.
8. The methods, then the paths that the operator lets through.
"""

import ipaddress
import re
from collections.abc import Collection, Sequence
from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Reason

HTTP_1: Final = 1
HTTP_2: Final = 2
HTTP_3: Final = 3

UNDERSCORES_PASS: Final = 0
UNDERSCORES_DROP: Final = 1
UNDERSCORES_REJECT: Final = 2

_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Z]+")
"""A token in capitals (RFC 9110 section 5.6.2): methods are case-sensitive (section 9.1), yet some
backends fold them, and what is no DELETE for us must be none for them."""

_FIELD_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
"""A token in lowercase (RFC 9113 section 8.2.1, RFC 9114 section 4.2)."""

_FORBIDDEN_IN_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Every control but HTAB (RFC 9110 section 5.5); bytes from 0x80 are obs-text and pass."""

_FORBIDDEN_IN_PATH: Final = re.compile(
    rb"(?P<backslash>\\|%5[Cc])|(?P<escape>%(?![0-9A-Fa-f]{2}))|(?P<byte>[^!-~]|#|%00)"
)
"""The offences in a path, by the leftmost.

RFC 3986 section 3.3 allows fewer bytes than browsers and curl send unescaped. Printable ASCII
passes, as it does through nginx and Envoy: it cannot end a request line or a field. A ``#``
would start a fragment, which no request has.
"""

_FORBIDDEN_IN_QUERY: Final = re.compile(rb"[^!-~]|#")
"""Escapes are the backend's business here, and browsers send ``\\`` and the like as they are."""

_ESCAPED_UNRESERVED: Final = re.compile(
    rb"%(?:2[DdEe]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])"
)
"""Escapes that mean the same decoded (RFC 3986 section 6.2.2.2)."""

_SEPARATOR: Final = re.compile(rb"/|%2[Ff]")
"""What ends a dot segment: many backends decode ``%2F`` before they resolve dot segments."""

_AUTHORITY: Final = re.compile(
    rb"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9\-._~!$&'()*+;=]+))"
    rb"(?::(?P<port>[0-9]{1,5}))?"
)
"""RFC 3986 section 3.2 without userinfo and without what lets one host be written or read in two
ways: the comma, percent-escapes, and the empty port."""

_CONTENT_LENGTH_MAX: Final = 2**63 - 1
_CONTENT_LENGTH_MAX_DIGITS: Final = 19
_PORT_MAX: Final = 65535

_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Not allowed in HTTP/2 and HTTP/3 (RFC 9113 section 8.2.2, RFC 9114 section 4.2)."""

NOT_IN_TRAILERS: Final = frozenset(
    (
        # Framing, and what belongs to one connection.
        b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"te", b"trailer",
        b"transfer-encoding", b"upgrade",
        # Routing, and what a backend believes about the way here.
        b"forwarded", b"host", b"max-forwards", b"x-forwarded-for", b"x-forwarded-host",
        b"x-forwarded-port", b"x-forwarded-proto", b"x-real-ip",
        # Authentication.
        b"authorization", b"cookie", b"proxy-authenticate", b"proxy-authorization",
        b"set-cookie", b"www-authenticate",
        # Request modifiers and response controls.
        b"cache-control", b"expect", b"if-match", b"if-modified-since", b"if-none-match",
        b"if-range", b"if-unmodified-since", b"pragma", b"range",
        # Content format.
        b"content-encoding", b"content-range", b"content-type",
    )
)  # fmt: skip
"""Evaluated before the content, so a late one deceives whoever merges it into the head
(RFC 9110 section 6.5.1). Not an allow-list, because gRPC sends metadata of any name."""


class Limits:
    """What a request head may be."""

    __slots__ = (
        "allowed_methods", "denied_path_prefixes", "enforce_authority_host_match",
        "max_headers_bytes", "max_headers_count", "underscores",
    )  # fmt: skip

    def __init__(
        self,
        max_headers_count: int = 128,
        max_headers_bytes: int = 16384,
        enforce_authority_host_match: bool = True,
        allowed_methods: Collection[bytes] = (),
        denied_path_prefixes: Sequence[bytes] = (),
        underscores: int = UNDERSCORES_PASS,
    ) -> None:
        self.max_headers_count = max_headers_count
        self.max_headers_bytes = max_headers_bytes
        self.enforce_authority_host_match = enforce_authority_host_match
        self.allowed_methods = frozenset(allowed_methods)
        self.denied_path_prefixes = tuple(denied_path_prefixes)
        self.underscores = underscores


class Request:
    """A canonical request head."""

    __slots__ = (
        "authority", "content_length", "dropped", "fields", "host", "method", "path", "port",
        "query", "scheme", "version",
    )  # fmt: skip

    method: bytes
    scheme: bytes
    authority: bytes
    host: bytes
    port: int
    path: bytes
    query: bytes | None
    fields: list[tuple[bytes, bytes]]
    content_length: int
    version: int
    dropped: int


class Response:
    """A canonical response head."""

    __slots__ = ("content_length", "fields", "status")

    status: int
    fields: list[tuple[bytes, bytes]]
    content_length: int


def validate_request(
    fields: list[tuple[bytes, bytes]], version: int, limits: Limits
) -> Request | Reason:
    """Check a request head and make it canonical."""
    if len(fields) > limits.max_headers_count:
        return reasons.TOO_MANY_FIELDS
    if _size(fields) > limits.max_headers_bytes:
        return reasons.FIELDS_TOO_LARGE

    pseudo: dict[bytes, bytes] = {}
    regular: list[tuple[bytes, bytes]] = []
    regular_began = False
    host_field: bytes | None = None
    content_length = -1
    chunked = False
    dropped = 0
    for field in fields:
        name, value = field
        if name.startswith(b":"):
            if (
                name not in (b":method", b":scheme", b":authority", b":path")
                or name in pseudo
                or regular_began
            ):
                return reasons.BAD_PSEUDO_HEADER
            pseudo[name] = value
            continue
        regular_began = True
        if not _FIELD_NAME.fullmatch(name):
            return reasons.BAD_FIELD_NAME
        if not _is_field_value(value):
            return reasons.BAD_FIELD_VALUE
        if version != HTTP_1 and (
            name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers")
        ):
            return reasons.CONNECTION_SPECIFIC_FIELD
        if name == b"transfer-encoding":
            # A second one, or any other coding, leaves the length of the body open to
            # interpretation (RFC 9112 section 6.1).
            if chunked or value.lower() != b"chunked":
                return reasons.BAD_FRAMING
            chunked = True
        elif name == b"host":
            if host_field is not None:
                return reasons.DUPLICATE_HOST
            host_field = value
            continue
        elif name == b"content-length":
            content_length = _content_length(value, content_length)
            if content_length < 0:
                return reasons.BAD_CONTENT_LENGTH
            continue
        elif name == b"expect" and value.lower() != b"100-continue":
            return reasons.EXPECTATION_FAILED
        elif limits.underscores and b"_" in name:
            if limits.underscores == UNDERSCORES_REJECT:
                return reasons.UNDERSCORE_IN_NAME
            dropped += 1
            continue
        regular.append(field)
    if chunked and content_length >= 0:
        return reasons.BAD_FRAMING

    method = pseudo.get(b":method")
    if method is None:
        return reasons.MISSING_PSEUDO_HEADER
    if not _METHOD.fullmatch(method):
        return reasons.BAD_METHOD
    if method == b"CONNECT":
        return reasons.CONNECT_NOT_ALLOWED

    scheme = pseudo.get(b":scheme")
    if scheme is None:
        return reasons.MISSING_PSEUDO_HEADER
    scheme = scheme.lower()
    if scheme not in (b"http", b"https"):
        return reasons.BAD_SCHEME

    target = pseudo.get(b":path")
    if target is None:
        return reasons.MISSING_PSEUDO_HEADER
    raw_path, question_mark, query = target.partition(b"?")
    path = raw_path
    if target != b"*" or method != b"OPTIONS":
        canonical = _canonical_path(raw_path)
        if isinstance(canonical, Reason):
            return canonical
        path = canonical
    if _FORBIDDEN_IN_QUERY.search(query):
        return reasons.BAD_PATH

    authority = pseudo.get(b":authority", host_field)
    # HTTP/1 asks for Host even beside an absolute target (RFC 9112 section 3.2).
    if authority is None or (version == HTTP_1 and host_field is None):
        return reasons.BAD_AUTHORITY
    parsed = _parse_authority(authority)
    if parsed is None:
        return reasons.BAD_AUTHORITY
    host, port = parsed
    if host_field is not None and host_field != authority:
        parsed_host_field = _parse_authority(host_field)
        if parsed_host_field is None:
            return reasons.BAD_AUTHORITY
        if limits.enforce_authority_host_match and not _agree(parsed, parsed_host_field):
            return reasons.AUTHORITY_MISMATCH

    if limits.allowed_methods and method not in limits.allowed_methods:
        return reasons.METHOD_NOT_ALLOWED
    if path.startswith(limits.denied_path_prefixes):
        return reasons.PATH_DENIED

    request = Request()
    request.method = method
    request.scheme = scheme
    request.authority = authority
    request.host = host
    request.port = port
    request.path = path
    request.query = query if question_mark else None
    request.fields = regular
    request.content_length = content_length
    request.version = version
    request.dropped = dropped
    return request


def validate_response(
    fields: list[tuple[bytes, bytes]], max_count: int, max_bytes: int
) -> Response | Reason:
    """Check a response head from a backend and make it canonical."""
    if len(fields) > max_count or _size(fields) > max_bytes:
        return reasons.UPSTREAM_FIELDS_TOO_LARGE
    if not fields or fields[0][0] != b":status":
        return reasons.UPSTREAM_BAD_RESPONSE
    status = fields[0][1]
    if len(status) != 3 or not status.isdigit() or not b"100" <= status <= b"599":
        return reasons.UPSTREAM_BAD_RESPONSE
    # Nothing we forward asks to switch protocols.
    if status == b"101":
        return reasons.UPSTREAM_BAD_RESPONSE

    regular: list[tuple[bytes, bytes]] = []
    content_length = -1
    chunked = False
    for field in fields[1:]:
        name, value = field
        if not _FIELD_NAME.fullmatch(name) or not _is_field_value(value):
            return reasons.UPSTREAM_BAD_RESPONSE
        if name == b"content-length":
            content_length = _content_length(value, content_length)
            if content_length < 0:
                return reasons.UPSTREAM_BAD_RESPONSE
            continue
        if name == b"transfer-encoding":
            chunked = True
        regular.append(field)
    # RFC 9112 section 6.3: the two together may be an attempt at response splitting.
    if chunked and content_length >= 0:
        return reasons.UPSTREAM_BAD_RESPONSE

    response = Response()
    response.status = int(status)
    response.fields = regular
    response.content_length = content_length
    return response


def validate_trailers(
    fields: list[tuple[bytes, bytes]],
    max_count: int,
    max_bytes: int,
    underscores: int = UNDERSCORES_PASS,
) -> Reason | None:
    """Check trailers: number, bytes, then field by field name, value and whether it may trail."""
    if len(fields) > max_count:
        return reasons.TOO_MANY_FIELDS
    if _size(fields) > max_bytes:
        return reasons.FIELDS_TOO_LARGE
    for name, value in fields:
        if name.startswith(b":"):
            return reasons.BAD_TRAILER
        if not _FIELD_NAME.fullmatch(name):
            return reasons.BAD_FIELD_NAME
        if not _is_field_value(value):
            return reasons.BAD_FIELD_VALUE
        if name in NOT_IN_TRAILERS:
            return reasons.BAD_TRAILER
        if underscores == UNDERSCORES_REJECT and b"_" in name:
            return reasons.UNDERSCORE_IN_NAME
    if underscores == UNDERSCORES_DROP:
        fields[:] = [field for field in fields if b"_" not in field[0]]
    return None


def _size(fields: list[tuple[bytes, bytes]]) -> int:
    """Return the sum of name and value lengths."""
    return sum(len(name) + len(value) for name, value in fields)


def _is_field_value(value: bytes) -> bool:
    """Return whether this is a field value without whitespace around it."""
    return value == value.strip(b" \t") and not _FORBIDDEN_IN_VALUE.search(value)


def _content_length(value: bytes, known: int) -> int:
    """Return the length, or -1 if it is malformed or differs from one already ``known``.

    A list of one and the same number stands for that number (RFC 9110 section 8.6).
    """
    for member in value.split(b","):
        digits = member.strip(b" \t")
        if not digits.isdigit():
            return -1
        digits = digits.lstrip(b"0") or b"0"
        if len(digits) > _CONTENT_LENGTH_MAX_DIGITS:
            return -1
        length = int(digits)
        if length > _CONTENT_LENGTH_MAX or known not in (-1, length):
            return -1
        known = length
    return known


def _canonical_path(path: bytes) -> bytes | Reason:
    """Decode what is unreserved in a path, or say what is wrong with it."""
    if not path.startswith(b"/"):
        return reasons.BAD_PATH
    offence = _FORBIDDEN_IN_PATH.search(path)
    if offence:
        return {
            "backslash": reasons.PATH_BACKSLASH,
            "escape": reasons.PATH_BAD_ESCAPE,
            "byte": reasons.BAD_PATH,
        }[str(offence.lastgroup)]
    if b"%" in path:
        path = _ESCAPED_UNRESERVED.sub(lambda escape: bytes.fromhex(escape[0][1:].decode()), path)
    if any(segment in (b".", b"..") for segment in _SEPARATOR.split(path)):
        return reasons.PATH_DOT_SEGMENT
    return path


def _parse_authority(authority: bytes) -> tuple[bytes, int] | None:
    """Return the normalised host and the port or -1, or ``None`` if it is malformed."""
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        return None
    port = int(parts["port"] or -1)
    if port > _PORT_MAX:
        return None
    if parts["ipv6"] is not None:
        try:
            ipaddress.IPv6Address(parts["ipv6"].decode())
        except ValueError:
            return None
        return b"[%b]" % parts["ipv6"].lower(), port
    name: bytes = parts["name"].lower()
    if name.startswith(b".") or b".." in name:
        return None
    return name.removesuffix(b"."), port


def _agree(authority: tuple[bytes, int], host: tuple[bytes, int]) -> bool:
    """Return whether ``:authority`` and ``Host`` name the same host, and port if both do."""
    return authority[0] == host[0] and (authority[1] == host[1] or -1 in (authority[1], host[1]))
