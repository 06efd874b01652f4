"""The key schedule is that of RFC 8446 section 7.1: by RFC 8448's trace, and aioquic's."""

from collections.abc import Iterator

import pytest
from aioquic import tls
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.quic import crypto
from spooky._core.quic.key_schedule import KeySchedule
from tests.core.quic.protection import PROVIDERS, SUITES

suites = st.sampled_from(SUITES)
messages = st.lists(st.binary(max_size=300), max_size=3)


@pytest.fixture(autouse=True)
def _libcrypto() -> Iterator[None]:
    yield
    crypto.use_provider(crypto.LIBCRYPTO)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_secrets_are_those_of_rfc_8448(provider: str) -> None:
    """Section 3, from the hash of ClientHello and ServerHello on, which is the label's context."""
    crypto.use_provider(provider)
    early = crypto.hkdf_extract("sha256", bytes(32), bytes(32))
    assert early.hex() == "33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a"
    schedule = KeySchedule(0x1301)
    shared = bytes.fromhex("8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d")
    schedule.advance(shared)
    handshake = bytes.fromhex("1dc826e93606aa6fdc0aadc12f741b01046aa6b99f691ed221a9f0ca043fbeac")
    empty = tls.hashes.Hash(tls.hashes.SHA256()).finalize()
    assert schedule.derive(b"any") == crypto.hkdf_expand_label(
        "sha256", handshake, b"any", empty, 32
    )
    schedule.advance()
    main = bytes.fromhex("18df06843d13a08bf2a449844c5f8a478001bc4d4c627984d5a41da8d0402919")
    assert schedule.derive(b"any") == crypto.hkdf_expand_label("sha256", main, b"any", empty, 32)


@given(
    suites,
    st.none() | st.binary(min_size=48, max_size=48),
    st.binary(min_size=32, max_size=56),
    messages,
    messages,
    st.sampled_from(PROVIDERS),
)
def test_every_value_is_aioquics(
    suite: int,
    pre_shared_key: bytes | None,
    shared: bytes,
    hello: list[bytes],
    rest: list[bytes],
    provider: str,
) -> None:
    crypto.use_provider(provider)
    ours, theirs = KeySchedule(suite, pre_shared_key), tls.KeySchedule(tls.CipherSuite(suite))
    theirs.extract(pre_shared_key)
    assert ours.hash_length == theirs.algorithm.digest_size
    assert ours.binder_key() == theirs.derive_secret(b"res binder")
    for part in hello:
        ours.update(part)
        theirs.update_hash(part)
    assert ours.transcript() == theirs.hash.copy().finalize()
    binder_key = ours.binder_key()
    assert ours.verify_data(binder_key) == theirs.finished_verify_data(binder_key)
    ours.advance(shared)
    theirs.extract(shared)
    secret = ours.derive(b"c hs traffic")
    assert secret == theirs.derive_secret(b"c hs traffic")
    for part in rest:
        ours.update(part)
        theirs.update_hash(part)
    assert ours.verify_data(secret) == theirs.finished_verify_data(secret)
    ours.advance()
    theirs.extract(None)
    assert ours.derive(b"s ap traffic") == theirs.derive_secret(b"s ap traffic")
    assert ours.resumption_secret(b"\x07") == tls.hkdf_expand_label(
        theirs.algorithm,
        theirs.derive_secret(b"res master"),
        b"resumption",
        b"\x07",
        theirs.algorithm.digest_size,
    )


@pytest.mark.parametrize("suite", [0x1300, 0x1304, 0])
def test_other_cipher_suites_are_refused(suite: int) -> None:
    with pytest.raises(ValueError, match="no cipher suite"):
        KeySchedule(suite)
