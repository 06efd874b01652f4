"""What must be in force for a change, as whoever asks for it says (RFC 9110, section 13.1.1)."""

import hashlib
import re
from collections.abc import Collection, Sequence
from typing import Final

from spooky.control.change import StaleError
from spooky.control.history import Record

EXPECTED: Final = r"[0-9]{1,18}|[0-9a-f]{64}"
"""A generation, or the SHA-256 of its text."""

_BARE: Final = re.compile(EXPECTED)
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
# An entity tag may have commas in it. A list may have empty elements (section 5.6.1).
_ELEMENT: Final = re.compile(
    r"""[ \t]*+(?:(?P<weak>W/)?"(?P<tag>[\x21\x23-\x7e\x80-\uffff]*)")?[ \t]*(?:,|$)"""
)


class MalformedError(ValueError):
    """It is no list of entity tags; says so."""


def read_if_match(values: Sequence[str]) -> tuple[str, ...] | None:
    """Return what may be in force; ``None`` for anything, and nothing for what never matches.

    Arguments:
        values: Of the lines of the field, in their order.

    Raises:
        MalformedError: They are none of this field.
    """
    value = ", ".join(values).strip(" \t")
    if value == "*":
        return None
    if _BARE.fullmatch(value):
        # Without its quotes, as people write it.
        return (value,)
    tags, at, any_tag = [], 0, False
    while at < len(value):
        if (found := _ELEMENT.match(value, at)) is None:
            break
        at = found.end()
        if found["tag"] is not None:
            any_tag = True
            # Compared strongly, a weak one is equal to none.
            tags += [found["tag"]] * (found["weak"] is None)
    if at < len(value) or not any_tag:
        raise MalformedError(
            'If-Match is no list of entity tags: of generations, such as "12", or of the SHA-256 '
            "of texts"
        )
    return tuple(tags)


def expected_number(allowed: Collection[str], in_force: Record) -> int:
    """Return the generation that must be in force when the change is made.

    Arguments:
        allowed: Generations, and SHA-256 of texts.
        in_force: What is.

    Raises:
        StaleError: Something else is.
    """
    if len(allowed) == 1 and _NUMBER.fullmatch(only := next(iter(allowed))):
        # Whether it is in force is seen when the changes before are made.
        return int(only)
    now = hashlib.sha256(in_force.text.encode()).hexdigest()
    if str(in_force.number) in allowed or now in allowed:
        return in_force.number
    wanted = " or ".join(allowed) or "what no generation is, as weak tags match none"
    raise StaleError(
        f"generation {in_force.number} is in force, whose text has the SHA-256 {now}, not "
        f"{wanted}: look at it first"
    )
