"""The compiled scan and its twin give the same verdict for every input."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import qpack as compiled
from spooky._core.pure import qpack as pure
from tests.core.test_qpack import BLOCKS, FIELDS, encode

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")


def test_verdicts_have_the_same_numbers() -> None:
    for name in ("WITHIN_LIMITS", "TOO_MANY_FIELDS", "TOO_LARGE", "MALFORMED"):
        assert getattr(compiled, name) == getattr(pure, name)


@settings(max_examples=1500)
@given(
    st.one_of(BLOCKS, FIELDS.map(encode)),
    st.integers(0, 12),
    st.integers(0, 300),
    st.integers(0, 200),
)
def test_verdicts(block: bytes, count: int, size: int, cut: int) -> None:
    assert compiled.scan(block, count, size) == pure.scan(block, count, size)
    assert compiled.scan(block[:cut], 100, 10_000) == pure.scan(block[:cut], 100, 10_000)
