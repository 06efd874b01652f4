"""A QPACK block is bounded before it is decoded (attacks 4 and 24; RFC 9204)."""

import pylsqpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spooky._core.pure.qpack import STATIC_TABLE
from spooky._core.qpack import MALFORMED, TOO_LARGE, TOO_MANY_FIELDS, WITHIN_LIMITS, scan

PREFIX = b"\x00\x00"
UNLIMITED = 2**40


def decode(block: bytes) -> list[tuple[bytes, bytes]]:
    """Return what the decoder makes of a block, without a dynamic table."""
    _, fields = pylsqpack.Decoder(0, 0).feed_header(0, block)
    return fields


def encode(fields: list[tuple[bytes, bytes]]) -> bytes:
    """Return a block of the encoder without a dynamic table."""
    _, block = pylsqpack.Encoder().encode(0, fields)
    return block


def integer(value: int, prefix_bits: int, first: int) -> bytes:
    """Return an integer with a prefix (RFC 7541 section 5.1)."""
    mask = (1 << prefix_bits) - 1
    if value < mask:
        return bytes([first | value])
    out = bytearray([first | mask])
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name: bytes, value: bytes) -> bytes:
    """Return a field line with literal name and value, neither Huffman-coded."""
    return integer(len(name), 3, 0x20) + name + integer(len(value), 7, 0) + value


def size(fields: list[tuple[bytes, bytes]]) -> int:
    """Return the sum of name and value lengths."""
    return sum(len(name) + len(value) for name, value in fields)


def test_every_static_entry_has_its_lengths() -> None:
    """RFC 9204 appendix A, as the decoder knows it: at its size it passes, one below not."""
    assert len(STATIC_TABLE) == 99
    for index in range(99):
        indexed = PREFIX + integer(index, 6, 0xC0)
        ((name, value),) = decode(indexed)
        assert STATIC_TABLE[index] == (len(name), len(value))
        assert scan(indexed, 1, len(name) + len(value)) == WITHIN_LIMITS
        assert scan(indexed, 1, len(name) + len(value) - 1) == TOO_LARGE
        named = PREFIX + integer(index, 4, 0x50) + integer(2, 7, 0) + b"xy"
        assert decode(named) == [(name, b"xy")]
        assert scan(named, 1, len(name) + 2) == WITHIN_LIMITS
        assert scan(named, 1, len(name) + 1) == TOO_LARGE


def test_never_indexed_lines_are_the_same() -> None:
    """RFC 9204 sections 4.5.4 and 4.5.6: the N bit changes nothing here."""
    for line in (b"\x71\x01x", b"\x31x\x01y"):
        assert len(decode(PREFIX + line)) == 1
        assert scan(PREFIX + line, 1, 100) == WITHIN_LIMITS


def test_literals_are_counted_exactly() -> None:
    block = PREFIX + literal(b"name", b"value" * 100)
    assert scan(block, 1, 504) == WITHIN_LIMITS
    assert scan(block, 1, 503) == TOO_LARGE


def test_field_lines_are_counted() -> None:
    block = PREFIX + b"\xd1" * 10
    assert scan(block, 10, UNLIMITED) == WITHIN_LIMITS
    assert scan(block, 9, UNLIMITED) == TOO_MANY_FIELDS


def test_an_indexed_reference_bomb_stops_at_its_limit() -> None:
    """Attack 4: one byte for 89 or more bytes of content-security-policy."""
    bomb = PREFIX + integer(85, 6, 0xC0) * 10_000
    assert scan(bomb, 128, 16384) == TOO_MANY_FIELDS
    assert scan(bomb, UNLIMITED, 16384) == TOO_LARGE


def test_huffman_strings_are_counted_at_their_largest() -> None:
    """RFC 7541 appendix B: the shortest code has five bits."""
    coded = PREFIX + b"\x51" + integer(10, 7, 0x80) + b"\x00" * 10  # sixteen zeroes
    assert decode(coded) == [(b":path", b"0" * 16)]
    assert scan(coded, 1, 5 + 16) == WITHIN_LIMITS
    assert scan(coded, 1, 5 + 15) == TOO_LARGE


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"", id="no prefix"),
        pytest.param(b"\x00", id="half a prefix"),
        pytest.param(b"\xff", id="unfinished insert count"),
        pytest.param(b"\x00\x7f", id="unfinished base"),
        pytest.param(b"\x01\x00", id="required insert count"),
        pytest.param(b"\xff\x80\x00\x00", id="large required insert count"),
        pytest.param(b"\x00\x80", id="negative base"),
        pytest.param(PREFIX + b"\x80", id="indexed, dynamic"),
        pytest.param(PREFIX + b"\x40\x00", id="name reference, dynamic"),
        pytest.param(PREFIX + b"\x10", id="indexed, post-base"),
        pytest.param(PREFIX + b"\x00\x00", id="name reference, post-base"),
        pytest.param(PREFIX + integer(99, 6, 0xC0), id="indexed beyond the static table"),
        pytest.param(PREFIX + integer(99, 4, 0x50) + b"\x00", id="name beyond the static table"),
        pytest.param(PREFIX + integer(2**62 - 1, 6, 0xC0), id="far beyond the static table"),
        pytest.param(PREFIX + b"\xff", id="unfinished index"),
        pytest.param(PREFIX + b"\x51", id="no value"),
        pytest.param(PREFIX + b"\x51\x02x", id="value breaks off"),
        pytest.param(PREFIX + b"\x23xy", id="name breaks off"),
        pytest.param(PREFIX + b"\x21x", id="no value after the name"),
        pytest.param(PREFIX + b"\x21x\x02y", id="value breaks off after the name"),
        pytest.param(PREFIX + b"\x51" + integer(2**62, 7, 0), id="integer over 62 bits"),
        pytest.param(PREFIX + b"\x51" + integer(2**64 + 5, 7, 0), id="integer over 64 bits"),
        pytest.param(PREFIX + b"\x51\x7f" + b"\x80" * 9 + b"\x00", id="integer of ten zeroes"),
        pytest.param(PREFIX + b"\x51\x7f" + b"\xff" * 100, id="endless integer"),
    ],
)
def test_malformed_blocks_are_named_so(block: bytes) -> None:
    """RFC 9204 sections 4.1.1, 4.5, 3.2.1; capacity 0 allows no dynamic reference."""
    assert scan(block, 100, UNLIMITED) == MALFORMED
    with pytest.raises(pylsqpack.DecompressionFailed):
        decode(block)


