"""Finding heads in the byte stream, and start lines: RFC 9112 sections 2.2, 3 and 4."""

import pytest

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.protocol.h1.engine import field_parser
from spooky.protocol.h1.framing import FramingError
from spooky.protocol.h1.head import SectionReader, parse_request_head, parse_response_head
from spooky.protocol.h1.limits import DEFAULT_LIMITS, Limits
from spooky.protocol.stream import Field
from tests.protocol.h1.peers import splits

HEAD = b"GET / HTTP/1.1\r\nhost: example.com\r\n\r\n"


def request(section: bytes, limits: Limits = DEFAULT_LIMITS) -> list[Field]:
    return parse_request_head(section, field_parser(), b"https", limits).fields


def feed_in_steps(reader: SectionReader, data: bytes, step: int) -> bytes | None:
    section = None
    for start in range(0, len(data), step):
        section, _ = reader.feed(data[start : start + step], 0)
    return section


# --- where a section ends ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_head_ends_at_its_blank_line_however_it_arrives(seed: int) -> None:
    reader = SectionReader(1000)
    found: list[bytes] = []
    rest = b""
    for piece in splits(HEAD + b"body", seed):
        position = 0
        if not found:
            section, position = reader.feed(piece, 0)
            if section is not None:
                found.append(section)
        if found:
            rest += piece[position:]
    assert found == [HEAD]
    assert rest == b"body"


@pytest.mark.parametrize("seed", range(10))
def test_one_empty_line_before_a_request_is_skipped(seed: int) -> None:
    """RFC 9112 section 2.2: some clients end a body with one too many."""
    reader = SectionReader(1000, skip_blank_line=True)
    found = []
    for piece in splits(b"\r\n" + HEAD, seed):
        section, _ = reader.feed(piece, 0)
        found.append(section)
    assert [section for section in found if section] == [HEAD]


def test_a_skipped_line_is_not_the_beginning_of_a_head() -> None:
    reader = SectionReader(1000, skip_blank_line=True)
    reader.feed(b"\r\n", 0)
    assert not reader.begun
    reader.feed(b"G", 0)
    assert reader.begun


def test_empty_lines_are_not_skipped_without_end() -> None:
    reader = SectionReader(1000, skip_blank_line=True)
    section, _ = reader.feed(b"\r\n\r\n" + HEAD, 0)
    assert section is not None
    with pytest.raises(FramingError):
        request(section)


def test_a_bare_line_feed_ends_the_wait_for_the_end() -> None:
    """RFC 9112 section 2.2: refused at once, not when the head timeout strikes."""
    section, _ = SectionReader(1000).feed(b"GET / HTTP/1.1\nhost: a\n\n", 0)
    assert section is not None
    with pytest.raises(FramingError):
        request(section)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("complete", [True, False])
def test_a_head_may_have_as_many_bytes_as_the_limit_says(step: int, complete: bool) -> None:
    head = b"GET / HTTP/1.1\r\na: " + b"x" * 77 + (b"\r\n\r\n" if complete else b"xxxx")
    assert len(head) == 100

    def feed(limit: int) -> bytes | None:
        return feed_in_steps(SectionReader(limit, skip_blank_line=True), b"\r\n" + head, step)

    if complete:
        assert feed(100) == head
    with pytest.raises(FramingError) as error:
        feed(99 if complete else 100)
    assert error.value.reason is reasons.FIELDS_TOO_LARGE


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("tail", [b" HTTP/1.1\r\n\r\n", b"x" * 1000], ids=["complete", "endless"])
def test_a_request_line_that_is_too_long_is_414(step: int, tail: bytes) -> None:
    """RFC 9112 section 3."""
    data = b"GET /" + b"x" * 100 + tail
    reader = SectionReader(500, 100)
    with pytest.raises(FramingError) as error:
        feed_in_steps(reader, data, step)
    assert error.value.reason is reasons.TARGET_TOO_LONG
    assert error.value.reason.status == 414


def test_a_head_fed_byte_by_byte_is_searched_once() -> None:
    """Attack 10: the work is linear in the bytes; no search begins at the beginning again."""

    size = 200_000
    reader = SectionReader(size + 10)
    reader.feed(b"GET /", 0)
    searched = []
    for _ in range(1000):
        reader.feed(b"x", 0)
        searched.append(len(reader._buffer) - reader._searched)
    assert max(searched) <= 2


# --- the request line -------------------------------------------------------------------------

FIELDS = [(b"host", b"h")]

