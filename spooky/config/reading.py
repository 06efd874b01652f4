"""From nodes to the typed configuration, noting every value that is not what it should be."""

import functools
import os
from pathlib import PurePath
from typing import Any

from msgspec import NODEFAULT, inspect

from spooky.config.document import Entries, Items, Node, Scalar
from spooky.config.problems import InvalidValueError, Path, quoted
from spooky.config.report import Report
from spooky.config.scalars import expected, found, read_scalar
from spooky.config.schema import Configuration
from spooky.config.suggestions import suggest_key
from spooky.config.unsupported import REMEDIES, Tree, is_unsupported_value, unsupported_tree

NOT_YET = "not supported yet"


def read_configuration(root: Node, directory: PurePath | None, report: Report) -> Configuration:
    """Return the configuration that a document says.

    Values that cannot be read are reported, and a default or an empty value stands for them, so
    that the rules can look at the rest.

    Arguments:
        root: The document.
        directory: Where relative file names start; ``None`` leaves them as they are.
        report: Where problems go.
    """
    configuration = _Reader(directory, report).read(root, _schema(), (), {})
    assert isinstance(configuration, Configuration)
    return configuration


@functools.cache
def _schema() -> inspect.Type:
    return inspect.type_info(Configuration)


class _Reader:
    def __init__(self, directory: PurePath | None, report: Report) -> None:
        self._directory = directory
        self._report = report

    def read(self, node: Node, type_: inspect.Type, path: Path, extra: dict[str, Any]) -> Any:
        """Return the value of a node as its type; a stand-in if it is no such value.

        Arguments:
            extra: What ``described`` noted: unit, path.
        """
        match type_:
            case inspect.Metadata():
                return self.read(node, type_.type, path, {**extra, **(type_.extra or {})})
            case inspect.UnionType():
                if isinstance(node, Scalar) and node.kind == "null" and _is_optional(type_):
                    return None
                member = _member_for(node, type_)
                if member is not None:
                    return self.read(node, member, path, extra)
            case inspect.StructType() if isinstance(node, Entries):
                return self._read_struct(node, type_, path)
            case inspect.DictType() if isinstance(node, Entries):
                return self._read_map(node, type_, path)
            case inspect.VarTupleType() if isinstance(node, Items):
                return self._read_list(node, type_, path)
            case (
                inspect.StrType() | inspect.IntType() | inspect.FloatType() | inspect.BoolType()
                | inspect.LiteralType()
            ) if isinstance(node, Scalar):  # fmt: skip
                return self._read_scalar(node, type_, path, extra)
        remedy = ""
        if isinstance(type_, inspect.VarTupleType):
            remedy = "start each entry on a line of its own with a dash, or write [a, b]"
        elif isinstance(node, Scalar) and node.kind == "null":
            remedy = "indent its settings below it, or remove the key"
        self._report.broken(path, f"expected {expected(type_)}, found {found(node)}", remedy)
        return _stand_in(type_)

    def _read_scalar(self, node: Scalar, type_: Any, path: Path, extra: dict[str, Any]) -> Any:
        if is_unsupported_value(path, node.text):
            self._report.broken(path, f"{quoted(node.text)} is {NOT_YET}")
            return _stand_in(type_)
        try:
            value = read_scalar(node, type_, str(extra.get("unit", "")))
        except InvalidValueError as error:
            self._report.broken(path, error.message, error.remedy)
            return _stand_in(type_)
        if extra.get("path") and value and self._directory is not None:
            return os.path.normpath(self._directory / str(value))
        return value

    def _read_list(self, node: Items, type_: inspect.VarTupleType, path: Path) -> Any:
        if not node.items and type_.min_length:
            self._report.broken(path, "the list is empty", "give at least one entry")
        values = []
        for i, item in enumerate(node.items):
            below = (*path, i)
            self._report.positions.add(below, None, item.place)
            values.append(self.read(item, type_.item_type, below, {}))
        return tuple(values)

    def _read_map(self, node: Entries, type_: inspect.DictType, path: Path) -> Any:
        if not node.entries and type_.min_length:
            self._report.broken(path, "the mapping is empty", "give at least one entry")
        return {
            key: self.read(value, type_.value_type, (*path, key), {})
            for key, value in self._entries(node, path).items()
        }

    def _read_struct(self, node: Entries, type_: inspect.StructType, path: Path) -> Any:
        fields = {field.name: field for field in type_.fields}
        values: dict[str, Any] = {}
        for key, value in self._entries(node, path).items():
            below = (*path, key)
            if key not in fields:
                self._refuse_key(below, value, [*fields, *(unsupported_tree(path) or ())])
                continue
            if _is_empty_section(value, fields[key]):
                values[key] = _default(fields[key])
                continue
            values[key] = self.read(value, fields[key].type, below, {})
            if self._report.is_broken_itself(below) and not fields[key].required:
                values[key] = _default(fields[key])
        for name, field in fields.items():
            if name not in values and field.required:
                below = (*path, name)
                place = self._report.positions.of_key(path)
                self._report.broken(below, "this key is required", _missing_remedy(field), place)
                values[name] = _stand_in(field.type)
        return type_.cls(**values)

    def _entries(self, node: Entries, path: Path) -> dict[str, Node]:
        """Return the entries of a mapping by name, and note their places."""
        entries = self._collect(node, path)
        for name, (key, value) in entries.items():
            self._report.positions.add((*path, name), key.place, value.place)
        return {name: value for name, (_, value) in entries.items()}

    def _collect(self, node: Entries, path: Path) -> dict[str, tuple[Scalar, Node]]:
        """Return the entries of a mapping by name, merge keys (``<<``) applied."""
        entries: dict[str, tuple[Scalar, Node]] = {}
        merged: list[Entries] = []
        for key, value in node.entries:
            if not isinstance(key, Scalar) or not key.text.strip() or not key.text.isprintable():
                self._report.error_at(key.place, path, "a key must be printable text")
            elif key.kind == "merge":
                merged += self._merge_sources(value, path)
            elif key.text in entries:
                first = entries[key.text][0].place
                self._report.error_at(
                    key.place,
                    (*path, key.text),
                    f"this key is here already{f', on line {first.line}' if first else ''}",
                    "remove one of them",
                )
            else:
                entries[key.text] = (key, value)
        for source in merged:
            entries = {**self._collect(source, path), **entries}
        return entries

    def _merge_sources(self, value: Node, path: Path) -> list[Entries]:
        sources = value.items if isinstance(value, Items) else [value]
        mappings = [source for source in sources if isinstance(source, Entries)]
        if len(mappings) < len(sources):
            self._report.error_at(
                value.place, path, f"<< merges mappings, found {found(value)}", "<<: *anchor"
            )
        return mappings

    def _refuse_key(self, path: Path, value: Node, siblings: list[str]) -> None:
        tree = unsupported_tree(path)
        key = path[-1]
        place = self._report.positions.of_key(path)
        if tree is None:
            remedy = suggest_key(str(key), siblings)
            self._report.broken(path, "there is no such key", remedy, place)
            return
        remedy = REMEDIES.get(path, "remove it")
        self._report.broken(path, f"this key is {NOT_YET}", remedy, place)
        self._refuse_below(path, value, tree)

    def _refuse_below(self, path: Path, node: Node, tree: Tree) -> None:
        """Report the unknown keys inside a part that is not supported yet."""
        if isinstance(node, Items) and "[]" in tree:
            for i, item in enumerate(node.items):
                self._refuse_below((*path, i), item, tree["[]"])
        elif isinstance(node, Entries) and tree:
            for key, value in self._entries(node, path).items():
                below = tree.get(key, tree.get("*"))
                if below is None:
                    self._refuse_key((*path, key), value, list(tree))
                else:
                    self._refuse_below((*path, key), value, below)


