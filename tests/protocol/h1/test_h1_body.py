"""Bodies on the wire: RFC 9112 sections 6 and 7, attacks 27 and 28."""

import contextlib

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core import reasons
from spooky.protocol.h1.body import (
    MAX_CHUNK_EXTENSION_BYTES,
    MAX_CHUNK_LINE_BYTES,
    BodyReader,
    ChunkedReader,
    ChunkedWriter,
    LengthMismatchError,
    LengthReader,
    LengthWriter,
    NoBodyWriter,
    UntilCloseReader,
    UntilCloseWriter,
)
from spooky.protocol.h1.engine import field_parser
from spooky.protocol.h1.framing import FramingError, read_framing
from spooky.protocol.h1.limits import DEFAULT_LIMITS, Limits
from spooky.protocol.stream import Field
from tests.protocol.h1.peers import splits


def chunked(limits: Limits = DEFAULT_LIMITS) -> ChunkedReader:
    return ChunkedReader(field_parser(limits.engine), limits)


def read(reader: BodyReader, data: bytes, seed: int = 0) -> tuple[bytes, bytes]:
    """Return the content and what was left."""
    content = rest = b""
    for piece in splits(data, seed) if seed else [data]:
        position = 0
        if not reader.ended:
            part, position = reader.feed(piece, 0)
            content += part
        rest += piece[position:]
    return content, rest


def feed_in_steps(reader: BodyReader, data: bytes, step: int) -> None:
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step], 0)


# --- what a head says about the body ----------------------------------------------------------

AMBIGUOUS: dict[str, tuple[list[Field], int]] = {
    # RFC 9112 section 6.1 and 6.3 item 3; attack 29.
    "length and coding": ([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], 1),
    "coding and length": ([(b"transfer-encoding", b"chunked"), (b"content-length", b"0")], 1),
    "coding twice": ([(b"transfer-encoding", b"chunked")] * 2, 1),
    "coding twice in one": ([(b"transfer-encoding", b"chunked, chunked")], 1),
    "other coding": ([(b"transfer-encoding", b"gzip")], 1),
    "chunked not alone": ([(b"transfer-encoding", b"gzip, chunked")], 1),
    "chunked not last": ([(b"transfer-encoding", b"chunked, identity")], 1),
    "identity": ([(b"transfer-encoding", b"identity")], 1),
    "look-alike": ([(b"transfer-encoding", b"xchunked")], 1),
    "with parameter": ([(b"transfer-encoding", b"chunked;a=b")], 1),
    "in quotes": ([(b"transfer-encoding", b'"chunked"')], 1),
    "control byte": ([(b"transfer-encoding", b"\x0bchunked")], 1),
    "in HTTP/1.0": ([(b"transfer-encoding", b"chunked")], 0),
    # RFC 9110 section 8.6; attack 28.
    "length twice": ([(b"content-length", b"5")] * 2, 1),
    "length differs": ([(b"content-length", b"5"), (b"content-length", b"6")], 1),
    "length list": ([(b"content-length", b"5,5")], 1),
    "length signed": ([(b"content-length", b"-1")], 1),
    "length not ASCII": ([(b"content-length", "٣".encode())], 1),
    "length beyond counting": ([(b"content-length", b"9223372036854775808")], 1),
    "length of many digits": ([(b"content-length", b"0" * 20)], 1),
}


