"""The OpenAPI document of the control API, from its table of endpoints."""

import functools
import re
from http import HTTPStatus
from typing import Any, Final

import msgspec

from spooky._version import __version__
from spooky.control.answers import Problem
from spooky.control.endpoints import ENDPOINTS, Endpoint
from spooky.control.preconditions import EXPECTED
from spooky.observe.decisions import ID_DIGITS

OPENAPI_VERSION: Final = "3.1.0"
REFERENCES: Final = "#/components/schemas/{name}"

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_TAG: Final = f'(W/)?"({EXPECTED})"'
_EVERYWHERE: Final = (401, 403, 500)
"""Refusals that every endpoint may answer with."""


@functools.lru_cache(maxsize=2)
def document(endpoints: tuple[Endpoint, ...] = ENDPOINTS) -> dict[str, Any]:
    """Return the document of endpoints, as JSON values."""
    types: list[Any] = [Problem]
    for endpoint in endpoints:
        types += [endpoint.answer, endpoint.body] if endpoint.body else [endpoint.answer]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCES)
    problem, *found = schemas
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        answer = found.pop(0)
        body = found.pop(0) if endpoint.body else None
        operation = _operation(endpoint, answer, body, problem)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Spooky control API",
            "version": __version__,
            "description": "What runs, what would change, and changing it.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
        "security": [{}, {"bearer": []}, {"certificate": []}],
    }


def _operation(endpoint: Endpoint, answer: Any, body: Any, problem: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "responses": {
            "200": _response("As asked.", endpoint.content, answer),
            **{
                str(status): _refusal(endpoint, status, answer, problem)
                for status in sorted({*_EVERYWHERE, *endpoint.refusals})
            },
        },
    }
    if endpoint.role is not None:
        made["description"] = f"Takes the role `{endpoint.role}`."
    parameters = [_parameter(name) for name in _PARAMETER.findall(endpoint.path)]
    if endpoint.method == "POST" and 412 in endpoint.refusals:
        parameters.append(
            {
                "name": "If-Match",
                "in": "header",
                "description": "The generation that must be in force, as `ETag` gives it, or "
                "the SHA-256 of the text of what must be; of several, any may be.",
                "schema": {"type": "string", "pattern": rf"^(\*|{_TAG}(, {_TAG}){{0,63}})$"},
            }
        )
    if parameters:
        made["parameters"] = parameters
    if body is not None:
        made["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return made


def _refusal(endpoint: Endpoint, status: int, answer: Any, problem: Any) -> dict[str, Any]:
    if endpoint.name == "ready" and status == 503:
        return _response("Clients should not come.", "application/json", answer)
    return _response(HTTPStatus(status).phrase, "application/problem+json", problem)


def _response(description: str, content_type: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}}


def _parameter(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if name == "generation":
        schema = {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}
    if name == "request_id":
        schema = {"type": "string", "pattern": f"^[0-9a-f]{{{ID_DIGITS}}}$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}
