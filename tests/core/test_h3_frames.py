"""Integers, frames in pieces, settings and field sections."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.h3_errors import H3_FRAME_ERROR, QPACK_DECOMPRESSION_FAILED, ProtocolError
from spooky._core.h3_frames import (
    VARINT_MAX,
    FrameReader,
    encode_settings,
    parse_frame_header,
    parse_settings,
    parse_single_varint,
    read_varint,
)
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky._core.sections import decode_fields, encode_fields
from spooky.protocol.h3.limits import Limits
from spooky.protocol.stream import Field
from tests.protocol.h3.peers import GET, block

GATHERED = 0x1


def decode(section: bytes, limits: Limits) -> list[Field] | int:
    return decode_fields(section, limits.max_headers_count, limits.max_decoded_bytes)


class Frames(FrameReader):
    """Gathers frames of one type and notes the pieces of others."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[int, bytes]] = []
        self.current = bytearray()
        self.ends: list[bool] = []

    def _begin_frame(self, kind: int, length: int) -> bool:
        return kind == GATHERED

    def _take_frame(self, kind: int, payload: bytes, at_end: bool) -> None:
        self.frames.append((kind, payload))
        self.ends.append(at_end)

    def _take_piece(self, kind: int, piece: bytes, at_end: bool) -> None:
        self.current += piece
        if not self._remaining:
            self.frames.append((kind, bytes(self.current)))
            self.current.clear()
            self.ends.append(at_end)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (37, "25"),
        (15293, "7bbd"),
        (494878333, "9d7f3e7d"),
        (151288809941952652, "c2197c5eff14e88c"),
    ],
)
def test_integers_are_those_of_rfc_9000_appendix_a1(value: int, encoded: str) -> None:
    assert encode_varint(value) == bytes.fromhex(encoded)
    assert read_varint(bytes.fromhex(encoded), 0) == (value, len(encoded) // 2)


def test_longer_forms_of_an_integer_are_read_too() -> None:
    assert read_varint(bytes.fromhex("4025"), 0) == (37, 2)


@given(st.integers(0, VARINT_MAX), st.binary(max_size=3))
def test_integers_round_trip_and_wait_for_all_their_bytes(value: int, before: bytes) -> None:
    encoded = before + encode_varint(value)
    assert read_varint(encoded, len(before)) == (value, len(encoded))
    for end in range(len(before), len(encoded)):
        assert read_varint(encoded[:end], len(before)) is None


@given(
    st.lists(st.tuples(st.integers(0, 3) | st.integers(0, VARINT_MAX), st.binary(max_size=99))),
    st.data(),
)
def test_frames_are_the_same_however_they_are_cut(
    frames: list[tuple[int, bytes]], draw: st.DataObject
) -> None:
    wire = b"".join(encode_frame(kind, payload) for kind, payload in frames)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(wire)))))
    reader = Frames()
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        reader.read(wire[start:end])
    assert reader.frames == frames
    assert not reader.ends_within_frame


def test_a_frame_tells_whether_what_was_read_ends_with_it() -> None:
    reader = Frames()
    reader.read(encode_frame(0, b"a") + encode_frame(GATHERED, b"b"))
    reader.read(encode_frame(0, b""))
    assert reader.ends == [False, True, True]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_truncated_frame_is_noticed(cut: int) -> None:
    reader = Frames()
    reader.read(encode_frame(0x4000, b"abc")[:cut])
    assert reader.ends_within_frame == (cut < len(encode_frame(0x4000, b"abc")))


def test_settings_round_trip() -> None:
    settings = {0x1: 0, 0x6: 20_480, 0x7: 0, 0x33: 1}
    kind, length, position = parse_frame_header(encode_settings(settings), 0) or (0, 0, 0)
    assert kind == 0x4
    payload = encode_settings(settings)[position:]
    assert len(payload) == length
    assert parse_settings(payload) == settings


@pytest.mark.parametrize("payload", ["01", "0140", "4001"])
def test_truncated_settings_are_a_frame_error(payload: str) -> None:
    """RFC 9114 section 7.1."""
    with pytest.raises(ProtocolError) as raised:
        parse_settings(bytes.fromhex(payload))
    assert raised.value.code == H3_FRAME_ERROR


@pytest.mark.parametrize("payload", ["", "40", "0000"])
def test_a_payload_that_is_not_one_integer_is_a_frame_error(payload: str) -> None:
    """RFC 9114 section 7.1."""
    with pytest.raises(ProtocolError) as raised:
        parse_single_varint(bytes.fromhex(payload))
    assert raised.value.code == H3_FRAME_ERROR


def test_field_sections_use_no_dynamic_table() -> None:
    """RFC 9204 section 4.5.1: Required Insert Count and Base are 0, however often it is asked."""
    fields = [*GET, (b"x-custom", b"value")]
    first = encode_fields(fields)
    assert first[:2] == b"\0\0"
    assert encode_fields(tuple(fields)) == first
    assert decode(first, Limits()) == fields


def test_a_field_section_that_refers_to_the_dynamic_table_is_refused() -> None:
    """Attack 24: nothing ever blocks."""
    for section in ("0200 80", "0000 10"):
        with pytest.raises(ProtocolError) as raised:
            decode(bytes.fromhex(section), Limits())
        assert raised.value.code == QPACK_DECOMPRESSION_FAILED


def test_bad_huffman_code_is_refused_and_the_decoder_goes_on() -> None:
    """RFC 7541 section 5.2: padding longer than 7 bits."""
    bad = bytes.fromhex("0000 51 82 ffff")  # a literal value of two bytes
    with pytest.raises(ProtocolError) as raised:
        decode(bad, Limits())
    assert raised.value.code == QPACK_DECOMPRESSION_FAILED
    assert decode(block(GET), Limits()) == GET


@given(st.binary(max_size=64))
def test_whatever_the_scan_passes_leaves_the_decoder_as_it_was(section: bytes) -> None:
    """One decoder serves all connections, so no block may leave anything behind."""
    with suppress(ProtocolError):
        decode(section, Limits())
    assert decode(block(GET), Limits()) == GET


def test_limits_admit_every_head_that_the_validator_admits() -> None:
    """The bound before decoding is looser than the exact one, never tighter."""
    limits = Limits()
    # Codes of 5, 7, 8 and 28 bits: Huffman saves most, little, nothing, and is not used.
    for value in (b"a", b"j", b"X", b"\xff"):
        fields = [(b"x%d" % index, value * 124) for index in range(128)]
        size = sum(len(name) + len(content) for name, content in fields)
        assert size <= limits.max_headers_bytes
        section = block(fields)
        assert len(section) <= limits.max_headers_frame_bytes
        assert decode(section, limits) == fields
