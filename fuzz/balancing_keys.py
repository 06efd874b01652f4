"""Cookies, parameters and tokens as balancers look for them, against other ways to find them.

The first byte chooses the source; the rest is the query, then fields. Kernel and twin hash alike.
"""

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl

from fuzz._heads import FIELD_END, Field, decode, encode
from spooky._core.balance import hash_key
from spooky._core.pure.hashes import hash_key as twin_hash_key
from spooky._core.validate import HTTP_3, Limits, Request, validate_request
from spooky.balancing.key import KeySource

SOURCES = (
    "cookie:sid", "query:id", "bearer_token", "header:x-y", "path", "authority", "method", "cid",
    "client_ip",
)  # fmt: skip
PARSED = [KeySource.parse(source) for source in SOURCES]
LIMITS = Limits()

COOKIE = re.compile(rb"(?:^|;)[ \t]*sid[ \t]*=([^;]*)")


def seeds() -> Iterator[bytes]:
    """Yield requests that have each source, and some that nearly do."""
    for number in range(len(SOURCES)):
        for query in (b"", b"id=1&x=2", b"x&id=%61+b&id=c", b"%69d=%", b"&=&id"):
            yield (
                bytes((number,))
                + query
                + FIELD_END
                + encode(
                    (b"cookie", b"a=b; sid=abc"), (b"authorization", b"Bearer x"), (b"x-y", b"z")
                )
            )
    for cookie in (b"sid", b"sid=", b"xsid=1", b";;sid=2", b"SID=1", b'sid="a;b"', b"sid=a=b"):
        yield b"\0" + FIELD_END + encode((b"cookie", b"a=1"), (b"cookie", cookie))
    for token in (b"bearer ", b"Bearer", b"Bearer  x y", b"Basic x", b"BEARER x"):
        yield b"\2" + FIELD_END + encode((b"authorization", token))


def run(data: bytes) -> None:
    """Take the key of a request."""
    query, _, encoded = data[1:].partition(FIELD_END)
    regular = decode(encoded)
    head = [
        (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"example.com"),
        (b":path", b"/?" + query), *regular,
    ]  # fmt: skip
    request = validate_request(head, HTTP_3, LIMITS)
    if not isinstance(request, Request):
        return
    chosen = (data[0] if data else 0) % len(SOURCES)
    key = PARSED[chosen].extract(request, b"192.0.2.1", b"")
    assert key
    assert hash_key(key) == twin_hash_key(key)
    expected = (in_cookies, in_query)[chosen](request) if chosen < 2 else key
    assert key == (expected or b"example.com")


def in_cookies(request: Request) -> bytes:
    """Find the cookie with an expression."""
    cookies: list[Field] = [field for field in request.fields if field[0] == b"cookie"]
    found = COOKIE.search(b";".join(value for _, value in cookies))
    return found[1].strip(b" \t") if found else b""


def in_query(request: Request) -> bytes:
    """Find the parameter with the standard library."""
    text = (request.query or b"").decode("latin-1")
    for name, value in parse_qsl(text, keep_blank_values=True, encoding="latin-1"):
        if name == "id":
            return value.encode("latin-1")
    return b""
