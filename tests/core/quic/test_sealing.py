"""Both sealers open what either sealed, and nothing that anybody touched."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.quic import crypto
from spooky._core.quic.sealing import Sealer as CompiledSealer
from spooky.protocol.quic.sealing import NONCE_BYTES, TAG_BYTES, PackageSealer, Sealer
from tests.core.quic.protection import PROVIDERS

keys = st.binary(min_size=32, max_size=32)


def made_with(provider: str) -> Callable[[bytes], Sealer]:
    def make(key: bytes) -> Sealer:
        crypto.use_provider(provider)
        return CompiledSealer(key)

    return make


SIDES = [PackageSealer, *map(made_with, PROVIDERS)]
sides = st.sampled_from(SIDES)


@pytest.fixture(autouse=True)
def _libcrypto() -> Iterator[None]:
    yield
    crypto.use_provider(crypto.LIBCRYPTO)


@given(sides, sides, keys, st.binary(max_size=100), st.binary(max_size=40))
def test_what_one_sealed_the_other_opens(
    one: Callable[[bytes], Sealer],
    other: Callable[[bytes], Sealer],
    key: bytes,
    plain: bytes,
    associated: bytes,
) -> None:
    sealed = one(key).seal(plain, associated)
    assert len(sealed) == NONCE_BYTES + len(plain) + TAG_BYTES
    assert other(key).open(sealed, associated) == plain


@given(sides, keys, keys, st.binary(max_size=60), st.binary(max_size=20), st.data())
def test_what_was_touched_is_not_opened(
    side: Callable[[bytes], Sealer],
    key: bytes,
    wrong: bytes,
    plain: bytes,
    associated: bytes,
    data: st.DataObject,
) -> None:
    sealer = side(key)
    sealed = sealer.seal(plain, associated)
    touched = bytearray(sealed)
    touched[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    assert sealer.open(bytes(touched), associated) is None
    assert sealer.open(sealed, associated + b"x") is None
    assert sealer.open(sealed[: data.draw(st.integers(0, len(sealed) - 1))], associated) is None
    assert key == wrong or side(wrong).open(sealed, associated) is None
    assert sealer.open(sealed, associated) == plain


@pytest.mark.parametrize("side", SIDES)
def test_no_nonce_comes_twice(side: Callable[[bytes], Sealer]) -> None:
    sealer = side(bytes(32))
    assert len({sealer.seal(b"")[:NONCE_BYTES] for _ in range(200)}) == 200


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        CompiledSealer(bytes(size))
