"""What must be said of every key of the configuration where it is added."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator

from msgspec import inspect

from spooky.config.inventory import schema_leaves
from spooky.config.schema import Configuration
from spooky.control import effects

SOUNDS_SECRET = re.compile(r"(secret|password|passphrase|token|tokens|keys)$")


def sections(type_: inspect.Type) -> Iterator[inspect.StructType]:
    """Yield every section that a type of the schema has in it."""
    match type_:
        case inspect.Metadata():
            yield from sections(type_.type)
        case inspect.UnionType():
            for member in type_.types:
                yield from sections(member)
        case inspect.DictType():
            yield from sections(type_.value_type)
        case inspect.VarTupleType():
            yield from sections(type_.item_type)
        case inspect.StructType():
            yield type_
            for field in type_.fields:
                yield from sections(field.type)


def is_identity(field: inspect.Field) -> bool:
    type_ = field.type
    while isinstance(type_, inspect.Metadata):
        if (type_.extra or {}).get("identity"):
            return True
        type_ = type_.type
    return False


def listed(section: inspect.StructType) -> Iterator[inspect.StructType]:
    """Yield the sections that a section has lists of."""
    for field in section.fields:
        type_ = field.type
        while isinstance(type_, inspect.Metadata):
            type_ = type_.type
        if isinstance(type_, inspect.VarTupleType):
            yield from itertools.islice(sections(type_.item_type), 1)


def test_every_key_has_exactly_one_effect() -> None:
    """A plan says what a change of it takes: `spooky/control/effects.py`."""
    stated = Counter(path for path, _ in effects.stated())
    assert stated == Counter({leaf.path: 1 for leaf in schema_leaves()})


def test_every_key_that_sounds_secret_is_marked_as_such() -> None:
    """`described(..., secret=True)` keeps its value out of plans."""
    leaves = [leaf for leaf in schema_leaves() if SOUNDS_SECRET.search(leaf.path)]
    assert [leaf.path for leaf in leaves if not leaf.secret] == []


def test_the_entries_of_every_list_of_sections_are_told_apart() -> None:
    """`described(..., identity=True)`: by their place, an insertion would change all after it."""
    every = sections(inspect.type_info(Configuration))
    entries = {item.cls.__name__: item for section in every for item in listed(section)}
    assert entries
    anonymous = [name for name, item in entries.items() if not any(map(is_identity, item.fields))]
    assert anonymous == []
