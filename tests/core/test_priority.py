"""The value of the priority field (RFC 9218 section 4, RFC 8941)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import _core
from spooky._core import priority as compiled
from spooky._core.priority import DEFAULT_PRIORITY, Priority, parse_priority
from spooky._core.pure import priority as pure

PIECES = st.lists(
    st.sampled_from([
        b"u", b"i", b"=", b"3", b"0", b"7", b"8", b"-", b".", b"?0", b"?1", b",", b", ", b" ",
        b"\t", b";", b"x", b"*", b"(", b")", b'"', b"\\", b":", b"YQ==", b"u=1", b"i=?0", b"\x80",
    ])
    | st.binary(max_size=2),
    max_size=12,
).map(b"".join)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", (3, False)),
        (b"u=0", (0, False)),
        (b"u=7, i", (7, True)),
        (b"i, u=5", (5, True)),
        (b"  u=1\t,\ti  ", (1, True)),
        (b"i=?0", (3, False)),
        (b"i=?1", (3, True)),
        (b"u=2;v=1.5, i;a;b=?0", (2, True)),
        (b"u=2, unknown, other=(1 a;q=1 \"x\\\"y\"), blob=:aGk=:, t=*tok/en, i", (2, True)),
        (b"u=1, u=4", (4, False)),
        (b"i=?0, i", (3, True)),
    ],
)  # fmt: skip
def test_what_is_said(value: bytes, expected: tuple[int, bool]) -> None:
    assert parse_priority(value, DEFAULT_PRIORITY) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"u=8", b"u=-1", b"u=2.0", b"u", b"u=?1", b"u=a", b'u="1"', b"u=:MQ==:", b"u=(1)",
        b"u=1, u=9", b"i=1", b"i=0", b"i=true", b"i=(?1)", b"u=999999999999999",
    ],
)  # fmt: skip
def test_values_out_of_range_or_of_another_type_are_ignored(value: bytes) -> None:
    """RFC 9218 section 4: they are, and the rest of the value is not."""
    assert parse_priority(value, DEFAULT_PRIORITY) == DEFAULT_PRIORITY
    assert parse_priority(value + b", extra", Priority(6, True)) == (6, True)


@pytest.mark.parametrize(
    "value",
    [
        b"u=1,", b",", b"u=1 i", b"u=", b"u=1;", b"U=1", b"1=u", b"u=1,,i", b"u=1, i=?2", b"i=?",
        b"u=1000000000000000", b"u=1.", b"u=1.2345", b"u=1234567890123.1", b"u=-", b'a="x',
        b'a="\\x"', b'a="\x7f"', b"a=:YQ==", b"a=:YQ-=:", b"a=(1", b"a=(1,2)", b'a=(1"x")', b"a=@1",
        b'a=%"x"', b"\tu=1", b"u=1\0", b"\xff", b"u =1",
    ],
)  # fmt: skip
def test_a_malformed_value_says_nothing(value: bytes) -> None:
    """RFC 8941 section 4.2: the entire field is ignored."""
    assert parse_priority(value, DEFAULT_PRIORITY) is None


def test_what_is_not_named_stays_as_it_was() -> None:
    """RFC 9218 section 8, with its own example."""
    client = parse_priority(b"u=5, i", DEFAULT_PRIORITY)
    assert client is not None
    assert parse_priority(b"u=1", client) == (1, True)
    assert parse_priority(b"i=?0", client) == (5, False)
    assert parse_priority(b"u=9, other", client) == client


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
@given(PIECES | st.binary(max_size=30), st.integers(0, 7), st.booleans())
def test_the_kernel_and_its_twin_agree(value: bytes, urgency: int, incremental: bool) -> None:
    base = Priority(urgency, incremental)
    assert compiled.parse_priority(value, base) == pure.parse_priority(value, base)
