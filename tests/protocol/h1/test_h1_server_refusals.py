"""Requests that break the rules of framing: RFC 9112, attacks 27 to 30, 33 and 35.

Each is answered once, delivered never or cut with a reset, and nothing behind it is looked at.
"""

import pytest

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.protocol.h1.limits import Engine
from tests.protocol.h1.peers import ENGINES, Server, response_head, splits

HOST = b"Host: h\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

BAD_HEADS: dict[str, tuple[bytes, Reason]] = {
    # RFC 9112 section 6.3 item 3, section 11.2: request smuggling (attack 29).
    "CL.TE": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n", reasons.BAD_FRAMING),
    "TE.CL": (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
        b"0\r\n\r\n", reasons.BAD_FRAMING),
    "CL.TE, obscured by a space": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding : chunked\r\n\r\n"
        b"0\r\n\r\n", reasons.BAD_FRAMING),
    "TE.TE": (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
        b"Transfer-Encoding: cow\r\n\r\n0\r\n\r\n", reasons.BAD_FRAMING),
    "TE obscured by a vertical tab": (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        reasons.BAD_FRAMING),
    "TE folded": (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        reasons.BAD_FRAMING),
    "TE in a bare LF": (
        b"POST / HTTP/1.1\r\nHost: h\r\nX: x\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        reasons.BAD_FRAMING),
    "TE behind a bare CR": (
        b"POST / HTTP/1.1\r\nHost: h\r\nX: x\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        reasons.BAD_FRAMING),
    # RFC 9112 section 6.1.
    "TE gzip, chunked": (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        reasons.BAD_FRAMING),
    "TE chunked, gzip": (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        reasons.BAD_FRAMING),
    "TE identity": (
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", reasons.BAD_FRAMING),
    "TE in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", reasons.BAD_FRAMING),
    # RFC 9110 section 8.6, RFC 9112 section 6.3 item 5 (attack 28).
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        reasons.BAD_FRAMING),
    "list of lengths": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4, 5\r\n\r\nabcde", reasons.BAD_FRAMING),
    "signed length": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +4\r\n\r\nabcd", reasons.BAD_FRAMING),
    "negative length": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -4\r\n\r\nabcd", reasons.BAD_FRAMING),
    "empty length": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\nabcd", reasons.BAD_FRAMING),
    "length beyond 64 bits": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551620\r\n\r\nabcd",
        reasons.BAD_FRAMING),
    # RFC 9112 sections 2.2, 5.1, 5.2 (attack 30).
    "bare LF throughout": (b"GET / HTTP/1.1\nHost: h\n\n", reasons.BAD_FRAMING),
    "bare LF behind the request line": (
        b"GET / HTTP/1.1\nHost: h\r\n\r\n", reasons.BAD_FRAMING),
    "bare LF before the blank line": (
        b"GET / HTTP/1.1\r\nHost: h\n\r\n", reasons.BAD_FRAMING),
    "bare LF for a blank line": (b"GET / HTTP/1.1\r\nHost: h\r\n\n", reasons.BAD_FRAMING),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", reasons.BAD_FRAMING),
    "obs-fold": (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", reasons.BAD_FRAMING),
    "space before the first field": (
        b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", reasons.BAD_FRAMING),
    "NUL": (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n", reasons.BAD_FRAMING),
    "no colon": (b"GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", reasons.BAD_FRAMING),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", reasons.BAD_FRAMING),
    "no request at all": (b"hello\r\n\r\n", reasons.BAD_FRAMING),
    # RFC 9112 section 2.3, RFC 9110 section 15.6.6.
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", reasons.VERSION_NOT_SUPPORTED),
    "HTTP/3.0": (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", reasons.VERSION_NOT_SUPPORTED),
    # RFC 9113 section 3.4.
    "HTTP/2 preface": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        reasons.VERSION_NOT_SUPPORTED),
    # RFC 6585 section 5.
    "too many fields": (
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", reasons.TOO_MANY_FIELDS),
    "head too large": (
        b"GET / HTTP/1.1\r\nX: " + b"x" * 3000 + b"\r\n\r\n", reasons.FIELDS_TOO_LARGE),
    "head too large and not at its end": (
        b"GET / HTTP/1.1\r\nX: " + b"x" * 3000, reasons.FIELDS_TOO_LARGE),
    # RFC 9112 section 3.
    "target too long": (
        b"GET /" + b"x" * 1000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", reasons.TARGET_TOO_LONG),
}  # fmt: skip

LIMITS = {"max_headers_count": 100, "max_headers_bytes": 2000, "max_request_line_bytes": 500}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("head", "reason"), BAD_HEADS.values(), ids=BAD_HEADS)
def test_a_bad_head_is_answered_and_nothing_is_delivered(
    engine: Engine, head: bytes, reason: Reason
) -> None:
    for seed in range(4):
        server = Server(engine=engine, **LIMITS)
        server.feed(*(splits(head + NEXT, seed) if seed else [head + NEXT]))
        assert server.requests == []
        assert server.session.closed
        assert server.session.close_reason is reason
        assert not server.session.want_read
        written, _, text = server.take().partition(b"\r\n\r\n")
        assert written.startswith(b"HTTP/1.1 %d " % reason.status)
        assert b"\r\nconnection: close" in written
        assert b"\r\ncontent-length: %d" % len(text) in written
        assert text.decode() == reason.text + "\n"


def test_a_head_too_large_is_refused_while_it_is_incomplete() -> None:
    """Attack 10: what is kept of a head is bounded."""
    server = Server(**LIMITS).feed(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(1980):
        server.feed(b"x")
    assert not server.session.closed
    server.feed(b"x")
    assert server.session.close_reason is reasons.FIELDS_TOO_LARGE


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bad_head_behind_a_good_request_waits_for_its_turn(engine: Engine) -> None:
    server = Server(engine=engine).feed(NEXT + b"GET / HTTP/1.1\r\nHost : h\r\n\r\n" + NEXT)
    assert not server.session.closed
    server.stream.send_head(response_head(b"200", (b"content-length", b"0")), True)
    written = server.take()
    assert written.index(b"200 OK") < written.index(b"400 Bad Request")
    assert server.session.closed
    assert len(server.requests) == 1


def test_answers_of_the_session_carry_the_fields_it_was_given() -> None:
    from spooky.protocol.h1.server import ServerSession

    session = ServerSession(
        lambda stream: pytest.fail("nothing is delivered"),
        lambda: None,
        answer_fields=((b"alt-svc", b'h3=":443"'),),
    )
    session.receive(b"nonsense\r\n\r\n", 0.0)
    assert b'\r\nalt-svc: h3=":443"\r\n' in session.transmit()


BAD_BODIES: dict[str, tuple[bytes, Reason]] = {
    # RFC 9112 section 7.1; test_h1_body.py has the whole table.
    "size not hexadecimal": (b"3\r\nabc\r\nxyz\r\n", reasons.BAD_FRAMING),
    "size with whitespace": (b"3\r\nabc\r\n3 \r\nabc\r\n0\r\n\r\n", reasons.BAD_FRAMING),
    "data longer than size": (b"3\r\nabcd\r\n0\r\n\r\n", reasons.BAD_FRAMING),
    "bare LF": (b"3\r\nabc\r\n0\r\n\n", reasons.BAD_FRAMING),
    "endless extension": (b"3\r\nabc\r\n3;" + b"x" * 1000, reasons.BAD_FRAMING),
    "trailer malformed": (b"3\r\nabc\r\n0\r\na : b\r\n\r\n", reasons.BAD_FRAMING),
    "trailer of framing": (b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n", reasons.BAD_FRAMING),
    "trailers too large": (b"3\r\nabc\r\n0\r\na: " + b"x" * 2000, reasons.FIELDS_TOO_LARGE),
    "trailers too many": (
        b"3\r\nabc\r\n0\r\n" + b"a: b\r\n" * 101 + b"\r\n", reasons.TOO_MANY_FIELDS),
}  # fmt: skip

CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("body", "reason"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_is_answered_and_its_stream_reset(
    engine: Engine, body: bytes, reason: Reason
) -> None:
    for seed in range(4):
        server = Server(engine=engine, **LIMITS)
        data = CHUNKED_HEAD + body + NEXT
        server.feed(*(splits(data, seed) if seed else [data]))
        assert len(server.requests) == 1
        assert server.last.reset_code() == reason.code
        assert not server.last.ended() or server.last.names()[-1] == "reset"
        assert server.take().startswith(b"HTTP/1.1 %d " % reason.status)
        assert server.session.close_reason is reason
        assert server.session.active_streams == 0


def test_a_bad_body_cuts_a_response_that_has_begun() -> None:
    """No second response may follow the first in its place."""
    server = Server().feed(CHUNKED_HEAD)
    server.stream.send_head(response_head(b"200"), False)
    server.stream.send_data(b"abc", False)
    server.feed(b"nonsense\r\n")
    assert server.take().endswith(b"\r\n\r\n3\r\nabc\r\n")
    assert server.session.closed
    assert server.session.truncated
    assert server.last.reset_code() == "bad_framing"


def test_a_bad_body_behind_a_complete_response_leaves_it_alone() -> None:
    server = Server().feed(CHUNKED_HEAD)
    server.stream.send_head(response_head(b"200"), True)
    server.feed(b"nonsense\r\n")
    assert server.take().count(b"HTTP/1.1") == 1
    assert server.session.closed
    assert not server.session.truncated


def test_the_answer_to_head_has_no_body() -> None:
    """RFC 9110 section 9.3.2."""
    server = Server().feed(CHUNKED_HEAD.replace(b"POST", b"HEAD") + b"nonsense\r\n")
    assert server.take().endswith(b"\r\n\r\n")
