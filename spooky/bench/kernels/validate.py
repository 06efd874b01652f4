"""What it costs to validate a head."""

from typing import Any, Final

from spooky._core.validate import (
    HTTP_3,
    Limits,
    Request,
    validate_request,
    validate_response,
    validate_trailers,
)
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.heads import REQUEST, RESPONSE, TRAILERS
from spooky.bench.kernels.loops import calls


def _request() -> Work:
    def right(result: Any) -> bool:
        return isinstance(result, Request)

    return calls(right, validate_request, REQUEST, HTTP_3, Limits())


def _canonical_request() -> Work:
    changed = {
        b":path": b"/%7Euser/a%2Fb/%C3%A4/%62%2e.js?x=%20",
        b":authority": b"WWW.Example.com",
    }
    head = [(name, changed.get(name, value)) for name, value in REQUEST]
    head.append((b"host", b"www.example.com:443"))

    def right(result: Any) -> bool:
        return isinstance(result, Request) and result.path == b"/~user/a%2Fb/%C3%A4/b..js"

    return calls(right, validate_request, head, HTTP_3, Limits())


def _response() -> Work:
    def right(result: Any) -> bool:
        return bool(result.content_length == 15234)

    return calls(right, validate_response, RESPONSE, 128, 16384)


def _trailers() -> Work:
    def right(result: Any) -> bool:
        return result is None

    return calls(right, validate_trailers, TRAILERS, 128, 16384)


CASES: Final = (
    Case("validate_request: 15 fields", _request),
    Case("validate_request: path with escapes, Host beside :authority", _canonical_request),
    Case("validate_response: 10 fields", _response),
    Case("validate_trailers: 2 fields", _trailers),
)
