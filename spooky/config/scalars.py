"""From single YAML values to typed ones, with errors that name YAML 1.1's traps."""

import difflib
import math
import re
from typing import Final, TypeAlias

from msgspec import inspect

from spooky.config.document import Entries, Items, Node, Scalar
from spooky.config.problems import InvalidValueError, quoted

ScalarType: TypeAlias = (
    inspect.StrType | inspect.IntType | inspect.FloatType | inspect.BoolType | inspect.LiteralType
)

_YAML_KINDS: Final = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")
_TRUE: Final = ("true", "yes", "on")  # the words of YAML 1.1 that PyYAML knows, in any case
_FALSE: Final = ("false", "no", "off")
_INT_DIGITS_MAX: Final = 40  # far beyond any bound; int() takes quadratic time on long ones
_PLAUSIBLE_MAX: Final = 1e15  # no one means a larger number, and floats are exact below it
_OCTAL: Final = re.compile(r"0[0-7]+")

_WITH_UNIT: Final = re.compile(r"(\d+(?:\.\d+)?) ?([a-zA-Z]+)")
_FACTORS: Final = {
    "ms": {"ms": 1, "s": 1_000, "sec": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000},
    "bytes": {
        "b": 1, "k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mb": 1 << 20,
        "mib": 1 << 20, "g": 1 << 30, "gb": 1 << 30, "gib": 1 << 30,
    },
}  # fmt: skip
"""By unit of a setting: what people write after a number, and what it multiplies by."""


def read_scalar(node: Scalar, type_: ScalarType, unit: str) -> object:
    """Return the value of a node as its type.

    Arguments:
        node: The node.
        type_: What is expected.
        unit: Unit of a number, for remedies.

    Raises:
        InvalidValueError: The node is no such value.
    """
    if node.kind not in _YAML_KINDS:
        found = node.kind if node.kind.startswith("a Python") else f"the tag {quoted(node.kind)}"
        raise InvalidValueError(f"expected {expected(type_)}, found {found}")
    match type_:
        case inspect.LiteralType():
            return _read_choice(node, type_)
        case inspect.StrType():
            return _read_text(node, type_)
        case inspect.IntType():
            return _in_range(_read_int(node, type_, unit), type_)
        case inspect.FloatType():
            return _in_range(_read_float(node, type_), type_)
        case inspect.BoolType():
            return _read_bool(node, type_)


def expected(type_: inspect.Type) -> str:
    """Return in words what a type takes."""
    match type_:
        case inspect.Metadata():
            return expected(type_.type)
        case inspect.LiteralType(values=(value,)):
            return str(value)
        case inspect.LiteralType():
            return f"one of {', '.join(str(value) for value in type_.values)}"
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(type_, inspect.IntType) else "a number"
            return f"{noun} from {type_.ge} to {type_.le}"
        case inspect.BoolType():
            return "true or false"
        case inspect.VarTupleType():
            return "a list"
        case inspect.StructType() | inspect.DictType():
            return "a mapping"
        case inspect.UnionType():
            return " or ".join(expected(t) for t in type_.types if t != inspect.NoneType())
    return "text"


def found(node: Node) -> str:
    """Return in words what a node is."""
    match node:
        case Items():
            return "a list"
        case Entries():
            return "a mapping"
        case Scalar(kind="null"):
            return "nothing"
        case Scalar(kind="bool") if node.text.lower() in ("true", "false"):
            return node.text
        case Scalar(kind="bool") if _truth(node) is not None:
            return f"{node.text}, which YAML reads as {str(_truth(node)).lower()}"
        case Scalar(kind="timestamp"):
            return f"{node.text}, which YAML reads as a date"
        case Scalar(kind="int" | "float"):
            return f"the number {_cut(node.text)}"
    return f"the text {quoted(node.text)}"


def _read_choice(node: Scalar, type_: inspect.LiteralType) -> object:
    if all(isinstance(value, int) for value in type_.values):
        wide = inspect.IntType(None, None, None, None, None)
        value: object = _read_int(node, wide, "") if node.kind == "int" else None
    else:
        # `level: off` is a boolean to YAML 1.1; but where "off" is a choice, it is that.
        value = node.text if node.kind == "str" or node.plain else None
    if value in type_.values:
        return value
    word = node.text.strip().lower()
    near = next((v for v in type_.values if str(v).lower() == word), None)
    remedy = f"write {near}" if near is not None else ""
    if near is None:
        likely = difflib.get_close_matches(word, map(str, type_.values), n=1)
        remedy = f"did you mean {likely[0]}?" if likely else ""
    raise InvalidValueError(f"expected {expected(type_)}, found {found(node)}", remedy)


