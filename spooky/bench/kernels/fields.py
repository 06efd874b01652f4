"""What it costs to turn one side's head into the other's."""

from functools import partial
from typing import Any, Final

from spooky._core.fields import (
    ForwardingPolicy,
    forward_request,
    forward_response,
    forward_trailers,
    pack_http1_request,
    pack_http1_response,
)
from spooky._core.validate import HTTP_3, Limits, validate_request, validate_response
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.heads import REQUEST, RESPONSE, TRAILERS
from spooky.bench.kernels.loops import calls

ROUTE: Final = (b"192.0.2.1", b"https", b"http", b"backend:8080")
EXTRA: Final = ((b"alt-svc", b'h3=":443"; ma=86400'),)


def _request(head: list[tuple[bytes, bytes]]) -> Any:
    return validate_request(head, HTTP_3, Limits())


def _response() -> Any:
    return validate_response(RESPONSE, 128, 16384)


def _forward_request(mode: str, count: int) -> Work:
    head = [*REQUEST, (b"x-forwarded-for", b"198.51.100.7")]

    def right(sent: Any) -> bool:
        return len(sent) == count

    return calls(right, forward_request, _request(head), ForwardingPolicy(mode), *ROUTE)


def _forward_response() -> Work:
    return calls(lambda sent: len(sent) == 10, forward_response, _response(), EXTRA)


def _forward_trailers() -> Work:
    return calls(lambda sent: bool(sent == TRAILERS), forward_trailers, TRAILERS)


def _packed(sent: Any) -> bool:
    return bool(sent.endswith(b"\r\n\r\n"))


def _pack_request() -> Work:
    sent = forward_request(_request(REQUEST), ForwardingPolicy(), *ROUTE)
    return calls(_packed, pack_http1_request, sent, False)


def _pack_response() -> Work:
    return calls(_packed, pack_http1_response, forward_response(_response(), EXTRA), False, False)


CASES: Final = (
    Case("forward_request: 15 fields, overwrite", partial(_forward_request, "overwrite", 19)),
    Case("forward_request: 15 fields, append", partial(_forward_request, "append", 19)),
    Case("forward_request: 15 fields, preserve", partial(_forward_request, "preserve", 16)),
    Case("forward_response: 10 fields", _forward_response),
    Case("forward_trailers: 2 fields", _forward_trailers),
    Case("pack_http1_request: 19 fields", _pack_request),
    Case("pack_http1_response: 10 fields", _pack_response),
)