@pytest.mark.parametrize(("fields", "minor"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_ambiguous_framing_is_refused(fields: list[Field], minor: int) -> None:
    with pytest.raises(FramingError) as error:
        read_framing(fields, minor)
    assert error.value.reason is reasons.BAD_FRAMING


def test_framing_is_read_from_the_fields() -> None:
    framing = read_framing([(b"content-length", b"9223372036854775807"), (b"a", b"b")], 1)
    assert (framing.content_length, framing.chunked) == (2**63 - 1, False)
    framing = read_framing([(b"transfer-encoding", b"Chunked")], 1)
    assert (framing.content_length, framing.chunked) == (-1, True)
    framing = read_framing([(b"connection", b"x,\tClose "), (b"connection", b"keep-alive")], 1)
    assert framing.close
    assert framing.keep_alive
    assert not read_framing([(b"connection", b"closed, x-close")], 1).close


# --- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_a_body_of_known_length_ends_where_it_says(seed: int) -> None:
    reader = LengthReader(10)
    assert read(reader, b"0123456789next", seed) == (b"0123456789", b"next")
    assert reader.ended


def test_a_body_without_length_takes_everything() -> None:
    reader = UntilCloseReader()
    assert read(reader, b"abc", 3) == (b"abc", b"")
    assert not reader.ended


GOOD_CHUNKS: list[tuple[bytes, bytes, list[Field]]] = [
    (b"0\r\n\r\n", b"", []),
    (b"3\r\nabc\r\n0\r\n\r\n", b"abc", []),
    (b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", b"abc0123456789", []),
    (b"0003\r\nabc\r\n000\r\n\r\n", b"abc", []),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", []),
    (b'3;a=b;c="d \\" e"\r\nabc\r\n0;x\r\n\r\n', b"abc", []),
    (b"3\r\nabc\r\n0\r\nA: b\r\nC:d\r\n\r\n", b"abc", [(b"a", b"b"), (b"c", b"d")]),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("wire", "content", "trailers"), GOOD_CHUNKS)
def test_chunks_are_joined(wire: bytes, content: bytes, trailers: list[Field], seed: int) -> None:
    """RFC 9112 section 7.1."""
    reader = chunked()
    assert read(reader, wire + b"GET /next", seed) == (content, b"GET /next")
    assert reader.ended
    assert reader.trailers == trailers


BAD_CHUNKS = {
    "no size": b"\r\nabc\r\n",
    "not hexadecimal": b"g\r\nabc\r\n",
    "0x prefix": b"0x3\r\nabc\r\n",
    "sign": b"+3\r\nabc\r\n",
    "minus": b"-3\r\nabc\r\n",
    "underscore": b"1_0\r\nabc\r\n",
    "space before": b" 3\r\nabc\r\n",
    "space behind": b"3 \r\nabc\r\n",
    "space before extension": b"3 ;a\r\nabc\r\n",
    "tab behind": b"3\t\r\nabc\r\n",
    "bare LF behind size": b"3\nabc\r\n0\r\n\r\n",
    "bare CR behind size": b"3\rabc\r\n0\r\n\r\n",
    "extension without name": b"3;\r\nabc\r\n",
    "extension without value": b"3;a=\r\nabc\r\n",
    "extension not a token": b"3;a(b)\r\nabc\r\n",
    "extension in an open quote": b'3;a="b\r\nabc\r\n',
    "CR in extension": b"3;a\rb\r\nabc\r\n",
    "NUL in extension": b"3;a\x00b\r\nabc\r\n",
    "LF in extension": b"3;a\nb\r\nabc\r\n",
    "more than 64 bits": b"1" + b"0" * 16 + b"\r\nabc\r\n",
    "shorter than its data": b"2\r\nabc\r\n0\r\n\r\n",
    "longer than its data": b"4\r\nabc\r\n0\r\n\r\n",
    "bare LF behind data": b"3\r\nabc\n0\r\n\r\n",
    "CR and more behind data": b"3\r\nabc\rX0\r\n\r\n",
    "last chunk with bare LF": b"0\n\r\n",
    "end with bare LF": b"0\r\n\n",
    "trailers with bare LF": b"0\r\na: b\n\r\n",
    "trailer without colon": b"0\r\nab\r\n\r\n",
    "trailer with space before colon": b"0\r\na : b\r\n\r\n",
    "trailer folded": b"0\r\na: b\r\n c\r\n\r\n",
    # RFC 9110 section 6.5.1: framing cannot come after the body.
    "trailer says length": b"0\r\ncontent-length: 5\r\n\r\n",
    "trailer says coding": b"0\r\ntransfer-encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("wire", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_bad_chunks_are_refused(wire: bytes, seed: int) -> None:
    """RFC 9112 section 7.1, attack 28."""
    with pytest.raises(FramingError) as error:
        read(chunked(), wire + b"0\r\n\r\n", seed)
    assert error.value.reason is reasons.BAD_FRAMING


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_a_chunk_line_is_bounded(step: int) -> None:
    extension = b"3;" + b"x" * (MAX_CHUNK_LINE_BYTES - 4)
    reader = chunked()
    reader.feed(extension + b"\r\n", 0)
    for data in (extension + b"x\r\n", extension + b"xxx"):
        with pytest.raises(FramingError):
            feed_in_steps(chunked(), data, step)


@pytest.mark.parametrize("seed", range(4))
def test_the_extensions_of_a_body_are_bounded(seed: int) -> None:
    """RFC 9112 section 7.1.1 asks for it: the line limit allows 250 bytes for each of data."""
    chunk = b"1;" + b"x" * 127 + b"\r\na\r\n"
    count = MAX_CHUNK_EXTENSION_BYTES // 128
    content, _ = read(chunked(), chunk * count, seed)
    assert content == b"a" * count
    with pytest.raises(FramingError):
        read(chunked(), chunk * (count + 1), seed)


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_trailers_are_bounded_in_bytes_and_number(step: int) -> None:
    limits = Limits(max_headers_bytes=100, max_headers_count=3)

    def feed(data: bytes) -> ChunkedReader:
        reader = chunked(limits)
        feed_in_steps(reader, data, step)
        return reader

    assert feed(b"0\r\n" + b"a: " + b"x" * 93 + b"\r\n\r\n").ended
    with pytest.raises(FramingError) as error:
        feed(b"0\r\n" + b"a: " + b"x" * 94 + b"\r\n\r\n")
    assert error.value.reason is reasons.FIELDS_TOO_LARGE
    with pytest.raises(FramingError) as error:
        feed(b"0\r\n" + b"a: b\r\n" * 4 + b"\r\n")
    assert error.value.reason is reasons.TOO_MANY_FIELDS


def test_chunks_of_one_read_are_delivered_in_one_piece() -> None:
    """Attack 7 in HTTP/1.1's clothes: a read full of one-byte chunks is one upcall."""
    content, _ = chunked().feed(b"1\r\na\r\n" * 1000, 0)
    assert content == b"a" * 1000


def test_a_piece_that_is_all_content_is_not_copied() -> None:
    data = b"x" * 1000
    assert LengthReader(5000).feed(data, 0)[0] is data
    assert UntilCloseReader().feed(data, 0)[0] is data
    reader = chunked()
    reader.feed(b"ffff\r\n", 0)
    assert reader.feed(data, 0)[0] is data


CHUNK_PARTS = st.lists(
    st.sampled_from(
        [b"0", b"1", b"2", b"a", b"F", b"00", b";", b";x=y", b';x="y z"', b"=", b'"',
         b"\r\n", b"\r\n", b"\r\n", b"\n",
         b"\r", b" ", b"x", b"xy", b"0123456789", b"0\r\n\r\n", b"1\r\nx\r\n", b"k: v\r\n"]
    ),
    max_size=14,
).map(b"".join)  # fmt: skip


@given(CHUNK_PARTS, st.integers(1, 1000))
def test_what_we_accept_as_chunks_llhttp_and_h11_read_the_same(data: bytes, seed: int) -> None:
    """Attack 28: a body that two recipients read differently is a smuggled request."""
    reader = chunked()
    content = b""
    with contextlib.suppress(FramingError):
        content, _ = read(reader, data, seed)
    if not reader.ended:
        return
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    connection.receive_data(head + data)
    assert isinstance(connection.next_event(), h11.Response)
    by_h11 = b""
    while isinstance(event := connection.next_event(), h11.Data):
        by_h11 += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert by_h11 == content

    collected: list[bytes] = []
    ends: list[int] = []

    class Collector:
        def on_body(self, body: bytes) -> None:
            if not ends:
                collected.append(body)

        def on_message_complete(self) -> None:
            ends.append(1)

    with contextlib.suppress(httptools.HttpParserError):
        httptools.HttpResponseParser(Collector()).feed_data(head + data)
    assert ends
    assert b"".join(collected) == content


# --- writing ----------------------------------------------------------------------------------


def test_chunks_are_as_long_as_the_bytes_in_hand() -> None:
    """Attack 27."""
    writer = ChunkedWriter()
    assert b"".join(writer.frame(b"x" * 26, False)) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert b"".join(writer.frame(b"ab", True)) == b"2\r\nab\r\n0\r\n\r\n"
    assert writer.finish([(b"a", b"b")]) == b"0\r\na: b\r\n\r\n"


def test_an_empty_piece_does_not_end_a_chunked_body() -> None:
    """RFC 9112 section 7.1: a chunk of size zero is the last."""
    assert b"".join(ChunkedWriter().frame(b"", False)) == b""
    assert b"".join(ChunkedWriter().frame(b"", True)) == b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=40), max_size=8), st.booleans())
def test_what_we_write_in_chunks_we_read_back(pieces: list[bytes], trailers: bool) -> None:
    writer = ChunkedWriter()
    wire = b"".join(b"".join(writer.frame(piece, False)) for piece in pieces)
    wire += writer.finish([(b"a", b"b")]) if trailers else b"".join(writer.frame(b"", True))
    reader = chunked()
    assert read(reader, wire + b"rest", len(wire)) == (b"".join(pieces), b"rest")
    assert reader.trailers == ([(b"a", b"b")] if trailers else [])


def test_a_body_as_long_as_declared_is_sent() -> None:
    writer = LengthWriter(5)
    assert b"".join(writer.frame(b"abc", False)) == b"abc"
    assert b"".join(writer.frame(b"de", True)) == b"de"
    assert writer.finish([(b"dropped", b"")]) == b""


def test_a_body_longer_or_shorter_than_declared_is_an_error() -> None:
    with pytest.raises(LengthMismatchError):
        LengthWriter(5).frame(b"abcdef", False)
    with pytest.raises(LengthMismatchError):
        LengthWriter(5).frame(b"abcd", True)
    with pytest.raises(LengthMismatchError):
        LengthWriter(5).finish(())


def test_bodies_without_framing() -> None:
    assert NoBodyWriter().frame(b"dropped", True) == ()
    assert NoBodyWriter().finish(()) == b""
    assert UntilCloseWriter().frame(b"abc", True) == (b"abc",)
    assert UntilCloseWriter().finish([(b"dropped", b"")]) == b""