def _read_text(node: Scalar, type_: inspect.StrType) -> str:
    if node.kind not in ("str", "value"):
        if node.kind == "null":
            raise InvalidValueError(
                "expected text, found nothing", "give a value, or remove the key"
            )
        if node.kind == "int" and ":" in node.text:
            reading = "which YAML reads as one number in base 60"
        elif node.kind in ("int", "float"):
            reading = "which YAML reads as a number"
        else:
            raise InvalidValueError(f"expected text, found {found(node)}", _in_quotes(node))
        raise InvalidValueError(f"expected text, found {node.text}, {reading}", _in_quotes(node))
    text = node.text
    if not text.isprintable():
        raise InvalidValueError("the text has a control character or a line break")
    if type_.min_length is not None and len(text) < type_.min_length:
        raise InvalidValueError("the text is empty")
    if type_.max_length is not None and len(text) > type_.max_length:
        raise InvalidValueError(f"the text is longer than {type_.max_length} characters")
    return text


def _in_quotes(node: Scalar) -> str:
    return f"put it in quotes: {quoted(node.text)}"


def _read_int(node: Scalar, type_: inspect.IntType, unit: str) -> int:
    text = node.text.replace("_", "")
    if node.kind != "int" or len(text) > _INT_DIGITS_MAX:
        raise InvalidValueError(
            f"expected {expected(type_)}, found {found(node)}", _number_remedy(node, unit)
        )
    if ":" in text:
        raise InvalidValueError(
            f"expected {expected(type_)}, found {node.text}, which YAML reads as one number in "
            "base 60"
        )
    digits = text.lstrip("+-")
    if _OCTAL.fullmatch(digits):
        raise InvalidValueError(
            f"YAML reads {node.text} as octal, as {int(digits, 8)} in decimal",
            f"write {digits.lstrip('0')}, or {int(digits, 8)} if that is meant",
        )
    try:
        return int(text, 0)
    except ValueError:  # "0x_", or a word with an explicit !!int
        raise InvalidValueError(f"expected {expected(type_)}, found {found(node)}") from None


def _number_remedy(node: Scalar, unit: str) -> str:
    """Return how to write what seems to be meant by a text where a whole number is expected."""
    text = node.text.strip()
    number: float | None = None
    reason = "" if node.plain else ", without quotes"
    with_unit = _WITH_UNIT.fullmatch(text)
    if with_unit is not None:
        factor = _FACTORS.get(unit, {}).get(with_unit[2].lower())
        if factor is not None:
            number = float(with_unit[1]) * factor
            reason = f": the unit is {unit}"
    if number is None:
        try:
            number = float(text)
        except ValueError:
            return ""
    if not number.is_integer() or abs(number) > _PLAUSIBLE_MAX:
        return ""
    return f"write {int(number)}{reason}"


def _read_float(node: Scalar, type_: inspect.FloatType) -> float:
    text = node.text.replace("_", "")
    remedy = ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        if node.kind in ("int", "float"):
            return value
        remedy = f"write {value}" if node.plain else f"write {value}, without quotes"
    raise InvalidValueError(f"expected {expected(type_)}, found {found(node)}", remedy)


def _read_bool(node: Scalar, type_: inspect.BoolType) -> bool:
    if node.kind == "bool" and _truth(node) is not None:
        return _truth(node) is True
    text = node.text.strip().lower()
    remedy = ""
    if text in (*_TRUE, "y", "1"):
        remedy = "write true, without quotes"
    elif text in (*_FALSE, "n", "0"):
        remedy = "write false, without quotes"
    raise InvalidValueError(f"expected {expected(type_)}, found {found(node)}", remedy)


def _truth(node: Scalar) -> bool | None:
    """Return a boolean, or ``None`` for a word with an explicit ``!!bool`` that is none."""
    word = node.text.lower()
    return True if word in _TRUE else False if word in _FALSE else None


def _in_range(value: float, type_: inspect.IntType | inspect.FloatType) -> float:
    if (type_.ge is not None and value < type_.ge) or (type_.le is not None and value > type_.le):
        raise InvalidValueError(f"expected {expected(type_)}, found {_cut(str(value))}")
    return value


def _cut(text: str) -> str:
    return text if len(text) <= _INT_DIGITS_MAX else f"{text[:_INT_DIGITS_MAX]}…"
