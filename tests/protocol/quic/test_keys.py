"""Secrets that all workers share, and their rotation."""

from spooky.protocol.quic.keys import RESET, TICKET, TOKEN, Keys

KEYS = Keys(1, b"a" * 32, (), b"f" * 32)


def test_each_purpose_has_keys_of_its_own() -> None:
    derived = {KEYS.derived(TICKET), KEYS.derived(TOKEN), (KEYS.derived_fixed(RESET),)}
    assert len(derived) == 3
    assert all(len(keys[0]) == 32 for keys in derived)


def test_a_rotation_keeps_the_secret_before_and_forgets_the_one_before_that() -> None:
    once = KEYS.rotated(b"b" * 32)
    assert once.number == 2
    assert once.derived(TICKET)[1] == KEYS.derived(TICKET)[0] != once.derived(TICKET)[0]
    twice = once.rotated(b"c" * 32)
    assert twice.derived(TICKET)[1:] == once.derived(TICKET)[:1]
    assert twice.derived_fixed(RESET) == KEYS.derived_fixed(RESET)
