"""What must be in force, as `If-Match` says it."""

import hashlib

import pytest

from spooky.control.change import StaleError
from spooky.control.history import Record, Source
from spooky.control.preconditions import MalformedError, expected_number, read_if_match

TEXT = "version: 1\n"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()
IN_FORCE = Record(
    number=6, time=0, source=Source.APPLY, path="", text=TEXT, files={}, origin=6, requested_by=""
)


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("*", None),
        ('"5"', ("5",)),
        ("5", ("5",)),
        ('"5", "6"', ("5", "6")),
        ('"5","6" ,, "7"', ("5", "6", "7")),
        ('W/"5"', ()),
        ('W/"5", "6"', ("6",)),
        ('"a,b", "6"', ("a,b", "6")),
        (f'"{DIGEST}"', (DIGEST,)),
    ],
)
def test_entity_tags_are_read_and_weak_ones_match_nothing(
    value: str, allowed: tuple[str, ...] | None
) -> None:
    assert read_if_match([value]) == allowed


def test_lines_of_the_field_are_one_list() -> None:
    assert read_if_match(['"5"', '"6"']) == ("5", "6")


@pytest.mark.parametrize("value", ["", ",", '"5', '5"', '"5" "6"', '*, "5"', 'w/"5"', "seven"])
def test_what_is_no_list_of_entity_tags_is_refused(value: str) -> None:
    with pytest.raises(MalformedError, match="no list of entity tags"):
        read_if_match([value])


@pytest.mark.parametrize("allowed", [("5", "6"), (DIGEST,), ("x", DIGEST), ("6",)])
def test_any_of_a_list_may_be_in_force(allowed: tuple[str, ...]) -> None:
    assert expected_number(allowed, IN_FORCE) == 6


@pytest.mark.parametrize("allowed", [("4", "5"), ("f" * 64,), (), ("06",), ("x",)])
def test_a_list_that_names_something_else_is_stale(allowed: tuple[str, ...]) -> None:
    with pytest.raises(StaleError, match="generation 6 is in force"):
        expected_number(allowed, IN_FORCE)


def test_one_generation_is_held_against_what_is_in_force_when_its_turn_comes() -> None:
    assert expected_number(("7",), IN_FORCE) == 7
