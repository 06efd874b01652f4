"""The path policy, case by case: what is canonical, what passes as it is, what is refused."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.validate import HTTP_3, Limits, Request, validate_request
from tests.core.strategies_head import PATHS, get

PRINTABLE = bytes(range(0x21, 0x7F))


def check(path: bytes, method: bytes = b"GET") -> Request | Reason:
    """Return what the validator makes of a request for this path."""
    return validate_request(get(method=method, path=path), HTTP_3, Limits())


def canonical(path: bytes) -> tuple[bytes, bytes | None]:
    """Return the canonical path and the query; the path is valid."""
    request = check(path)
    assert isinstance(request, Request), request
    return request.path, request.query


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/a/b/c.html",
        b"/a/",
        b"//",
        b"//a///b",
        b"/a%2Fb",
        b"/a%2fb",
        b"/%2F",
        b"/a%20b",
        b"/%C3%A4%c3%a4",
        b"/%E6%97%A5%E6%9C%AC",
        b"/%25",
        b"/%252e%252e/",
        b"/%7F%0A",
        b"/a;v=1/b,c/d=e@f:g!$&'()*+",
        b"/.a",
        b"/a.",
        b"/...",
        b"/..a",
        b"/a..",
        b"/.well-known/acme-challenge/x",
    ],
)
def test_these_paths_pass_unchanged(path: bytes) -> None:
    """``//`` matches as it is, ``%2F`` is no separator, UTF-8 and spaces stay escaped."""
    assert canonical(path) == (path, None)


@pytest.mark.parametrize(
    ("path", "decoded"),
    [
        (b"/%61", b"/a"),
        (b"/%7Euser", b"/~user"),
        (b"/%7euser", b"/~user"),
        (b"/%41%5A%30%39%2D%5F%2Ex", b"/AZ09-_.x"),
        (b"/a%2Eb/%C3%A4/%62", b"/a.b/%C3%A4/b"),
        (b"/%2F%61%2f", b"/%2Fa%2f"),
        (b"/%61?%61", b"/a"),
    ],
)
def test_escapes_of_unreserved_bytes_are_decoded(path: bytes, decoded: bytes) -> None:
    """RFC 3986 section 6.2.2.2; the rest of the path keeps its bytes and their case."""
    assert canonical(path)[0] == decoded


def test_exactly_the_unreserved_bytes_are_decoded() -> None:
    """RFC 3986 section 2.3, byte by byte."""
    unreserved = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
    for byte in range(1, 256):
        if byte == 0x5C:
            continue
        for escape in (b"%%%02X" % byte, b"%%%02x" % byte):
            path, _ = canonical(b"/x" + escape + b"y")
            assert path == b"/x" + (bytes([byte]) if byte in unreserved else escape) + b"y"


@pytest.mark.parametrize(
    "path",
    [
        b"/.",
        b"/..",
        b"/./",
        b"/../",
        b"/a/./b",
        b"/a/../b",
        b"/a/..",
        b"/a/.",
        b"//..",
        b"/%2e",
        b"/%2E%2E",
        b"/.%2E",
        b"/%2e.",
        b"/a/%2E%2e/b",
        b"/a/%2e",
        b"/..?x",
        b"/a%2F..",
        b"/a%2f..%2fb",
        b"/..%2Fetc",
        b"/%2e%2e%2fetc",
        b"/a%2F.",
    ],
)
def test_dot_segments_are_refused_however_written(path: bytes) -> None:
    """Between ``%2F`` too: a backend that decodes it would walk up."""
    assert check(path) is reasons.PATH_DOT_SEGMENT


@pytest.mark.parametrize("path", [b"/\\", b"/a\\b", b"/%5C", b"/%5c..", b"/a/..\\b", b"/%5C%00"])
def test_backslashes_are_refused_escaped_or_not(path: bytes) -> None:
    assert check(path) is reasons.PATH_BACKSLASH


@pytest.mark.parametrize(
    "path", [b"/%", b"/%4", b"/%zz", b"/%4g", b"/%g4", b"/a%", b"/%%41", b"/% 1", b"/%+1", b"/%?00"]
)
def test_broken_escapes_are_refused(path: bytes) -> None:
    assert check(path) is reasons.PATH_BAD_ESCAPE


@pytest.mark.parametrize("path", [b"", b"a", b"a/b", b"?x", b"%2Fa", b"http://example.com/", b" /"])
def test_a_path_starts_with_a_slash(path: bytes) -> None:
    """Attack 30; RFC 9114 section 4.3.1."""
    assert check(path) is reasons.BAD_PATH


@pytest.mark.parametrize("path", [b"/%00", b"/a%00.html", b"/#", b"/a#b", b"/a b", b"/a\r\nb"])
def test_nul_fragments_spaces_and_line_ends_are_refused(path: bytes) -> None:
    assert check(path) is reasons.BAD_PATH


def test_exactly_printable_ascii_passes_unescaped() -> None:
    """A request line ends at a space, and backends disagree about raw bytes from 0x80."""
    for byte in range(256):
        result = check(b"/x" + bytes([byte]) + b"41")
        if byte == 0x5C:
            assert result is reasons.PATH_BACKSLASH
        elif byte in PRINTABLE and byte not in b"#":
            assert isinstance(result, Request), byte
        else:
            assert result is reasons.BAD_PATH, byte


def test_exactly_printable_ascii_passes_in_a_query() -> None:
    """Escapes are not looked at, and browsers send a backslash as it is."""
    for byte in range(256):
        result = check(b"/?x" + bytes([byte]) + b"y")
        if byte in PRINTABLE and byte not in b"#":
            assert isinstance(result, Request), byte
            assert result.query == b"x" + bytes([byte]) + b"y"
        else:
            assert result is reasons.BAD_PATH, byte


@pytest.mark.parametrize("query", [b"", b"?", b"a=%", b"%zz%00%5C", b"/../", b"a?b", b"%61"])
def test_a_query_is_not_decoded(query: bytes) -> None:
    assert canonical(b"/p?" + query) == (b"/p", query)


def test_the_leftmost_offence_gives_the_reason() -> None:
    assert check(b"/%zz\\ ") is reasons.PATH_BAD_ESCAPE
    assert check(b"/\\%zz ") is reasons.PATH_BACKSLASH
    assert check(b"/ \\%zz") is reasons.BAD_PATH
    assert check(b"/../%zz") is reasons.PATH_BAD_ESCAPE
    assert check(b"/..?\xff") is reasons.PATH_DOT_SEGMENT


def test_an_asterisk_is_for_options_alone() -> None:
    """RFC 9110 section 7.1."""
    request = check(b"*", b"OPTIONS")
    assert isinstance(request, Request)
    assert (request.path, request.query) == (b"*", None)
    for method, path in (
        (b"GET", b"*"),
        (b"OPTIONS", b"*?"),
        (b"OPTIONS", b"**"),
    ):
        assert check(path, method) is reasons.BAD_PATH
    assert isinstance(check(b"/", b"OPTIONS"), Request)


@given(PATHS)
def test_a_canonical_path_means_the_same_and_stays_as_it_is(target: bytes) -> None:
    request = check(target)
    if not isinstance(request, Request):
        return
    path, _, _ = target.partition(b"?")
    assert unquote_to_bytes(request.path) == unquote_to_bytes(path)
    assert canonical(request.path) == (request.path, None)
    assert not {b".", b".."} & set(request.path.split(b"/"))
    assert request.path.startswith(b"/")
    assert not set(request.path) - set(PRINTABLE)
