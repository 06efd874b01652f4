"""Authority and Host: what is one, what routing sees of it, and that there is only one of them."""

import pytest

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.validate import HTTP_1, HTTP_2, HTTP_3, Limits, Request, validate_request
from tests.core.strategies_head import HTTP_1_GET, Field, get, without

EVERY_VERSION = pytest.mark.parametrize("version", [HTTP_1, HTTP_2, HTTP_3])


def check(fields: list[Field], version: int = HTTP_3, *, enforce: bool = True) -> Request | Reason:
    """Return what the validator makes of a head."""
    return validate_request(fields, version, Limits(enforce_authority_host_match=enforce))


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        (b"example.com", b"example.com", -1),
        (b"EXAMPLE.Com", b"example.com", -1),
        (b"example.com.", b"example.com", -1),
        (b"example.com.:80", b"example.com", 80),
        (b"example.com:0", b"example.com", 0),
        (b"example.com:00443", b"example.com", 443),
        (b"example.com:65535", b"example.com", 65535),
        (b"a", b"a", -1),
        (b"_x.a-b~c!$&'()*+;=", b"_x.a-b~c!$&'()*+;=", -1),
        (b"192.0.2.1:8080", b"192.0.2.1", 8080),
        (b"[::1]", b"[::1]", -1),
        (b"[2001:DB8::A]:443", b"[2001:db8::a]", 443),
        (b"[::ffff:192.0.2.1]", b"[::ffff:192.0.2.1]", -1),
        (b"[1:2:3:4:5:6:7:8888]:1", b"[1:2:3:4:5:6:7:8888]", 1),
        (b"[1111:2222:3333:4444:5555:6666:192.168.128.255]",) * 2 + (-1,),
    ],
)  # fmt: skip
def test_host_and_port_are_taken_apart(authority: bytes, host: bytes, port: int) -> None:
    """RFC 3986 section 3.2; routing sees lowercase without the trailing dot."""
    request = check(get(authority=authority))
    assert isinstance(request, Request), request
    assert (request.authority, request.host, request.port) == (authority, host, port)


BAD_AUTHORITIES = [
    b"",
    b":80",
    b"example.com:",
    b"example.com:65536",
    b"example.com:000443",
    b"example.com:99999999999999999999",
    b"example.com:-1",
    b"example.com:+1",
    b"example.com:8o",
    b"example.com:80:80",
    b"user@example.com",
    b"user:secret@example.com",
    b"@",
    b"a,b",
    b"example.com,example.net",
    b"example.com, example.net",
    b"exa mple.com",
    b"example.com\t",
    b" example.com",
    b"example.com/",
    b"example.com/path",
    b"example.com?x",
    b"example.com#x",
    b"http://example.com",
    b"example.com\\x",
    b"ex%61mple.com",
    b"ex\xc3\xa4mple.com",
    b"example\0.com",
    b"example.com\r\nx: y",
    b'"example.com"',
    b"<example.com>",
    b".",
    b"..",
    b".example.com",
    b"example..com",
    b"example.com..",
    b"[",
    b"[]",
    b"[]:80",
    b"[::1",
    b"::1",
    b"::1]",
    b"[::1]x",
    b"[::1]:",
    b"[::1].",
    b"[:::1]",
    b"[1:2:3]",
    b"[12345::1]",
    b"[::1%25eth0]",
    b"[::1%eth0]",
    b"[v1.fe80]",
    b"[192.0.2.1]",
    b"[::256.0.0.1]",
    b"[::01.2.3.4]",
    b"[" + b"0" * 60 + b"]",
    b"[" + b"0:" * 5000 + b"]",
    b"[example.com]",
]


@pytest.mark.parametrize("authority", BAD_AUTHORITIES, ids=lambda authority: repr(authority[:40]))
def test_anything_else_is_no_authority(authority: bytes) -> None:
    """Attack 31: userinfo, commas and whitespace; RFC 3986 section 3.2.2."""
    assert check(get(authority=authority)) is reasons.BAD_AUTHORITY


@pytest.mark.parametrize("enforce", [True, False])
def test_a_malformed_host_field_is_refused_beside_an_authority(enforce: bool) -> None:
    for value in (b"", b"a,b", b"user@example.com", b"example.com:"):
        assert check(get((b"host", value)), enforce=enforce) is reasons.BAD_AUTHORITY


@pytest.mark.parametrize("version", [HTTP_2, HTTP_3])
def test_host_serves_as_authority(version: int) -> None:
    """RFC 9114 section 4.3.1: one of the two is there."""
    request = check([*without(b":authority"), (b"host", b"Example.com:81")], version)
    assert isinstance(request, Request)
    assert (request.authority, request.host, request.port) == (
        b"Example.com:81", b"example.com", 81,
    )  # fmt: skip
    assert request.fields == []


@EVERY_VERSION
def test_one_of_them_is_required(version: int) -> None:
    assert check(without(b":authority"), version) is reasons.BAD_AUTHORITY


def test_http_1_requires_host_even_with_an_absolute_target() -> None:
    """RFC 9112 section 3.2."""
    assert check(get(), HTTP_1) is reasons.BAD_AUTHORITY
    assert isinstance(check(get((b"host", b"example.com")), HTTP_1), Request)
    assert isinstance(check(list(HTTP_1_GET), HTTP_1), Request)


@EVERY_VERSION
def test_two_host_fields_are_refused(version: int) -> None:
    """Attack 31, be they the same or not."""
    for second in (b"example.com", b"example.net"):
        fields = get((b"host", b"example.com"), (b"host", second))
        assert check(fields, version) is reasons.DUPLICATE_HOST
        assert check(fields, version, enforce=False) is reasons.DUPLICATE_HOST


@pytest.mark.parametrize(
    ("authority", "host", "agree"),
    [
        (b"example.com", b"example.com", True),
        (b"example.com", b"EXAMPLE.com.", True),
        (b"example.com:443", b"example.com", True),
        (b"example.com", b"example.com:8443", True),
        (b"example.com:443", b"example.com:0443", True),
        (b"example.com:443", b"example.com:80", False),
        (b"example.com", b"example.net", False),
        (b"example.com", b"example.co", False),
        (b"example.com", b"www.example.com", False),
        (b"[::1]", b"[::1]:443", True),
        (b"[::1]", b"[::2]", False),
    ],
)
@EVERY_VERSION
def test_host_and_authority_agree(authority: bytes, host: bytes, agree: bool, version: int) -> None:
    """Attack 31; hosts ignoring case and the trailing dot, ports if both name one."""
    fields = get((b"host", host), authority=authority)
    strict, lax = check(fields, version), check(fields, version, enforce=False)
    assert isinstance(lax, Request)
    assert lax.authority == authority
    assert isinstance(strict, Request) == agree
    if not agree:
        assert strict is reasons.AUTHORITY_MISMATCH
