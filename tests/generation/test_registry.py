"""Identity-keyed, reference-counted registries."""

import pytest

from spooky.generation.registry import Registry


def test_one_value_for_one_identity_closed_with_its_last_reference() -> None:
    closed: list[object] = []
    registry: Registry[str, object] = Registry(closed.append)
    value = registry.acquire("a", object)
    assert registry.acquire("a", object) is value
    registry.release("a")
    assert closed == []
    registry.release("a")
    assert closed == [value]
    assert len(registry) == 0


def test_a_value_that_cannot_be_made_leaves_no_entry() -> None:
    registry: Registry[str, object] = Registry(lambda _: None)

    def fail() -> object:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        registry.acquire("a", fail)
    assert len(registry) == 0


def test_releasing_what_nobody_holds_is_an_error() -> None:
    registry: Registry[str, object] = Registry(lambda _: None)
    with pytest.raises(KeyError):
        registry.release("a")
