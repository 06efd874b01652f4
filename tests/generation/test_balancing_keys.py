"""What hashing balancers hash: each source, and what stands in for one that is not there."""

import pytest

from spooky._core.validate import HTTP_3, Limits, Request, validate_request
from spooky.balancing.key import KeySource
from spooky.config.schema import BALANCING_KEYS, BALANCING_NAMED_KEYS
from tests.core.strategies_head import Field, get

ADDRESS, CONNECTION = b"192.0.2.1", b"conn-id!"


def key(
    source: str, *fields: Field, path: bytes = b"/p?q=1", connection: bytes = CONNECTION
) -> bytes:
    """Return the key that a request has."""
    request = validate_request(get(*fields, path=path), HTTP_3, Limits())
    assert isinstance(request, Request)
    return KeySource.parse(source).extract(request, ADDRESS, connection)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("path", b"/p"),
        ("authority", b"example.com"),
        ("method", b"GET"),
        ("cid", CONNECTION),
        ("client_ip", ADDRESS),
        ("bearer_token", b"s3cret"),
        ("header:x-user", b"alice"),
        ("header:host", b"example.com"),
        ("cookie:sid", b"abc"),
        ("query:q", b"1"),
    ],
)
def test_every_source_is_taken(source: str, expected: bytes) -> None:
    fields = [
        (b"authorization", b"Bearer s3cret"),
        (b"x-user", b"alice"),
        (b"x-user", b"bob"),
        (b"cookie", b"sid2=x; sid=abc"),
    ]
    assert key(source, *fields) == expected


def test_every_source_of_the_schema_is_one() -> None:
    for source in (*BALANCING_KEYS, *(f"{kind}:name" for kind in BALANCING_NAMED_KEYS)):
        assert key(source) != b""


@pytest.mark.parametrize(
    "source", ["bearer_token", "header:x-user", "cookie:sid", "query:absent", "cid"]
)
def test_what_a_request_lacks_falls_back_to_its_authority(source: str) -> None:
    fields = [(b"authorization", b"Basic x"), (b"x-user", b""), (b"cookie", b"sid=; SID=x")]
    assert key(source, *fields, connection=b"") == b"example.com"


def test_another_source_comes_before_the_authority() -> None:
    request = validate_request(get(), HTTP_3, Limits())
    assert isinstance(request, Request)
    source = KeySource.parse("header:x-user", "cid")
    assert source.extract(request, ADDRESS, CONNECTION) == CONNECTION


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        ([b"sid=a=b"], b"a=b"),
        ([b"x=1;sid=2 ;y=3"], b"2"),
        ([b"x=1", b"sid=3"], b"3"),
        ([b"sid=4; sid=5"], b"4"),
        ([b'sid="q"'], b'"q"'),
        ([b"xsid=1; side=2; Sid=3"], b"example.com"),
        ([b"sid"], b"example.com"),
        ([b"sid; sid=7"], b"7"),
        ([b";;=;sid=6;"], b"6"),
    ],
)
def test_a_cookie_is_found_by_its_whole_name(cookies: list[bytes], expected: bytes) -> None:
    assert key("cookie:sid", *((b"cookie", value) for value in cookies)) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"a=1&b=2", b"1"),
        (b"b=2&a=%61+b", b"a b"),
        (b"%61=3", b"3"),
        (b"aa=1&A=2", b"example.com"),
        (b"a", b"example.com"),
        (b"a=%zz&a=2", b"%zz"),
        (b"&&a=4=5&", b"4=5"),
    ],
)
def test_a_parameter_is_found_however_it_is_spelt(query: bytes, expected: bytes) -> None:
    assert key("query:a", path=b"/?" + query) == expected
