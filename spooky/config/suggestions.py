"""What was meant by a key that does not exist."""

import difflib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from msgspec import inspect

from spooky.config.schema import Configuration
from spooky.config.unsupported import Tree, unsupported_tree

ELSEWHERE_MAX: Final = 3  # more places than this are no help


def suggest_key(key: str, siblings: Iterable[str]) -> str:
    """Return a remedy for an unknown key, or an empty text.

    Arguments:
        key: The key.
        siblings: The keys that exist at its place.
    """
    names = list(siblings)
    near = difflib.get_close_matches(key.lower(), names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    elsewhere = list(_places().get(key, ()))[:ELSEWHERE_MAX]
    if elsewhere:
        return f"this key exists at {', '.join(elsewhere)}"
    return f"the keys here are {', '.join(names)}" if names else ""


@cache
def _places() -> dict[str, dict[str, None]]:
    """Return the paths at which each key exists: those that work first, and the shorter first."""
    places: dict[str, dict[str, None]] = {}
    working = _schema_paths(inspect.type_info(Configuration), "")
    not_yet = _tree_paths(unsupported_tree(()) or {}, "")
    for paths in (working, not_yet):
        for path in sorted(paths, key=lambda path: path.count(".")):
            places.setdefault(path.rpartition(".")[2], {})[path] = None
    return places


def _schema_paths(type_: inspect.Type, path: str) -> Iterator[str]:
    match type_:
        case inspect.Metadata():
            yield from _schema_paths(type_.type, path)
        case inspect.UnionType():
            for member in type_.types:
                yield from _schema_paths(member, path)
        case inspect.VarTupleType():
            yield from _schema_paths(type_.item_type, f"{path}[]")
        case inspect.DictType():
            yield from _schema_paths(type_.value_type, f"{path}.<name>")
        case inspect.StructType():
            for field in type_.fields:
                below = f"{path}.{field.name}" if path else field.name
                yield below
                yield from _schema_paths(field.type, below)


def _tree_paths(tree: Tree, path: str) -> Iterator[str]:
    for name, below in tree.items():
        if name == "[]":
            yield from _tree_paths(below, f"{path}[]")
        elif name == "*":
            yield from _tree_paths(below, f"{path}.<name>")
        else:
            place = f"{path}.{name}" if path else name
            yield place
            yield from _tree_paths(below, place)
