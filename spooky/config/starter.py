"""A commented configuration to start from; the comments are the schema's own descriptions."""

import textwrap
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, TypeAlias

from msgspec import inspect

from spooky.config.field_docs import FieldDoc, field_docs, to_yaml
from spooky.config.schema import DEFAULT_PORT, Configuration

COMMENT_WIDTH: Final = 96


class _Shown(Enum):
    """How a key that is not set appears."""

    AS_COMMENT = 1


_DEFAULT: Final = _Shown.AS_COMMENT

_Example: TypeAlias = dict[str, Any]

_EXAMPLE: Final[_Example] = {
    "version": 1,
    "listen": {
        "address": "0.0.0.0",
        "port": DEFAULT_PORT,
        "tls": {"cert": "cert.pem", "key": "key.pem"},
    },
    "upstream": {
        "web": {
            "route": {"host": _DEFAULT, "path_prefix": "/"},
            "backends": [
                {"id": "web-1", "address": "http://127.0.0.1:8080", "weight": _DEFAULT},
            ],
            "protocol": _DEFAULT,
            "load_balancing": {"type": "least-request"},
        },
    },
    "access_log": {"enabled": _DEFAULT, "format": _DEFAULT, "path": _DEFAULT},
    "log": {"level": _DEFAULT},
    "performance": {
        "backend_connect_timeout_ms": _DEFAULT,
        "backend_timeout_ms": _DEFAULT,
        "backend_body_idle_timeout_ms": _DEFAULT,
        "client_body_idle_timeout_ms": _DEFAULT,
        "max_request_body_bytes": _DEFAULT,
        "global_inflight_limit": _DEFAULT,
        "per_backend_inflight_limit": _DEFAULT,
        "max_active_connections": _DEFAULT,
    },
}

INTRODUCTION: Final = """\
# Configuration of Spooky. Lines like "#key: value" show defaults: to change one, remove its #.
#
# Check it with `spooky check`, run it with `spooky serve --config`. Relative file names start at
# the directory of this file. Every key is described in docs/configuration.md and in the output of
# `spooky schema`.
"""


def starter() -> str:
    """Return the file."""
    root = inspect.type_info(Configuration)
    assert isinstance(root, inspect.StructType)
    parts = [INTRODUCTION]
    for name, value in _EXAMPLE.items():
        parts.append("\n".join(_section(root, {name: value}, "")))
    return "\n".join(parts)


def _section(section: inspect.StructType, example: _Example, indent: str) -> Iterator[str]:
    docs = {doc.name: doc for doc in field_docs(section)}
    for name, value in example.items():
        yield from _entry(docs[name], value, indent)
    if not indent:
        yield ""


def _entry(doc: FieldDoc, value: Any, indent: str) -> Iterator[str]:
    yield from _comment(doc, indent)
    deeper = f"{indent}  "
    if value is _DEFAULT:
        yield f"{indent}#{doc.name}: {doc.default}"
    elif doc.section is None:
        yield f"{indent}{doc.name}: {to_yaml(value)}"
    elif doc.suffix == "[]":
        yield f"{indent}{doc.name}:"
        for item in value:
            first, *others = _section(doc.section, item, f"{deeper}  ")
            yield from _with_dash([first, *others], deeper)
    elif doc.suffix:
        yield f"{indent}{doc.name}:"
        for name, item in value.items():
            yield f"{deeper}{name}:"
            yield from _section(doc.section, item, f"{deeper}  ")
    else:
        yield f"{indent}{doc.name}:"
        yield from _section(doc.section, value, deeper)


def _with_dash(lines: list[str], indent: str) -> Iterator[str]:
    """Put the dash of a list entry before its first key; comments above that stay above."""
    dashed = False
    for line in lines:
        if not dashed and not line.lstrip().startswith("#"):
            yield f"{indent}- {line.lstrip()}"
            dashed = True
        else:
            yield line


def _comment(doc: FieldDoc, indent: str) -> Iterator[str]:
    text = f"{doc.text} Unit: {doc.unit}." if doc.unit else doc.text
    prefix = f"{indent}# "
    yield from textwrap.wrap(
        text, COMMENT_WIDTH, initial_indent=prefix, subsequent_indent=prefix,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
