"""What backends are told of a request's way here, when the client has told its own story.

The first byte chooses the mode, the second what the authority becomes, the third the client's
address; the rest is fields of a request. Kernel against twin. And however the client's fields are
quoted, cut or repeated: what we state comes last, whole, and is read as ours.
"""

import re
from collections.abc import Iterator

from fuzz._heads import GET, Field, decode, encode
from spooky._core import fields as kernel
from spooky._core import validate
from spooky._core.pure import fields as twin
from spooky._core.pure import validate as pure_validate

MODES = ("overwrite", "append", "preserve")
HOST_MODES = ("pass_through", "rewrite", "upstream")
ADDRESSES = (b"192.0.2.1", b"2001:db8::1", b"::ffff:192.0.2.1", b"unknown", b"")

LIMITS, TWIN_LIMITS = validate.Limits(), pure_validate.Limits()

ELEMENT = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*")*', re.DOTALL)
"""An element of a list in which commas may be quoted (RFC 9110 section 5.6.1)."""


def seeds() -> Iterator[bytes]:
    """Yield stories of clients, in each mode."""
    stories: tuple[tuple[Field, ...], ...] = (
        (),
        ((b"forwarded", b"for=203.0.113.9;proto=http"), (b"x-forwarded-for", b"203.0.113.9")),
        ((b"forwarded", b'for="[2001:db8::2]:80"'), (b"forwarded", b'by="')),
        ((b"x-forwarded-for", b"a, b"), (b"x-forwarded-for", b""), (b"x-forwarded-port", b"1")),
        ((b"connection", b"x-forwarded-for, forwarded, cookie"), (b"cookie", b"a=b")),
        ((b"te", b"gzip, trailers"), (b"content-length", b"7"), (b"trailer", b"x")),
    )
    for mode in range(len(MODES)):
        for number, story in enumerate(stories):
            choices = bytes((mode, number % len(HOST_MODES), number % len(ADDRESSES)))
            yield choices + encode(*GET, (b"host", b"example.com"), *story)


def run(data: bytes) -> None:
    """Forward a request in both builds, and read what a backend would."""
    mode, host_mode, address, *rest = data.ljust(3, b"\0")
    fields = decode(bytes(rest))
    ours = validate.validate_request(fields, validate.HTTP_1, LIMITS)
    theirs = pure_validate.validate_request(fields, validate.HTTP_1, TWIN_LIMITS)
    if not isinstance(ours, validate.Request) or not isinstance(theirs, pure_validate.Request):
        return
    modes = MODES[mode % len(MODES)], HOST_MODES[host_mode % len(HOST_MODES)], b"rewritten"
    client = ADDRESSES[address % len(ADDRESSES)]
    way = client, b"https", b"http", b"backend:80"
    head = kernel.forward_request(ours, kernel.ForwardingPolicy(*modes), *way)
    assert head == twin.forward_request(theirs, twin.ForwardingPolicy(*modes), *way)
    for chunked in (False, True):
        packed = kernel.pack_http1_request(head, chunked)
        assert packed == twin.pack_http1_request(head, chunked)
    trailers = [field for field in fields if not field[0].startswith(b":")]
    assert kernel.forward_trailers(trailers) == twin.forward_trailers(trailers)
    if modes[0] != "preserve":
        check_story(head, client, ours.authority, alone=modes[0] == "overwrite")


def check_story(head: list[Field], client: bytes, authority: bytes, alone: bool) -> None:
    """See that our statement is there once, at the end, and by itself if it should be."""
    for name, ours in (
        (b"x-forwarded-for", client),
        (b"x-forwarded-host", authority),
        (b"x-forwarded-proto", b"https"),
    ):
        (value,) = (value for key, value in head if key == name)
        assert value == ours if alone else value.endswith(ours), name
    (value,) = (value for key, value in head if key == b"forwarded")
    elements = [element for element in ELEMENT.findall(value) if element.strip()]
    last = elements[-1].strip()
    named = b"[%b]" % client if b":" in client else client
    assert last.startswith((b'for="%b";host=' % named, b"for=%b;host=" % named)), value
    assert last.endswith(b";proto=https"), value
    assert not alone or len(elements) == 1
