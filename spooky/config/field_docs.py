"""What the schema says about its fields, for people: one reading for every page made of it."""

import inspect as python_inspect
import typing
from collections.abc import Iterator
from typing import Any, Final, Literal

from msgspec import NODEFAULT, Struct, inspect

from spooky.config.fields import MAX_COUNT
from spooky.config.scalars import expected

BOUNDLESS: Final = MAX_COUNT
"""Bounds from here on only keep arithmetic sound; nobody wants to read them."""


class FieldDoc(Struct, frozen=True):
    """What there is to know about one key.

    Attributes:
        name: The key.
        type: What it takes, in words.
        default: Its default as YAML; empty for sections; ``None`` if the key is required.
        unit: Unit of a number; may be empty.
        text: What it means.
        hazard: What goes wrong when it is set badly; may be empty.
        section: The type of the mapping below it, itself or as entries; ``None`` if there is none.
        suffix: What follows the key in paths to that: ``[]``, ``.<name>`` or nothing.
    """

    name: str
    type: str
    default: str | None
    unit: str
    text: str
    hazard: str
    section: inspect.StructType | None
    suffix: str


def field_docs(section: inspect.StructType) -> Iterator[FieldDoc]:
    """Yield what there is to know about each key of a section, in the order of the schema."""
    hints = typing.get_type_hints(section.cls, include_extras=True)
    for field in section.fields:
        type_, extra, text = _unwrap(field.type)
        below, suffix = _section(type_)
        yield FieldDoc(
            name=field.name,
            type=_in_words(type_, hints[field.name]),
            default=_default(field),
            unit=str(extra.get("unit", "")),
            text=text,
            hazard=str(extra.get("hazard", "")),
            section=below,
            suffix=suffix,
        )


def section_text(section: inspect.StructType) -> str:
    """Return what a section is, in one line."""
    return " ".join(python_inspect.cleandoc(section.cls.__doc__ or "").split())


def to_yaml(value: object) -> str:
    """Return a default as YAML writes it on one line."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case "":
            return '""'
        case tuple():
            return f"[{', '.join(map(str, value))}]"
    return str(value)


def _unwrap(type_: inspect.Type) -> tuple[inspect.Type, dict[str, Any], str]:
    """Return a type without what was noted at it, and that: extra and description."""
    extra: dict[str, Any] = {}
    text = ""
    while True:
        if isinstance(type_, inspect.Metadata):
            extra.update(type_.extra or {})
            text = text or (type_.extra_json_schema or {}).get("description", "")
            type_ = type_.type
        elif isinstance(type_, inspect.UnionType):
            others = [member for member in type_.types if member != inspect.NoneType()]
            if len(others) > 1:
                return type_, extra, text
            type_ = others[0]
        else:
            return type_, extra, text


def _section(type_: inspect.Type) -> tuple[inspect.StructType | None, str]:
    match type_:
        case inspect.StructType():
            return type_, ""
        case inspect.VarTupleType(item_type=inspect.StructType() as item):
            return item, "[]"
        case inspect.DictType(value_type=inspect.StructType() as item):
            return item, ".<name>"
    return None, ""


def _in_words(type_: inspect.Type, hint: Any) -> str:
    match type_:
        case inspect.Metadata():
            return _in_words(type_.type, hint)
        case inspect.UnionType():
            return " or ".join(_in_words(member, hint) for member in type_.types)
        case inspect.LiteralType():
            choices = ", ".join(f"`{choice}`" for choice in _choices(hint))
            return choices if len(type_.values) == 1 else f"one of {choices}"
        case inspect.VarTupleType(item_type=inspect.StructType()):
            return "list of sections"
        case inspect.VarTupleType(item_type=item):
            return "list of whole numbers" if _is_number(item) else "list of texts"
        case inspect.DictType(value_type=inspect.StructType()):
            return "sections by name"
        case inspect.DictType():
            return f"by name: {_in_words(type_.value_type, hint)}"
        case inspect.StructType():
            return "section"
        case inspect.IntType() if type_.le is not None and type_.le >= BOUNDLESS:
            return f"whole number, {type_.ge} or more"
        case inspect.IntType() | inspect.FloatType():
            noun = "whole number" if isinstance(type_, inspect.IntType) else "number"
            return f"{noun}, {type_.ge} to {type_.le}"
    return expected(type_)


def _is_number(type_: inspect.Type) -> bool:
    return isinstance(_unwrap(type_)[0], inspect.IntType)


def _choices(hint: Any) -> tuple[Any, ...]:
    """Return the values of a ``Literal`` in the order in which they were written."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    for argument in typing.get_args(hint):
        choices = _choices(argument)
        if choices:
            return choices
    return ()


def _default(field: inspect.Field) -> str | None:
    if field.required:
        return None
    value = field.default_factory() if field.default is NODEFAULT else field.default
    return "" if isinstance(value, Struct) else to_yaml(value)