TARGETS: list[tuple[bytes, bytes, list[Field]]] = [
    # RFC 9112 section 3.2.1: origin-form, passed as it is.
    (b"GET", b"/a//b/../%2e?q=1&r", [(b":scheme", b"https"), (b":path", b"/a//b/../%2e?q=1&r")]),
    (b"GET", b"/\xc3\xa9", [(b":scheme", b"https"), (b":path", b"/\xc3\xa9")]),
    (b"GET", b"/http://x/", [(b":scheme", b"https"), (b":path", b"/http://x/")]),
    # Section 3.2.2: absolute-form.
    (b"GET", b"http://b:8/c?d",
     [(b":scheme", b"http"), (b":authority", b"b:8"), (b":path", b"/c?d")]),
    (b"GET", b"HTTPS://b", [(b":scheme", b"https"), (b":authority", b"b"), (b":path", b"/")]),
    (b"GET", b"https://b?x", [(b":scheme", b"https"), (b":authority", b"b"), (b":path", b"/?x")]),
    (b"GET", b"ftp://u@b/", [(b":scheme", b"ftp"), (b":authority", b"u@b"), (b":path", b"/")]),
    # Section 3.2.4: asterisk-form, and what an absolute one stands for.
    (b"OPTIONS", b"*", [(b":scheme", b"https"), (b":path", b"*")]),
    (b"OPTIONS", b"http://b", [(b":scheme", b"http"), (b":authority", b"b"), (b":path", b"*")]),
    # Section 3.2.3: authority-form.
    (b"CONNECT", b"b:443", [(b":authority", b"b:443")]),
    # What is none of these is for the validator to refuse.
    (b"GET", b"b:443", [(b":scheme", b"https"), (b":path", b"b:443")]),
    (b"GET", b"a/b", [(b":scheme", b"https"), (b":path", b"a/b")]),
    (b"M-SEARCH", b"/", [(b":scheme", b"https"), (b":path", b"/")]),
    # RFC 9110 section 9.1: methods are an open set.
    (b"brew", b"/", [(b":scheme", b"https"), (b":path", b"/")]),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target", "pseudo"), TARGETS)
def test_a_request_line_becomes_pseudo_headers(
    method: bytes, target: bytes, pseudo: list[Field]
) -> None:
    section = b"%b %b HTTP/1.1\r\nHost: h\r\n\r\n" % (method, target)
    assert request(section) == [(b":method", method), *pseudo, *FIELDS]


BAD_REQUEST_LINES: list[tuple[bytes, Reason]] = [
    (b"GET  / HTTP/1.1", reasons.BAD_FRAMING),
    (b"GET / HTTP/1.1 ", reasons.BAD_FRAMING),
    (b" GET / HTTP/1.1", reasons.BAD_FRAMING),
    (b"GET\t/ HTTP/1.1", reasons.BAD_FRAMING),
    (b"GET /a b HTTP/1.1", reasons.BAD_FRAMING),
    (b"GET /a\x00b HTTP/1.1", reasons.BAD_FRAMING),
    (b"GET /a\rb HTTP/1.1", reasons.BAD_FRAMING),
    (b"GET / HTTP/1.1\r", reasons.BAD_FRAMING),
    (b"G(T / HTTP/1.1", reasons.BAD_FRAMING),
    (b"GET / http/1.1", reasons.BAD_FRAMING),
    (b"GET / HTTP/1", reasons.BAD_FRAMING),
    (b"GET / HTTP/1.10", reasons.BAD_FRAMING),
    (b"GET / HTTP/01.1", reasons.BAD_FRAMING),
    # HTTP/0.9.
    (b"GET /", reasons.BAD_FRAMING),
    (b"", reasons.BAD_FRAMING),
    (b"\x16\x03\x01\x02\x00\x01", reasons.BAD_FRAMING),
    (b"GET / HTTP/1.2", reasons.VERSION_NOT_SUPPORTED),
    (b"GET / HTTP/0.9", reasons.VERSION_NOT_SUPPORTED),
    (b"GET / HTTP/2.0", reasons.VERSION_NOT_SUPPORTED),
    # The preface of HTTP/2 (RFC 9113 section 3.4).
    (b"PRI * HTTP/2.0", reasons.VERSION_NOT_SUPPORTED),
]


@pytest.mark.parametrize(("line", "reason"), BAD_REQUEST_LINES)
def test_a_bad_request_line_is_refused(line: bytes, reason: Reason) -> None:
    """RFC 9112 section 3, attack 30."""
    with pytest.raises(FramingError) as error:
        request(line + b"\r\nhost: h\r\n\r\n")
    assert error.value.reason is reason


def test_a_bare_line_feed_does_not_end_a_request_line() -> None:
    with pytest.raises(FramingError):
        request(b"GET / HTTP/1.1\nhost: h\r\n\r\n")


def test_fields_are_counted() -> None:
    section = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4 + b"\r\n"
    assert len(request(section, Limits(max_headers_count=4))) == 7
    with pytest.raises(FramingError) as error:
        request(section, Limits(max_headers_count=3))
    assert error.value.reason is reasons.TOO_MANY_FIELDS


# --- the status line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.0 200 \xc3\xa9\tx",
     b"HTTP/1.1 200 Fine, thank you"],
)  # fmt: skip
def test_a_status_line_becomes_a_pseudo_header(line: bytes) -> None:
    """RFC 9112 section 4; the reason phrase says nothing and may be missing."""
    head = parse_response_head(line + b"\r\nA: b\r\n\r\n", field_parser(), DEFAULT_LIMITS)
    assert head.fields == [(b":status", b"200"), (b"a", b"b")]
    assert (head.status, head.minor_version) == (200, int(line[7:8]))


@pytest.mark.parametrize(
    "line",
    [b"HTTP/1.1  200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 099 X",
     b"HTTP/1.1 +20 OK", b"http/1.1 200 OK", b"HTTP/1.2 200 OK", b"HTTP/2.0 200 OK", b"ICY 200 OK",
     b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\rK", b"HTTP/1.1\t200 OK", b" HTTP/1.1 200 OK", b""],
)  # fmt: skip
def test_a_bad_status_line_is_refused(line: bytes) -> None:
    """RFC 9112 section 4."""
    with pytest.raises(FramingError):
        parse_response_head(line + b"\r\na: b\r\n\r\n", field_parser(), DEFAULT_LIMITS)
