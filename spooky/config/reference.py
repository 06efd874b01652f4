"""The configuration reference as a page: ``python -m spooky.config.reference``."""

import sys
from collections.abc import Iterator
from typing import Final

from msgspec import inspect

from spooky.config.document import MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_NODES
from spooky.config.field_docs import FieldDoc, field_docs, section_text
from spooky.config.schema import DEFAULT_PATH, Configuration
from spooky.config.unsupported import UNSUPPORTED_KEYS, UNSUPPORTED_VALUES

INTRODUCTION: Final = f"""\
# Configuration reference

<!-- Generated: python -m spooky.config.reference > docs/configuration.md -->

The configuration is one YAML file, `{DEFAULT_PATH}` unless another is named.
`spooky init` writes one to start from, `spooky check` says all that is wrong with one, and
`spooky schema` prints the JSON Schema with which editors complete and check it.

- Every key has a default that is safe, unless it is *required* below. A section that is left out,
  or has nothing below it, has its defaults.
- An unknown key is an error, and so is a key given twice.
- Times are whole milliseconds and sizes are bytes, as the names of the keys say: `2000`, not `2s`.
- Relative file names start at the directory of the configuration file.
- Text that YAML 1.1 takes for something else must be in quotes: `"no"`, `"on"`, `"1.20"`.
- Anchors, aliases and merge keys (`<<`) work. A file has at most {MAX_DOCUMENT_BYTES >> 20} MiB
  and {MAX_NODES:,} values, aliases counted as what they stand for, nested at most {MAX_DEPTH} deep.
- Limits count for the whole machine, however many workers there are.

What differs from the Rust Spooky is in [migration.md](migration.md).
"""

NOT_YET: Final = """\
## Not supported yet

These keys and values are known, because other versions have them or will. Until they work here
they are errors that say so.
"""


def reference() -> str:
    """Return the page, in Markdown."""
    root = inspect.type_info(Configuration)
    assert isinstance(root, inspect.StructType)
    sections: dict[str, tuple[list[str], inspect.StructType]] = {}
    _collect(root, "", sections)
    parts = [INTRODUCTION]
    for paths, section in sections.values():
        title = ", ".join(f"`{path}`" for path in paths) if paths != [""] else "Top level"
        parts.append(f"## {title}\n\n{section_text(section)}\n\n{''.join(_table(section))}")
    parts.append(f"{NOT_YET}\n{''.join(_not_yet())}")
    return "\n".join(parts)


def _collect(
    section: inspect.StructType,
    path: str,
    sections: dict[str, tuple[list[str], inspect.StructType]],
) -> None:
    """Note a section and those below it, each type once with all its paths."""
    sections.setdefault(section.cls.__name__, ([], section))[0].append(path)
    for doc in field_docs(section):
        if doc.section is not None:
            below = f"{path}.{doc.name}" if path else doc.name
            _collect(doc.section, f"{below}{doc.suffix}", sections)


def _table(section: inspect.StructType) -> Iterator[str]:
    yield "| Key | Type | Default | Unit | Meaning |\n| --- | --- | --- | --- | --- |\n"
    for doc in field_docs(section):
        yield f"| `{doc.name}` | {doc.type} | {_default(doc)} | {doc.unit} | {_meaning(doc)} |\n"


def _default(doc: FieldDoc) -> str:
    if doc.default is None:
        return "*required*"
    return f"`{doc.default}`" if doc.default else ""


def _meaning(doc: FieldDoc) -> str:
    return f"{doc.text} **Hazard:** {doc.hazard}" if doc.hazard else doc.text


def _not_yet() -> Iterator[str]:
    for place, names in UNSUPPORTED_KEYS.items():
        path = _path(place)
        if names == ("*",):
            yield f"- `{path}.<name>`\n"
        else:
            yield f"- `{path}`: {', '.join(f'`{name}`' for name in names)}\n"
    for place, values in UNSUPPORTED_VALUES.items():
        yield f"- `{_path(place)}`: the value {', '.join(f'`{value}`' for value in values)}\n"


def _path(pattern: str) -> str:
    return pattern.replace(".[]", "[]").replace("*", "<name>")


if __name__ == "__main__":
    sys.stdout.write(reference())
