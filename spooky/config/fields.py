"""What the schema is made of: the base of its sections, units, and descriptions beside fields.

A description, its unit and its hazard are written once, next to the field. The JSON Schema, the
configuration reference and the starter file are all read from there.
"""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct

MAX_MILLISECONDS: Final = 86_400_000  # a day: more is a slip, and every timer must stay finite
MAX_COUNT: Final = 1_000_000_000  # fits every counter with room to add
MAX_BYTES: Final = 1 << 53  # exact in JSON for every reader


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every mapping in the configuration; immutable, unknown keys are errors."""


def described(
    text: str,
    *,
    unit: str = "",
    hazard: str = "",
    path: bool = False,
    secret: bool = False,
    identity: bool = False,
    unordered: bool = False,
) -> Meta:
    """Describe a field.

    Arguments:
        text: What the value means, for operators.
        unit: Unit of a number, if its type does not say.
        hazard: What goes wrong when it is set badly.
        path: The value names a file or directory; a relative one starts at the configuration's
            directory.
        secret: The value, or the content of the file that it names, is never shown.
        identity: The value tells an entry of a list from the others, whatever their order.
        unordered: The order of the list means nothing.
    """
    extra: dict[str, object] = {}
    if unit:
        extra["unit"] = unit
    if hazard:
        extra["hazard"] = hazard
    marks = {"path": path, "secret": secret, "identity": identity, "unordered": unordered}
    extra |= {mark: True for mark, given in marks.items() if given}
    return Meta(description=text, extra=extra)


Milliseconds: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_MILLISECONDS, extra={"unit": "ms"})]
Bytes: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_BYTES, extra={"unit": "bytes"})]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
