"""Identity-keyed, reference-counted registries."""

import pytest

from spooky.generation.registry import Registry


def test_one_value_for_one_identity_given_back_with_its_last_reference() -> None:
    registry: Registry[str, object] = Registry()
    value = registry.acquire("a", object)
    assert registry.acquire("a", object) is value
    assert registry.release("a") is None
    assert registry.release("a") is value
    assert len(registry) == 0


def test_a_value_that_cannot_be_made_leaves_no_entry() -> None:
    registry: Registry[str, object] = Registry()

    def fail() -> object:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        registry.acquire("a", fail)
    assert len(registry) == 0


def test_releasing_what_nobody_holds_is_an_error() -> None:
    registry: Registry[str, object] = Registry()
    with pytest.raises(KeyError):
        registry.release("a")
