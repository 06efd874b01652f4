"""The status that each condition has, for every client protocol: the operator's table.

What does not concern a running proxy is not here: statuses of an embedded application stand in
``tests/embedding``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Headers, Response
from tests.support.origin import pattern
from tests.support.proxy import INGRESSES, Setup, run, running

Provoke = Callable[[Setup], Awaitable[Response]]


def request(
    path: str = "/size/1",
    method: str = "GET",
    headers: Headers | None = None,
    body: bytes | None = None,
) -> Provoke:
    """Return what makes one request."""

    async def provoke(setup: Setup) -> Response:
        return await (await setup.client()).fetch(method, path, headers, body)

    return provoke


GET = request()


async def stalled_upload(setup: Setup) -> Response:
    stream = await (await setup.client()).open("POST", "/count", end=False)
    await stream.send(b"x")
    return await stream.whole()


async def slow_upload(setup: Setup) -> Response:
    """Send a body that always moves and never ends."""
    stream = await (await setup.client()).open("POST", "/count", end=False)

    async def drip() -> None:
        while True:
            await stream.send(b"x")
            await asyncio.sleep(0.05)

    dripping = asyncio.ensure_future(drip())
    response = await stream.whole()
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    return response


async def streamed_too_large(setup: Setup) -> Response:
    stream = await (await setup.client()).open("POST", "/count", end=False)
    await stream.send(pattern(600))
    await stream.send(pattern(600))
    return await stream.whole()


async def one_too_many(setup: Setup) -> Response:
    first = await setup.client()
    second = await setup.client() if setup.ingress == "h1" else first
    await first.open("GET", "/wait")
    await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
    return await second.fetch("GET", "/size/1")


async def nobody_listens(setup: Setup) -> Response:
    setup.origin.stop_listening()
    return await GET(setup)


async def misunderstood(setup: Setup) -> Response:
    response = await GET(setup)
    # The backend saw something that is no HTTP/1.1.
    assert setup.origin.errors
    setup.origin.errors.clear()
    return response


@dataclass(frozen=True)
class Condition:
    """What happens, and what the client is told.

    Attributes:
        status: The answer's.
        provoke: Makes it happen.
        performance: Settings of ``performance``.
        protocol: Settings of ``resilience.protocol``.
        upstream: Settings of the upstream.
        retry_after: Whether the client is told when to come back.
        ingresses: Where; the tests' clients for HTTP/2 and HTTP/1.1 refuse to say some of it.
        address: What stands in place of the backend's address.
    """

    status: int
    provoke: Provoke = GET
    performance: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    upstream: dict[str, Any] = field(default_factory=dict)
    retry_after: bool = False
    ingresses: tuple[str, ...] = INGRESSES
    address: str | None = None


STRICT_CLIENTS = ("h3",)
BACKEND_WAITS = {"backend_timeout_ms": 300, "backend_connect_timeout_ms": 300}

CONDITIONS = {
    # --- the request ---------------------------------------------------------------------------
    "dot segment": Condition(400, request("/a/../b")),
    "encoded dot segment": Condition(400, request("/a/%2e%2E/b")),
    "backslash": Condition(400, request("/a\\b")),
    "bad escape": Condition(400, request("/a%zz")),
    "authority is not Host": Condition(
        400, request(headers=[(b"host", b"other.test")]), ingresses=STRICT_CLIENTS
    ),
    "content-length is no number": Condition(
        400, request(method="POST", headers=[(b"content-length", b"1x")]), ingresses=STRICT_CLIENTS
    ),
    "upgrade": Condition(
        400,
        request(headers=[(b"connection", b"upgrade"), (b"upgrade", b"websocket")]),
        ingresses=STRICT_CLIENTS,
    ),
    "denied prefix": Condition(
        403, request("/private/x"), protocol={"denied_path_prefixes": ["/private"]}
    ),
    "no route": Condition(404, upstream={"route": {"path_prefix": "/other"}}),
    "method not allowed": Condition(
        405, request(method="DELETE"), protocol={"allowed_methods": ["GET"]}
    ),
    "body stalls": Condition(408, stalled_upload, {"client_body_idle_timeout_ms": 300}),
    "exchange takes too long": Condition(
        408,
        slow_upload,
        {
            "backend_total_request_timeout_ms": 500,
            "backend_body_total_timeout_ms": 400,
            **BACKEND_WAITS,
        },
    ),
    "declared body too large": Condition(
        413, request("/count", "POST", body=pattern(1001)), {"max_request_body_bytes": 1000}
    ),
    "streamed body too large": Condition(413, streamed_too_large, {"max_request_body_bytes": 1000}),
    "too many fields": Condition(
        431, request(headers=[(b"x-%d" % number, b"v") for number in range(128)])
    ),
    "fields too large": Condition(431, request(headers=[(b"x-large", b"v" * 16_384)])),
    # --- our limits ----------------------------------------------------------------------------
    "backend in flight": Condition(
        503, one_too_many, {"per_backend_inflight_limit": 1}, retry_after=True
    ),
    "upstream in flight": Condition(
        503,
        one_too_many,
        {"per_upstream_inflight_limit": 1, "per_backend_inflight_limit": 1},
        retry_after=True,
    ),
    "all in flight": Condition(
        503,
        one_too_many,
        {
            "global_inflight_limit": 1,
            "per_upstream_inflight_limit": 1,
            "per_backend_inflight_limit": 1,
        },
        retry_after=True,
    ),
    "response too large": Condition(503, request("/size/1001"), {"max_response_body_bytes": 1000}),
    "prebuffer overflows": Condition(
        503, request("/unknown-length/70000"), {"unknown_length_response_prebuffer_bytes": 1000}
    ),
    # --- the backend ---------------------------------------------------------------------------
    "backend is not there": Condition(502, nobody_listens),
    "backend resets": Condition(502, request("/reset-before-head")),
    "backend has no name": Condition(502, address="http://backend.invalid:80"),
    "backend speaks no HTTP/2": Condition(502, misunderstood, upstream={"protocol": "http2"}),
    "backend does not answer": Condition(504, request("/wait"), BACKEND_WAITS),
    "backend stalls before we answered": Condition(
        504,
        request("/events"),
        {
            "unknown_length_response_prebuffer_bytes": 1000,
            "backend_body_idle_timeout_ms": 300,
            # The body has begun: this one does not rule any more.
            "backend_body_total_timeout_ms": 300_000,
            **BACKEND_WAITS,
        },
    ),
    # --- what a backend says itself ------------------------------------------------------------
    **{
        f"backend says {status}": Condition(status, request(f"/status/{status}"))
        for status in (200, 204, 301, 401, 404, 429, 500, 503, 599)
    },
}


def meet(directory: Path, ingress: str, condition: Condition) -> Response:
    """Return what a client gets in a condition, and check what TCP clients are always told."""
    responses: list[Response] = []

    def change(settings: dict[str, Any]) -> None:
        settings["performance"] |= condition.performance
        settings["resilience"] = {"protocol": condition.protocol}
        backend = settings["upstream"]["backend"]
        backend.update(condition.upstream)
        if condition.address is not None:
            backend["backends"][0]["address"] = condition.address

    async def scenario() -> None:
        async with running(directory, ingress, "h1", change) as setup:
            response = await condition.provoke(setup)
            responses.append(response)
            if ingress != "h3":
                expected = b'h3=":%d"; ma=86400' % setup.proxy.port
                assert response.header(b"alt-svc") == expected

    run(scenario)
    return responses[0]


@pytest.mark.parametrize(
    ("name", "ingress"),
    [(name, ingress) for name in CONDITIONS for ingress in CONDITIONS[name].ingresses],
)
def test_each_condition_has_its_status(tmp_path: Path, name: str, ingress: str) -> None:
    condition = CONDITIONS[name]
    response = meet(tmp_path, ingress, condition)
    assert response.status == condition.status
    assert (response.header(b"retry-after") is not None) is condition.retry_after
