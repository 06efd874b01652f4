"""One verdict whichever engine parses and however the bytes are cut: both roles, both engines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol.h1.engine import field_parser
from spooky.protocol.h1.limits import Engine
from tests.protocol.h1.peers import Client, Event, Server, answer_ok, splits, traced

METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"CONNECT", b"OPTIONS", b"PRI", b"x", b"G T"])
VERSIONS = st.sampled_from(
    [b" HTTP/1.1"] * 8 + [b" HTTP/1.0"] * 2 + [b" HTTP/2.0", b"", b" http/1.1"]
)
TARGETS = st.sampled_from([b"/", b"/a?b", b"http://h/x", b"*", b"h:443", b"/\xc3\xa9", b"/a b"])
FIELD_LINES = st.sampled_from(
    [b"Host: h", b"Host: h", b"Content-Length: 0", b"Content-Length: 3", b"content-length: 3",
     b"Content-Length: 3, 3", b"Content-Length: +3", b"Transfer-Encoding: chunked",
     b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding : chunked",
     b"Transfer-Encoding: Chunked ", b"Connection: close", b"Connection: keep-alive",
     b"Connection: upgrade", b"Upgrade: h2c", b"Expect: 100-continue", b"X: \x01", b"X: \xff",
     b" x", b"X:", b"X: y\rz", b"X: y\nz", b"TE: trailers"]
)  # fmt: skip
ENDS = st.sampled_from([b"\r\n"] * 30 + [b"\n", b"\r\n\r\n"])
BODIES = st.sampled_from(
    [b"", b"", b"abc", b"abcdef", b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nX: y\r\n\r\n",
     b"0\r\n\r\n", b"3;x\r\nabc\r\n0\r\n\r\n", b"3 \r\nabc\r\n", b"3\nabc\n0\n\n", b"\r\n",
     b"\x00\x01\x02"]
)  # fmt: skip


@st.composite
def messages(draw: st.DrawFn, start_lines: st.SearchStrategy[bytes]) -> bytes:
    wire = b""
    for _ in range(draw(st.integers(1, 3))):
        wire += draw(start_lines) + draw(ENDS)
        for line in draw(st.lists(FIELD_LINES, max_size=3)):
            wire += line + draw(ENDS)
        wire += draw(ENDS) + draw(BODIES)
    return wire


REQUESTS = messages(st.tuples(METHODS, st.just(b" "), TARGETS, VERSIONS).map(b"".join))
RESPONSES = messages(
    st.sampled_from(
        [b"HTTP/1.1 200 OK"] * 4
        + [b"HTTP/1.1 204 No Content", b"HTTP/1.1 304", b"HTTP/1.1 100 Continue",
           b"HTTP/1.0 200 OK", b"HTTP/1.1 101 X", b"HTTP/1.1 20 X", b"HTTP/3.0 200 OK",
           b"HTTP/1.1 200 \x00"]
    )
)  # fmt: skip


def folded(events: list[Event]) -> list[Event]:
    """Ignore the case of codings, which has no meaning (RFC 9112 section 7)."""
    trace: list[Event] = []
    for event in traced(events):
        if event[0] in ("head", "informational"):
            fields = [
                (name, value.lower() if name == b"transfer-encoding" else value)
                for name, value in event[1]  # type: ignore[attr-defined]
            ]
            event = (event[0], fields, *event[2:])
        trace.append(event)
    return trace


def serve(engine: Engine, pieces: list[bytes]) -> tuple[object, ...]:
    server = Server(answer_ok, engine=engine)
    written = b""
    for piece in pieces:
        server.feed(piece)
        written += server.take()
    reason = server.session.close_reason
    return (
        [folded(recorder.events) for recorder in server.requests],
        reason and reason.code,
        server.session.closed,
        written,
    )


def ask(engine: Engine, method: bytes, pieces: list[bytes]) -> tuple[object, ...]:
    client = Client(engine=engine)
    recorder = client.get(method)
    client.feed(*pieces)
    client.session.receive_eof()
    reason = client.session.close_reason
    return folded(recorder.events), reason and reason.code, client.session.reusable


@given(REQUESTS, st.integers(0, 1000))
def test_both_engines_serve_the_same_requests_the_same(wire: bytes, seed: int) -> None:
    """Attacks 28 to 30: the framing of a request depends on its bytes alone."""
    expected = serve("httptools", [wire])
    assert serve("h11", [wire]) == expected
    if data_was_cut(expected):
        return
    assert serve("httptools", splits(wire, seed)) == expected
    assert serve("h11", splits(wire, seed)) == expected


@given(st.sampled_from([b"GET", b"HEAD", b"POST"]), RESPONSES, st.integers(0, 1000))
def test_both_engines_take_the_same_responses_the_same(
    method: bytes, wire: bytes, seed: int
) -> None:
    expected = ask("httptools", method, [wire])
    assert ask("h11", method, [wire]) == expected


def data_was_cut(outcome: tuple[object, ...]) -> bool:
    """Whether a body turned out to be malformed: how much of it came before depends on the cut."""
    traces = outcome[0]
    assert isinstance(traces, list)
    return any(trace and trace[-1][0] == "reset" for trace in traces)


def test_an_engine_belongs_to_the_build() -> None:
    from spooky._core import COMPILED

    module = "fields_httptools" if COMPILED else "fields_h11"
    assert field_parser().__module__ == f"spooky.protocol.h1.{module}"


@pytest.mark.parametrize("engine", ["httptools", "h11"])
def test_an_engine_can_be_chosen(engine: Engine) -> None:
    assert field_parser(engine).__module__ == f"spooky.protocol.h1.fields_{engine}"