def test_a_base_without_dynamic_references_may_be_anything() -> None:
    """RFC 9204 section 4.5.1.2."""
    assert scan(b"\x00\x05\xd1", 1, 10) == WITHIN_LIMITS
    assert scan(b"\x00\x7f\xff\x01\xd1", 1, 10) == WITHIN_LIMITS


def test_integers_have_62_bits() -> None:
    """RFC 9204 section 4.1.1; the base is the one integer that nothing else bounds."""
    assert scan(b"\x00" + integer(2**62 - 1, 7, 0) + b"\xd1", 1, 10) == WITHIN_LIMITS
    assert scan(b"\x00" + integer(2**62, 7, 0) + b"\xd1", 1, 10) == MALFORMED
    assert scan(b"\x00" + integer(2**64, 7, 0) + b"\xd1", 1, 10) == MALFORMED


def test_integers_end_where_62_bits_do() -> None:
    """RFC 7541 section 5.1: zeroes may follow, but not for ever."""
    assert scan(b"\x00\x7f" + b"\x80" * 8 + b"\x00\xd1", 1, 10) == WITHIN_LIMITS
    assert scan(b"\x00\x7f" + b"\x80" * 9 + b"\x00\xd1", 1, 10) == MALFORMED


def test_what_is_found_first_counts() -> None:
    broken = b"\x80"
    assert scan(PREFIX + b"\xd1\xd1" + broken, 1, 100) == TOO_MANY_FIELDS
    assert scan(PREFIX + b"\xd1\xd1" + broken, 100, 15) == TOO_LARGE
    assert scan(PREFIX + b"\xd1" + broken, 1, 100) == TOO_MANY_FIELDS
    assert scan(PREFIX + broken + b"\xd1\xd1", 1, 1) == MALFORMED


NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=30)
FIELDS = st.lists(
    st.one_of(
        st.tuples(NAMES.map(str.encode), st.binary(max_size=60)),
        st.sampled_from(
            [(b":method", b"GET"), (b":path", b"/index.html"), (b"cookie", b"a=b"), (b"age", b"0")]
        ),
    ),
    max_size=12,
)


@settings(max_examples=300)
@given(FIELDS)
def test_what_an_encoder_makes_is_never_counted_short(fields: list[tuple[bytes, bytes]]) -> None:
    block = encode(fields)
    assert scan(block, len(fields), 2 * size(fields) + 16) == WITHIN_LIMITS
    if fields:
        assert scan(block, len(fields) - 1, UNLIMITED) == TOO_MANY_FIELDS
        assert scan(block, len(fields), size(fields) - 1) == TOO_LARGE


@settings(max_examples=300)
@given(FIELDS)
def test_without_huffman_the_count_is_exact(fields: list[tuple[bytes, bytes]]) -> None:
    block = PREFIX + b"".join(literal(name, value) for name, value in fields)
    if fields:
        assert decode(block) == fields
        assert scan(block, len(fields), size(fields) - 1) == TOO_LARGE
    assert scan(block, len(fields), size(fields)) == WITHIN_LIMITS


LINES = st.one_of(
    st.binary(min_size=1, max_size=6),
    st.integers(0, 110).map(lambda index: integer(index, 6, 0xC0)),
    st.builds(
        lambda index, value: integer(index, 4, 0x50) + integer(len(value), 7, 0x80) + value,
        st.integers(0, 110),
        st.binary(max_size=20),
    ),
    st.builds(literal, st.binary(max_size=12), st.binary(max_size=12)),
)
BLOCKS = st.one_of(
    st.binary(max_size=60), st.lists(LINES, max_size=12).map(lambda lines: PREFIX + b"".join(lines))
)


@settings(max_examples=1000)
@given(BLOCKS, st.integers(0, 12), st.integers(0, 300))
def test_within_limits_means_that_the_decoder_stays_within_them(
    block: bytes, count: int, limit: int
) -> None:
    """Whatever the bytes: it decodes to no more, or not at all."""
    if scan(block, count, limit) != WITHIN_LIMITS:
        return
    try:
        fields = decode(block)
    except pylsqpack.DecompressionFailed:
        return
    assert len(fields) <= count
    assert size(fields) <= limit


@settings(max_examples=1000)
@given(BLOCKS)
@example(PREFIX[:1] + b"\x80" + b"\xc0")
def test_what_the_decoder_takes_is_not_malformed(block: bytes) -> None:
    """But for a negative Base, which RFC 9204 section 4.5.1.2 forbids, used or not."""
    try:
        decode(block)
    except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked):
        return
    negative = block[1] >= 0x80
    assert scan(block, 100, UNLIMITED) == (MALFORMED if negative else WITHIN_LIMITS)
