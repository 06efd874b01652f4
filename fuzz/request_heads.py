"""Request heads at the validator: kernel against twin, and what passes against other parsers.

The first byte chooses the version, the second the limits; the rest is fields. What passes must be
good for h2, and packed for a backend it must be to h11 and to llhttp the request that we judged:
its method, its target, its host and its fields, and nothing after it.
"""

from collections.abc import Iterator

import h11
from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers
from httptools import HttpRequestParser

from fuzz._heads import GET, Field, decode, encode, values
from spooky._core import fields as kernel_fields
from spooky._core import validate as kernel
from spooky._core.pure import validate as twin
from spooky._core.reasons import Reason

REQUEST = (
    "method", "scheme", "authority", "host", "port", "path", "query", "fields", "content_length",
    "version", "dropped",
)  # fmt: skip

LIMITS = (
    {},
    {"enforce_authority_host_match": False},
    {"max_headers_count": 6, "max_headers_bytes": 60},
    {"allowed_methods": [b"GET", b"POST"], "denied_path_prefixes": [b"/a", b"//", b"/%2F"]},
    {"underscores": kernel.UNDERSCORES_DROP},
    {"underscores": kernel.UNDERSCORES_REJECT},
)
KERNEL_LIMITS = [kernel.Limits(**each) for each in LIMITS]  # type: ignore[arg-type]
TWIN_LIMITS = [twin.Limits(**each) for each in LIMITS]  # type: ignore[arg-type]

POLICY = kernel_fields.ForwardingPolicy("preserve")

AS_REQUEST = HeaderValidationFlags(
    is_client=False, is_trailer=False, is_response_header=False, is_push_promise=False
)

METHODS_OF_LLHTTP = frozenset((b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH"))


def seeds() -> Iterator[bytes]:
    """Yield heads that pass, and some wrong in one place."""
    method, scheme, authority, path = GET
    others: list[tuple[Field, ...]] = [
        ((b"cookie", b"a=b"), (b"cookie", b"c=d")),
        ((b"content-length", b"5"),),
        ((b"content-length", b"05, 5"),),
        ((b"te", b"trailers"),),
        ((b"host", b"EXAMPLE.com.:443"),),
        ((b"expect", b"100-continue"), (b"x-y", b"a\tb\xc3\xa4")),
        ((b"transfer-encoding", b"chunked"),),
        ((b"connection", b"keep-alive, X-Y"), (b"x-y", b"1")),
        ((b"upgrade", b"h2c"),),
    ]
    for version in range(3):
        host = ((b"host", b"example.com"),) if version == 0 else ()
        for limits in range(len(LIMITS)):
            yield bytes((version, limits)) + encode(*GET, *host)
            yield bytes((version, limits)) + encode(*GET, *host, (b"x_y", b"1"), (b"x-y", b"2"))
        for fields in others:
            yield bytes((version, 0)) + encode(*GET, *host, *fields)
    for target in (
        b"*", b"/a/b?c=d&e", b"/%61%2e%2E/x", b"/a/../b", b"/a/%2e%2e", b"/%5c", b"/%2Fa", b"//a",
        b"/a;b=c", b"/a%00", b"/a#b", b"/?#", b"",
    ):  # fmt: skip
        yield b"\2\0" + encode((b":method", b"OPTIONS"), scheme, authority, (b":path", target))
    for name in (
        b"[::1]:443",
        b"[::ffff:1.2.3.4]",
        b"a.b.:65535",
        b"a,b",
        b"u@h",
        b"",
        b"[::1%25a]",
    ):
        yield b"\1\0" + encode(method, scheme, (b":authority", name), path)
    yield b"\1\0" + encode((b":method", b"CONNECT"), authority)
    yield b"\1\0" + encode(*GET, (b":protocol", b"websocket"))


def run(data: bytes) -> None:
    """Judge a head in both builds, and hand it to other parsers if it passes."""
    version = kernel.HTTP_1 + (data[0] if data else 0) % 3
    chosen = (data[1] if len(data) > 1 else 0) % len(LIMITS)
    fields = decode(data[2:])
    ours = kernel.validate_request(fields, version, KERNEL_LIMITS[chosen])
    theirs = twin.validate_request(fields, version, TWIN_LIMITS[chosen])
    assert values(ours, REQUEST) == values(theirs, REQUEST)
    if isinstance(ours, Reason):
        assert 400 <= ours.status < 600
        return
    check_canonical(ours)
    if version != kernel.HTTP_1:
        ask_h2(fields)
    head = kernel_fields.forward_request(ours, POLICY, b"192.0.2.1", b"https", b"http", b"b:80")
    packed = kernel_fields.pack_http1_request(head, chunked=False)
    ask_h11(ours, packed)
    if ours.method in METHODS_OF_LLHTTP:
        ask_llhttp(ours, packed)


def check_canonical(request: kernel.Request) -> None:
    """See that what passes is what routing and backends may rely on."""
    path = request.path
    assert path == b"*" or path.startswith(b"/")
    assert not {b".", b".."} & set(path.lower().replace(b"%2f", b"/").split(b"/"))
    assert b"\\" not in path and b"#" not in path + (request.query or b"")
    assert request.host == request.host.lower()
    assert b"@" not in request.authority
    assert -1 <= request.port <= 65_535
    assert all(name == name.lower() for name, _ in request.fields)


def ask_h2(fields: list[Field]) -> None:
    """See that the HTTP/2 library has nothing against a head that passed."""
    try:
        list(validate_headers(fields, AS_REQUEST))
    except ProtocolError as error:
        # It compares the two byte by byte, and we as what they name.
        if "authority" not in str(error).lower():
            raise AssertionError(f"h2 refuses what we let pass: {error}") from error


def target_of(request: kernel.Request) -> bytes:
    return request.path if request.query is None else request.path + b"?" + request.query


def ask_h11(request: kernel.Request, packed: bytes) -> None:
    """See that h11 reads the request that we judged."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(packed)
    event = connection.next_event()
    assert isinstance(event, h11.Request), event
    assert (event.method, event.target) == (request.method, target_of(request))
    hosts = [value for name, value in event.headers if name == b"host"]
    assert hosts == [request.authority]
    lengths = [int(value) for name, value in event.headers if name == b"content-length"]
    assert lengths == ([request.content_length] if request.content_length >= 0 else [])
    assert not connection.trailing_data[0]


class Llhttp:
    """What llhttp says of a request."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[Field] = []
        self.heads = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.heads += 1


def ask_llhttp(request: kernel.Request, packed: bytes) -> None:
    """See that llhttp reads the request that we judged."""
    found = Llhttp()
    parser = HttpRequestParser(found)
    parser.feed_data(packed)
    assert found.heads == 1
    assert parser.get_method() == request.method
    assert found.url == target_of(request)
    assert [value for name, value in found.fields if name == b"host"] == [request.authority]
