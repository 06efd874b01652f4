"""Field-block work between the two sides of an exchange: strip, forward, rewrite, pack."""

import re
from http import HTTPStatus
from typing import Final

from spooky._core.pure.validate import Request, Response

Field = tuple[bytes, bytes]

_HOP_BY_HOP: Final = frozenset(
    (
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip
"""What ends at this hop (RFC 9110 sections 7.6.1, 11.7).

``trailer`` is end-to-end since RFC 9110 section 6.6.2, and Go's HTTP/2 server drops request
trailers that it did not announce.
"""

_EMITTED: Final = frozenset(
    (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
)
"""What tells a backend about the way of a request; ours come in their place."""

_REPLACED: Final = {
    "overwrite": _EMITTED | {b"x-forwarded-port"},
    "append": _EMITTED,
    "preserve": frozenset[bytes](),
}
"""What does not pass as it came, by forwarded mode."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110 section 5.6.2."""

_QUOTES_CLOSED: Final = re.compile(rb'(?:[^"]|"(?:[^"\\]|\\.)*")*')
"""A field value in which every quoted-string ends (RFC 9110 section 5.6.4)."""

REASON_PHRASES: Final = {b"%d" % status: status.phrase.encode() for status in HTTPStatus}


class ForwardingPolicy:
    """How requests to one upstream are rewritten."""

    __slots__ = ("appends", "forwarded", "host", "host_mode")

    def __init__(
        self,
        forwarded: str = "overwrite",
        host_mode: str = "pass_through",
        host: bytes = b"",
    ) -> None:
        if forwarded not in ("overwrite", "append", "preserve"):
            raise ValueError(f"unknown forwarded mode: {forwarded}")
        if host_mode not in ("pass_through", "rewrite", "upstream"):
            raise ValueError(f"unknown host mode: {host_mode}")
        if host_mode == "rewrite" and not host:
            raise ValueError("host mode rewrite needs a host")
        self.forwarded = forwarded
        self.appends = forwarded == "append"
        self.host_mode = host_mode
        self.host = host


def forward_request(
    request: Request,
    policy: ForwardingPolicy,
    client_address: bytes,
    client_scheme: bytes,
    backend_scheme: bytes,
    backend_authority: bytes,
) -> list[Field]:
    """Return the head to send upstream: pseudo-headers, then the fields that may pass."""
    authority = {
        "pass_through": request.authority,
        "rewrite": policy.host,
        "upstream": backend_authority,
    }[policy.host_mode]
    path = request.path
    if request.query is not None:
        path += b"?" + request.query
    head = [
        (b":method", request.method),
        (b":scheme", backend_scheme),
        (b":authority", authority),
        (b":path", path),
    ]

    dropped = _HOP_BY_HOP | _nominated(request.fields)
    replaced = _REPLACED[policy.forwarded]
    inbound: dict[bytes, list[bytes]] = {}
    trailers_accepted = False
    for field in request.fields:
        name, value = field
        if name == b"te":
            trailers_accepted = trailers_accepted or b"trailers" in _members(value)
        elif name in dropped:
            pass
        elif name in replaced:
            inbound.setdefault(name, []).append(value)
        else:
            head.append(field)
    if trailers_accepted:
        head.append((b"te", b"trailers"))
    if request.content_length >= 0:
        head.append((b"content-length", b"%d" % request.content_length))
    if policy.forwarded == "preserve":
        return head

    if policy.forwarded == "overwrite":
        inbound = {}
    else:
        # An open quote would swallow the element that is appended here.
        inbound[b"forwarded"] = [
            value for value in inbound.get(b"forwarded", ()) if _QUOTES_CLOSED.fullmatch(value)
        ]
    for name, value in (
        (b"forwarded", _forwarded(client_address, request.authority, client_scheme)),
        (b"x-forwarded-for", client_address),
        (b"x-forwarded-proto", client_scheme),
        (b"x-forwarded-host", request.authority),
    ):
        elements = [element for element in inbound.get(name, ()) if element]
        head.append((name, b", ".join([*elements, value])))
    return head


def forward_response(response: Response, extra: tuple[Field, ...]) -> list[Field]:
    """Return the head to send to the client: ``:status``, the fields that may pass, ``extra``."""
    dropped = _HOP_BY_HOP | _nominated(response.fields) | {name for name, _ in extra}
    head = [(b":status", b"%d" % response.status)]
    head += [field for field in response.fields if field[0] not in dropped]
    # RFC 9110 section 8.6: never in a 1xx or 204 response.
    if response.content_length >= 0 and response.status >= 200 and response.status != 204:
        head.append((b"content-length", b"%d" % response.content_length))
    head += extra
    return head


def forward_trailers(fields: list[Field]) -> list[Field]:
    """Return the trailers that may pass: no hop-by-hop fields."""
    return [field for field in fields if field[0] not in _HOP_BY_HOP]


def pack_http1_request(fields: list[Field], chunked: bool) -> bytes:
    """Return an HTTP/1.1 request head, from pseudo-headers and fields, in origin form."""
    pseudo = {name: value for name, value in fields if name.startswith(b":")}
    cookie = b"; ".join([value for name, value in fields if name == b"cookie"])
    lines = [
        b"%b %b HTTP/1.1" % (pseudo[b":method"], pseudo[b":path"]),
        b"host: " + pseudo[b":authority"],
    ]
    cookie_sent = False
    for name, value in fields:
        if name.startswith(b":") or name == b"host" or (chunked and name == b"content-length"):
            continue
        if name == b"cookie":
            if cookie_sent:
                continue
            value = cookie
            cookie_sent = True
        lines.append(b"%b: %b" % (name, value))
        if name == b"te":
            lines.append(b"connection: TE")
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    return b"\r\n".join([*lines, b"", b""])


def pack_http1_response(fields: list[Field], chunked: bool, close: bool) -> bytes:
    """Return an HTTP/1.1 response head, from ``:status`` and fields."""
    status = fields[0][1]
    lines = [b"HTTP/1.1 %b %b" % (status, REASON_PHRASES.get(status, b""))]
    for name, value in fields:
        if name.startswith(b":") or (chunked and name == b"content-length"):
            continue
        lines.append(b"%b: %b" % (name, value))
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join([*lines, b"", b""])


def _members(value: bytes) -> list[bytes]:
    """Return the members of a list of tokens in lowercase (RFC 9110 section 5.6.1)."""
    return [member.strip(b" \t").lower() for member in value.split(b",")]


def _nominated(fields: list[Field]) -> set[bytes]:
    """Return the names that ``Connection`` says end at this hop (RFC 9110 section 7.6.1)."""
    return {member for name, value in fields if name == b"connection" for member in _members(value)}


def _forwarded(client_address: bytes, host: bytes, scheme: bytes) -> bytes:
    """Return one element of ``Forwarded`` (RFC 7239 section 4)."""
    if b":" in client_address:
        client_address = b"[%b]" % client_address
    return b"for=%b;host=%b;proto=%b" % (_quoted(client_address), _quoted(host), scheme)


def _quoted(value: bytes) -> bytes:
    """Return a token as it is, anything else as a quoted-string.

    Addresses and authorities have no ``"`` and no backslash, so nothing needs escaping.
    """
    return value if _TOKEN.fullmatch(value) else b'"%b"' % value
