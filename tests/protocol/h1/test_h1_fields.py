"""Field sections, the same through both engines: RFC 9112 section 5, attacks 28 to 30."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spooky.protocol.h1.engine import field_parser
from spooky.protocol.h1.framing import FramingError, read_framing
from spooky.protocol.h1.limits import Engine
from spooky.protocol.stream import Field
from tests.protocol.h1.peers import ENGINES

ACCEPTED: list[tuple[bytes, list[Field]]] = [
    (b"", []),
    (b"Host: a\r\n", [(b"host", b"a")]),
    # RFC 9112 section 5: optional whitespace around the value, and it is not part of it.
    (b"a:b\r\nC: \t d \t\r\n", [(b"a", b"b"), (b"c", b"d")]),
    (b"a:\r\nb: \t \r\n", [(b"a", b""), (b"b", b"")]),
    (b"a: one\r\nA: two\r\n", [(b"a", b"one"), (b"a", b"two")]),
    # RFC 9110 section 5.5: obs-text and inner whitespace are content.
    (b"a: \xc3\xa9 \t \xff\r\n", [(b"a", b"\xc3\xa9 \t \xff")]),
    (b"!#$%&'*+-.^_`|~0: x\r\n", [(b"!#$%&'*+-.^_`|~0", b"x")]),
    # An upgrade offered is a field like any other (attack 33).
    (b"Connection: upgrade\r\nUpgrade: websocket\r\n",
     [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]),
    (b"Connection: a b,,\x80\r\n", [(b"connection", b"a b,,\x80")]),
    (b"content-length: 5 \r\n", [(b"content-length", b"5")]),
    (b"transfer-encoding: chunked\r\n", [(b"transfer-encoding", b"chunked")]),
]  # fmt: skip

REFUSED = {
    # RFC 9112 section 2.2: a bare LF and a bare CR are not line ends.
    "bare LF": b"a: b\nc: d\r\n",
    "bare LF, last line": b"a: b\n",
    "bare CR in a value": b"a: b\rc: d\r\n",
    "bare CR before CRLF": b"a: b\r\r\n",
    "bare CR in a name": b"a\rb: c\r\n",
    # RFC 9112 section 5.1: no whitespace between name and colon.
    "space before colon": b"a : b\r\n",
    "tab before colon": b"a\t: b\r\n",
    "space before the first name": b" a: b\r\n",
    # RFC 9112 section 5.2.
    "obs-fold": b"a: b\r\n c\r\n",
    "obs-fold with a tab": b"a: b\r\n\tc\r\n",
    "obs-fold of nothing": b"a: b\r\n \r\n",
    # RFC 9110 sections 5.1, 5.5, 5.6.2.
    "no colon": b"a\r\n",
    "no name": b": b\r\n",
    "name not a token": b"a(b): c\r\n",
    "name with obs-text": b"a\x80: c\r\n",
    "NUL in a name": b"a\x00: c\r\n",
    "NUL in a value": b"a: b\x00c\r\n",
    "control byte in a value": b"a: b\x01c\r\n",
    "vertical tab in a value": b"a: b\x0bc\r\n",
    "DEL in a value": b"a: b\x7fc\r\n",
    # RFC 9110 section 8.6, RFC 9112 section 6.3 items 3 to 5.
    "length with sign": b"content-length: +5\r\n",
    "length with underscore": b"content-length: 1_0\r\n",
    "length empty": b"content-length: \r\n",
    "length hexadecimal": b"content-length: 0x5\r\n",
    "length list": b"content-length: 5, 5\r\n",
    "length with a gap": b"content-length: 5 5\r\n",
    "length repeated": b"content-length: 5\r\ncontent-length: 5\r\n",
    "lengths that differ": b"content-length: 5\r\nContent-Length: 6\r\n",
    "coding empty": b"transfer-encoding: \r\n",
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("lines", "fields"), ACCEPTED)
def test_field_lines_come_out_with_lowercase_names_and_bare_values(
    engine: Engine, lines: bytes, fields: list[Field]
) -> None:
    assert field_parser(engine)(lines + b"\r\n") == fields


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("lines", REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_field_line_is_refused(engine: Engine, lines: bytes) -> None:
    with pytest.raises(FramingError):
        field_parser(engine)(b"first: x\r\n" * (not lines.startswith(b" ")) + lines + b"\r\n")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_section_without_its_end_is_refused(engine: Engine) -> None:
    with pytest.raises(FramingError):
        field_parser(engine)(b"a: b\r\n")


NAMES = st.sampled_from(
    [b"a", b"Host", b"content-length", b"Content-Length", b"transfer-encoding", b"connection",
     b"upgrade", b"x y", b"", b"\x80", b"a:", b" a", b"cookie", b"proxy-connection"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [b"", b"5", b"5,5", b"+5", b"chunked", b"Chunked", b"gzip, chunked", b"close", b"upgrade",
         b"keep-alive, Upgrade", b"websocket", b"h2c", b"18446744073709551616", b"007"]
    ),
    st.binary(max_size=6),
)  # fmt: skip
SEPARATORS = st.sampled_from([b":", b": ", b":\t", b": \t ", b" :", b""])
ENDS = st.sampled_from([b"\r\n"] * 12 + [b" \r\n", b"\n", b"\r", b"\r\n ", b"\r\r\n", b"\r\n\r\n"])
LINES = st.lists(st.tuples(NAMES, SEPARATORS, VALUES, ENDS).map(b"".join), max_size=5).map(b"".join)


def verdict(engine: Engine, section: bytes) -> list[Field] | None:
    """Return the fields, or ``None`` if the engine or framing behind it refuses them."""
    try:
        fields = field_parser(engine)(section)
        read_framing(fields, 1)
    except FramingError:
        return None
    # Codings are case-insensitive (RFC 9112 section 7), and h11 folds them.
    return [(name, value.lower() if name == b"transfer-encoding" else value)
            for name, value in fields]  # fmt: skip


@given(LINES)
def test_both_engines_agree_on_field_sections(lines: bytes) -> None:
    section = lines + b"\r\n"
    # A section ends at the first blank line, so the engines see no other.
    assume(not re.search(rb"\n\r?\n", (b"\n" + section)[:-1]))
    httptools_says, h11_says = (verdict(engine, section) for engine in ENGINES)
    assert httptools_says == h11_says
