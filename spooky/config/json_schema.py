"""The JSON Schema of the configuration, from the same types that check it."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from spooky.config.field_docs import field_docs, section_text
from spooky.config.schema import Configuration

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def configuration_schema() -> dict[str, Any]:
    """Return the schema: every key with its type, default, description, unit and hazard."""
    schema = msgspec.json.schema(Configuration)
    root = inspect.type_info(Configuration)
    assert isinstance(root, inspect.StructType)
    for section in {s.cls.__name__: s for s in _sections(root)}.values():
        definition = schema["$defs"][section.cls.__name__]
        definition["description"] = section_text(section)
        for doc in field_docs(section):
            field = definition["properties"][doc.name]
            unit = f" Unit: {doc.unit}." if doc.unit else ""
            hazard = f" Hazard: {doc.hazard}" if doc.hazard else ""
            field["description"] = f"{doc.text}{unit}{hazard}"
            if doc.default == "":
                # The defaults of a section stand beside its own keys. It may have nothing below
                # it, which YAML reads as null.
                del field["default"]
                field["anyOf"] = [{"$ref": field.pop("$ref")}, {"type": "null"}]
    return {"$schema": DIALECT, "title": "Configuration of Spooky, version 1", **schema}


def _sections(section: inspect.StructType) -> Iterator[inspect.StructType]:
    yield section
    for doc in field_docs(section):
        if doc.section is not None:
            yield from _sections(doc.section)
