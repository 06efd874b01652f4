"""The compiled kernel of packet headers and its twin read every datagram alike.

One source makes both, so what is looked for is what C types change: ranges and bounds.
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import packets as compiled
from spooky._core.pure import packets as pure

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

VERSIONS = (0, pure.VERSION_1, pure.VERSION_2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

VARINTS = st.integers(0, 3).flatmap(
    lambda power: st.integers(0, (1 << 8 * (1 << power) - 2) - 1).map(
        lambda value: (value | power << 8 * (1 << power) - 2).to_bytes(1 << power, "big")
    )
)


@st.composite
def long_packets(draw: st.DrawFn) -> bytes:
    ids = [draw(st.binary(max_size=22)) for _ in range(2)]
    token = draw(st.binary(max_size=70))
    length = draw(st.one_of(VARINTS, st.just((len(token) | 0x4000).to_bytes(2, "big"))))
    return b"".join((
        bytes((draw(st.integers(0x80, 0xFF)),)),
        draw(st.sampled_from(VERSIONS)).to_bytes(4, "big"),
        *(bytes((len(each),)) + each for each in ids),
        length,
        token,
    ))  # fmt: skip


DATAGRAMS = st.one_of(long_packets(), st.binary(max_size=80))


@settings(max_examples=1500)
@given(DATAGRAMS, st.integers(0, 80))
@example(b"\xc0\0\0\0\1\0\0" + b"\xff" * 8, 80)
@example(b"\xc0\0\0\0\1\0\0" + b"\xbf" + b"\xff" * 3, 80)
def test_headers_and_tokens(datagram: bytes, cut: int) -> None:
    for data in (datagram, datagram[:cut]):
        ours, theirs = compiled.parse_header(data), pure.parse_header(data)
        assert repr(ours) == repr(theirs)
        if theirs is None or not theirs.is_long:
            continue
        assert ours is not None
        for name in ("is_long", "is_initial", "is_early"):
            assert getattr(ours, name) is getattr(theirs, name)
        assert compiled.initial_token(data) == pure.initial_token(data)


@given(st.integers(0, 255))
def test_connection_ids_are_of_the_slot_and_differ(slot: int) -> None:
    for make in (compiled.ConnectionIds(slot).make, pure.ConnectionIds(slot).make):
        made = {make() for _ in range(300)}
        assert len(made) == 300
        assert {(len(each), each[0]) for each in made} == {(pure.CONNECTION_ID_LENGTH, slot)}


def test_headers_are_values() -> None:
    for side in (compiled, pure):
        one, same = (
            side.PacketHeader(side.PacketType.INITIAL, side.VERSION_1, b"a", b"b", 1200)
            for _ in range(2)
        )
        other = side.PacketHeader(side.PacketType.INITIAL, side.VERSION_2, b"a", b"b", 1200)
        assert one == same
        assert hash(one) == hash(same)
        assert one != other
        assert one != "a header"
