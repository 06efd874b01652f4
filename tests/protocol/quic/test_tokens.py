"""Tokens that prove an address: what they are bound to, and for how long (attack 16)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.packet import VERSION_1, VERSION_2
from spooky.protocol.quic.session import Address
from spooky.protocol.quic.tokens import (
    CLOCK_STEP_SECONDS,
    NEW_TOKEN_SECONDS,
    RETRY_TOKEN_SECONDS,
    STORED_TOKEN_MAX_BYTES,
    STORED_TOKENS_PER_SERVER,
    TOKEN_MAX_BYTES,
    TOKEN_MIN_BYTES,
    AddressProof,
    AddressTokens,
    InvalidTokenError,
    TokenStore,
    UsedTokens,
)

KEYS = Keys(1, b"a" * 32, (), b"f" * 32)
TOKENS = AddressTokens(KEYS)
PEER: Address = ("192.0.2.1", 50_000)
ORIGINAL = b"original-id"
RETRY_ID = b"\x07retryid"
NOW = 1_700_000_000.25

ELSEWHERE: list[Address] = [
    ("192.0.2.2", 50_000),
    ("2001:db8::1", 50_000, 0, 0),
    ("::192.0.2.1", 50_000, 0, 0),
]


def for_retry() -> bytes:
    return TOKENS.for_retry(PEER, ORIGINAL, RETRY_ID, NOW)


def test_the_token_of_a_retry_names_the_packet_it_answered() -> None:
    """RFC 9000 section 8.1.2: the server has to state it in its transport parameters."""
    proof = TOKENS.check(for_retry(), PEER, RETRY_ID, VERSION_1, NOW + 1)
    assert proof is not None
    assert proof.original_destination_connection_id == ORIGINAL


def test_the_longest_connection_id_fits() -> None:
    token = TOKENS.for_retry(PEER, bytes(20), RETRY_ID, NOW)
    assert len(token) == TOKEN_MAX_BYTES
    proof = TOKENS.check(token, PEER, RETRY_ID, VERSION_1, NOW)
    assert proof is not None
    assert proof.original_destination_connection_id == bytes(20)


@pytest.mark.parametrize("peer", [*ELSEWHERE, ("192.0.2.1", 50_001)])
def test_the_token_of_a_retry_is_invalid_from_elsewhere(peer: Address) -> None:
    with pytest.raises(InvalidTokenError):
        TOKENS.check(for_retry(), peer, RETRY_ID, VERSION_1, NOW + 1)


def test_the_token_of_a_retry_is_invalid_on_another_connection() -> None:
    with pytest.raises(InvalidTokenError):
        TOKENS.check(for_retry(), PEER, b"\x07another", VERSION_1, NOW + 1)


def test_the_token_of_a_retry_serves_for_seconds() -> None:
    """RFC 9000 section 8.1.3: short, as clients return it at once."""
    assert RETRY_TOKEN_SECONDS <= 30
    assert (
        TOKENS.check(for_retry(), PEER, RETRY_ID, VERSION_1, NOW + RETRY_TOKEN_SECONDS - 1)
        is not None
    )
    assert (
        TOKENS.check(for_retry(), PEER, RETRY_ID, VERSION_1, NOW - CLOCK_STEP_SECONDS + 1)
        is not None
    )
    for now in (NOW + RETRY_TOKEN_SECONDS, NOW - CLOCK_STEP_SECONDS - 1):
        with pytest.raises(InvalidTokenError):
            TOKENS.check(for_retry(), PEER, RETRY_ID, VERSION_1, now)


def test_the_token_of_a_new_token_frame_serves_any_connection_and_port_of_the_address() -> None:
    token = TOKENS.for_later(PEER, VERSION_1, NOW)
    for port in (50_000, 1):
        proof = TOKENS.check(
            token, ("192.0.2.1", port), b"whatever", VERSION_1, NOW + NEW_TOKEN_SECONDS - 1
        )
        assert proof is not None
        assert proof.original_destination_connection_id is None


@pytest.mark.parametrize("peer", ELSEWHERE)
def test_the_token_of_a_new_token_frame_is_no_token_from_elsewhere(peer: Address) -> None:
    """RFC 9000 section 8.1.3: then the server goes on as if there were none."""
    assert (
        TOKENS.check(TOKENS.for_later(PEER, VERSION_1, NOW), peer, b"whatever", VERSION_1, NOW + 1)
        is None
    )


def test_the_token_of_a_new_token_frame_is_no_token_when_it_is_too_old() -> None:
    token = TOKENS.for_later(PEER, VERSION_1, NOW)
    assert TOKENS.check(token, PEER, b"whatever", VERSION_1, NOW + NEW_TOKEN_SECONDS) is None


def test_the_token_of_a_new_token_frame_is_no_token_in_another_version() -> None:
    """RFC 9369 section 5."""
    for told, shown in ((VERSION_1, VERSION_2), (VERSION_2, VERSION_1)):
        token = TOKENS.for_later(PEER, told, NOW)
        assert TOKENS.check(token, PEER, b"whatever", told, NOW) is not None
        assert TOKENS.check(token, PEER, b"whatever", shown, NOW) is None


def test_a_client_shows_a_token_in_the_version_that_it_was_given_in() -> None:
    """RFC 9369 section 5."""
    store = TokenStore()
    store.put("example.test", VERSION_2, b"token")
    assert store.take("example.test", VERSION_1) == b""
    assert store.take("example.test", VERSION_2) == b"token"


def test_an_address_of_ipv4_is_the_same_when_it_is_mapped_or_has_a_zone() -> None:
    mapped: Address = ("::ffff:192.0.2.1", 50_000, 0, 0)
    assert TOKENS.check(for_retry(), mapped, RETRY_ID, VERSION_1, NOW) is not None
    link_local: Address = ("fe80::1%eth0", 5, 0, 3)
    assert (
        TOKENS.check(TOKENS.for_later(link_local, VERSION_1, NOW), link_local, b"", VERSION_1, NOW)
        is not None
    )


def test_tokens_outlive_one_rotation_of_the_keys_and_not_two() -> None:
    once = KEYS.rotated(b"b" * 32)
    twice = once.rotated(b"c" * 32)
    assert AddressTokens(once).check(for_retry(), PEER, RETRY_ID, VERSION_1, NOW) is not None
    assert AddressTokens(twice).check(for_retry(), PEER, RETRY_ID, VERSION_1, NOW) is None
    assert (
        TOKENS.check(AddressTokens(once).for_later(PEER, VERSION_1, NOW), PEER, b"", VERSION_1, NOW)
        is None
    )


def test_two_tokens_have_nothing_in_common() -> None:
    """RFC 9000 section 8.1.3: connections cannot be linked by them."""
    one, other = (TOKENS.for_later(PEER, VERSION_1, NOW) for _ in range(2))
    assert sum(a == b for a, b in zip(one, other, strict=True)) < len(one) // 4


@given(st.data())
def test_what_was_changed_is_not_ours(data: st.DataObject) -> None:
    token = data.draw(st.sampled_from([for_retry(), TOKENS.for_later(PEER, VERSION_1, NOW)]))
    changed = bytearray(token)
    changed[data.draw(st.integers(0, len(token) - 1))] ^= data.draw(st.integers(1, 255))
    assert TOKENS.check(bytes(changed), PEER, RETRY_ID, VERSION_1, NOW) is None


@given(st.binary(max_size=2 * TOKEN_MAX_BYTES))
def test_what_others_made_is_no_token(token: bytes) -> None:
    """RFC 9000 section 8.1.3: it may come from another server at this address."""
    assert TOKENS.check(token, PEER, RETRY_ID, VERSION_1, NOW) is None


@pytest.mark.parametrize("size", [0, TOKEN_MIN_BYTES - 1, TOKEN_MAX_BYTES + 1, 1100])
def test_what_cannot_be_a_token_is_not_decrypted(size: int) -> None:
    class Refusing:
        def seal(self, *_: object) -> bytes:
            raise AssertionError("it was")

        def open(self, *_: object) -> bytes:
            raise AssertionError("it was")

    tokens = AddressTokens(KEYS)
    tokens._sealers = (Refusing(),)  # type: ignore[assignment]
    assert tokens.check(bytes(size), PEER, RETRY_ID, VERSION_1, NOW) is None


def test_used_tokens_are_remembered_up_to_a_bound() -> None:
    used = UsedTokens(capacity=3)
    proofs = [AddressProof(bytes((n,)), None) for n in range(5)]
    for proof in proofs:
        assert proof not in used
        used.add(proof)
        assert proof in used
    assert [proof in used for proof in proofs] == [False, False, True, True, True]


def test_a_client_uses_a_token_once_the_newest_first() -> None:
    """RFC 9000 section 8.1.3."""
    store = TokenStore()
    for token in (b"one", b"two"):
        store.put("example.test", VERSION_1, token)
    store.put("other.test", VERSION_1, b"three")
    assert [store.take("example.test", VERSION_1) for _ in range(3)] == [b"two", b"one", b""]
    assert store.take("other.test", VERSION_1) == b"three"
    assert len(store) == 0


def test_a_client_keeps_few_tokens_of_few_servers() -> None:
    store = TokenStore(capacity=2)
    for name in ("a", "b", "a", "c"):
        for number in range(2 * STORED_TOKENS_PER_SERVER):
            store.put(name, VERSION_1, f"{name}{number}".encode())
    assert len(store) == 2 * STORED_TOKENS_PER_SERVER
    assert store.take("b", VERSION_1) == b""
    assert store.take("a", VERSION_1) == f"a{2 * STORED_TOKENS_PER_SERVER - 1}".encode()


def test_a_client_drops_tokens_that_do_not_fit_its_first_packet() -> None:
    store = TokenStore()
    store.put("example.test", VERSION_1, b"")
    store.put("example.test", VERSION_1, bytes(STORED_TOKEN_MAX_BYTES + 1))
    assert len(store) == 0
    store.put("example.test", VERSION_1, bytes(STORED_TOKEN_MAX_BYTES))
    assert store.take("example.test", VERSION_1) == bytes(STORED_TOKEN_MAX_BYTES)


def test_without_its_limits_a_token_of_a_retry_serves_for_ever() -> None:
    """Attack 16: whoever has recorded one begins connections with it at any time."""
    endless, later = AddressTokens(KEYS, retry_seconds=10.0**9), NOW + 1_000
    with pytest.raises(InvalidTokenError):
        TOKENS.check(for_retry(), PEER, RETRY_ID, VERSION_1, later)
    proof = endless.check(for_retry(), PEER, RETRY_ID, VERSION_1, later)
    assert proof is not None
    remembering, forgetful = UsedTokens(), UsedTokens(capacity=0)
    for used in (remembering, forgetful):
        used.add(proof)
    assert proof in remembering
    assert proof not in forgetful
