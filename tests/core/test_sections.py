"""What is kept of field lines changes nothing but the time it takes; the twin keeps nothing."""

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import _core
from spooky._core import sections as selected
from spooky._core.h3_errors import ProtocolError
from spooky._core.pure import sections as pure
from spooky.protocol.stream import Field
from tests.core.test_qpack import PREFIX, decode, encode, literal

KERNELS = [pure, selected] if _core.COMPILED else [pure]

NAMES = st.sampled_from([b":path", b"x-name", b"cookie", b"content-type", b"authorization"])
VALUES = st.sampled_from([b"", b"/", b"v" * 200, b"text/plain"]) | st.binary(max_size=6)
SECTIONS = st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=6)


def decoded(kernel: ModuleType, block: bytes) -> list[Field]:
    """Return the fields of a block that is within limits."""
    fields = kernel.decode_fields(block, 10_000, 1 << 30)
    assert isinstance(fields, list)
    return fields


@pytest.mark.parametrize("kernel", KERNELS)
@given(st.lists(SECTIONS, max_size=4))
def test_sections_are_coded_as_without_what_is_kept(
    kernel: ModuleType, sections: list[list[Field]]
) -> None:
    for fields in sections:
        assert kernel.encode_fields(fields) == encode(fields)
        assert decoded(kernel, encode(fields)) == fields


@pytest.mark.parametrize("kernel", KERNELS)
def test_another_form_of_a_field_is_not_taken_over(kernel: ModuleType) -> None:
    field = (b"x-form", b"aaaaaaaaaa")
    assert decoded(kernel, PREFIX + literal(*field)) == [field]
    assert kernel.encode_fields([field]) == encode([field]) != PREFIX + literal(*field)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "fields",
    [
        [(b"x-many-%d" % number, b"v" * 8) for number in range(200)],
        [(b"x-wide-%d" % number, b"\xff" * 90) for number in range(60)],
    ],
    ids=["more new lines than are put in their places", "more bytes than are put together"],
)
def test_large_sections_are_coded_as_small_ones(kernel: ModuleType, fields: list[Field]) -> None:
    for count in (60, 30, 60, 60, len(fields)):
        assert kernel.encode_fields(fields[:count]) == encode(fields[:count])
        assert kernel.encode_fields(fields[count // 2 :]) == encode(fields[count // 2 :])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("known", range(8))
def test_new_lines_are_put_where_they_belong(kernel: ModuleType, known: int) -> None:
    """Before, between and after those that are kept, which are all whose bits are set."""
    fields = [(b"x-known", b"%d" % place) for place in range(3)]
    for _ in range(3):
        kernel.encode_fields(fields)
    mixed = [
        field if known >> place & 1 else (b"x-new-%d" % known, field[1])
        for place, field in enumerate(fields)
    ]
    assert kernel.encode_fields(mixed) == encode(mixed)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_section_is_not_shared(kernel: ModuleType) -> None:
    block = encode([(b"x-shared", b"1")])
    decoded(kernel, block).clear()
    assert decoded(kernel, block) == decode(block)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_line_that_cannot_be_decoded_is_refused_each_time(kernel: ModuleType) -> None:
    good, bad = encode([(b"x-good", b"1")]), b"\x51\x81\x00"  # Padding that is no prefix of EOS.
    for _ in range(2):
        with pytest.raises(ProtocolError, match="Huffman"):
            kernel.decode_fields(good + bad, 10, 1000)
        assert decoded(kernel, good) == decode(good)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (literal(b"x-plain", b"some value"), True),
        (b"\x51\x05/path", True),
        (b"\x51\x05/?t=1", False),
        (literal(b":authority", b"a.test"), True),
        (literal(b"location", b"/next"), True),
        (literal(b"location", b"/next?code=1"), False),
        (literal(b"referer", b"/from?code=1"), False),
        (literal(b"x-api-key", b"some value"), False),
        (literal(b"x-csrf", b"some value"), False),
        (literal(b"x-auth-request", b"some value"), False),
        (literal(b"x-access-token", b"some value"), False),
        (literal(b"app-session", b"some value"), False),
        (literal(b"client-secret", b"some value"), False),
        (literal(b"cookie", b"some value"), False),
        (literal(b"authorization", b"some value"), False),
        (b"\x55\x0asome value", False),  # cookie, by the static table
        (b"\x71\x0asome value", False),  # never indexed, with a static name
        (b"\x37\x00x-plain\x0asome value", False),  # never indexed, with a literal name
        (literal(b"x-long", b"v" * 130), False),
    ],
)
@pytest.mark.skipif(not _core.COMPILED, reason="the twin keeps nothing")
def test_what_is_kept(line: bytes, kept: bool) -> None:
    """A field that is kept is the same object; secrets and long ones are made anew."""
    decoded(selected, PREFIX + line)  # What comes but once is not kept.
    (first,), (second,) = decoded(selected, PREFIX + line), decoded(selected, PREFIX + line)
    assert first == second
    assert (first is second) is kept


@pytest.mark.skipif(not _core.COMPILED, reason="the twin keeps nothing")
def test_what_comes_but_once_takes_no_place_of_what_is_kept() -> None:
    blocks = [encode([(b"x-known", b"%d" % number)]) for number in range(3)]
    known = [[decoded(selected, block)[0] for _ in range(2)][1] for block in blocks]
    for number in range(8192):
        decoded(selected, encode([(b"x-once", b"%d" % number)]))
    assert all(
        decoded(selected, block)[0] is field for block, field in zip(blocks, known, strict=True)
    )


def kept_of(blocks: list[bytes]) -> int:
    """Count the lines that are kept after each was decoded twice, one a block."""
    made = [[decoded(selected, block)[0] for _ in range(2)][1] for block in blocks]
    # The last first: what is decoded anew takes the place of none that is still to be counted.
    pairs = reversed(list(zip(blocks, made, strict=True)))
    return sum(decoded(selected, block)[0] is field for block, field in pairs)


@pytest.mark.skipif(not _core.COMPILED, reason="the twin keeps nothing")
def test_what_is_kept_is_bounded() -> None:
    """Each line has a place, and there are 1024, which all are used."""
    blocks = [encode([(b"x-number", b"%d" % number)]) for number in range(8192)]
    assert 1000 < kept_of(blocks) <= 1024


@pytest.mark.parametrize("start", [b"/", b"/items/pages", b"/items/pages/and/mor"])
@pytest.mark.skipif(not _core.COMPILED, reason="the twin keeps nothing")
def test_lines_that_differ_in_their_last_bytes_do_not_share_a_place(start: bytes) -> None:
    paths = [start + b"%02d" % number for number in range(50)]
    blocks = [PREFIX + b"\x51" + bytes([len(path)]) + path for path in paths]
    assert kept_of(blocks) >= 40  # One or two share places by chance.