def _is_empty_section(node: Node, field: inspect.Field) -> bool:
    """Return whether a key of a section or list has nothing below it, which means the defaults."""
    type_ = field.type.type if isinstance(field.type, inspect.Metadata) else field.type
    return (
        isinstance(node, Scalar)
        and node.kind == "null"
        and not field.required
        and isinstance(type_, inspect.StructType | inspect.VarTupleType)
    )


def _missing_remedy(field: inspect.Field) -> str:
    type_ = field.type
    while isinstance(type_, inspect.Metadata):
        description = (type_.extra_json_schema or {}).get("description")
        if description:
            return f"add {field.name}: {description}"
        type_ = type_.type
    return f"add {field.name}"


def _default(field: inspect.Field) -> Any:
    if field.default is not NODEFAULT:
        return field.default
    return field.default_factory()


def _is_optional(type_: inspect.UnionType) -> bool:
    return any(isinstance(member, inspect.NoneType) for member in type_.types)


def _member_for(node: Node, type_: inspect.UnionType) -> inspect.Type | None:
    """Return the member that a node is meant as: a choice by its word, a number else."""
    members = [member for member in type_.types if not isinstance(member, inspect.NoneType)]
    if len(members) == 1:
        return members[0]
    if not isinstance(node, Scalar) or node.kind not in ("str", "int"):
        return None
    for member in members:
        if isinstance(member, inspect.LiteralType):
            if node.text.lower() in member.values:
                return member
        elif node.kind == "int":
            return member
    return None


def _stand_in(type_: inspect.Type) -> Any:
    """Return a value of a type, for one that could not be read."""
    match type_:
        case inspect.Metadata():
            return _stand_in(type_.type)
        case inspect.UnionType():
            return None if _is_optional(type_) else _stand_in(type_.types[0])
        case inspect.LiteralType():
            return type_.values[0]
        case inspect.IntType() | inspect.FloatType():
            return type_.ge or 0
        case inspect.BoolType():
            return False
        case inspect.VarTupleType():
            return ()
        case inspect.DictType():
            return {}
        case inspect.StructType():
            return type_.cls(
                **{field.name: _stand_in(field.type) for field in type_.fields if field.required}
            )
    return ""
