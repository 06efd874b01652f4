"""Requests to the control API, by who may do everything: bodies, targets and headers.

The first byte chooses the endpoint; the rest is, each cut from the next by a byte that no text
has, the parts of its target, ``If-Match``, and the body. Nothing changes here: changes are noted.
Whatever is asked, the answer has a type and a status that the endpoint's document names, and every
request is written into the audit log in a line of its own.
"""

import asyncio
import logging
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from spooky.control.api import BODY_MAX_BYTES, ControlApi
from spooky.control.audit import AuditEvent
from spooky.control.change import UnknownBackendError, UnknownGenerationError
from spooky.control.endpoints import ENDPOINTS, UPGRADE, Endpoint
from spooky.control.inspection import Inspection
from spooky.control.roles import Caller, Role
from spooky.control.state import State

CUT: Final = b"\xff"
ALL: Final = (*ENDPOINTS, UPGRADE)
PARAMETER: Final = re.compile(r"\{\w+\}")
EVERYWHERE: Final = (200, 401, 403, 404)
"""404 also where the target's parts make another target of it."""

logging.getLogger("spooky.control.api_errors").disabled = True


class Owner:
    """Lets everybody do everything."""

    through = "socket"

    def identify(self, _: web.Request) -> Caller:
        return Caller("fuzz", Role.ADMIN)

    def is_protected(self, _: str) -> bool:
        return True


class Changes:
    """Makes no change, and knows of nothing."""

    source = "/etc/spooky.yaml"
    record = SimpleNamespace(number=7, text="# 7\n")

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> Any:
        async def note(*arguments: object) -> None:
            self.asked.append((name, *arguments))
            raise UnknownBackendError("nothing is changed here")

        return note

    @property
    def history(self) -> dict[int, object]:
        return {}


class Audit:
    """Keeps the lines of the last request."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, event: AuditEvent) -> None:
        self.lines.append(msgspec.json.encode(event))


class Api:
    """The application without a server, on a loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.changes, self.audit = Changes(), Audit()
        nothing: Any = SimpleNamespace(
            segment=SimpleNamespace(slots=1), workers=tuple, listeners=tuple,
            certificates=tuple, routes=tuple, upstreams=tuple, backends=tuple,
        )  # fmt: skip
        inspection: Inspection = nothing
        self.api = ControlApi(
            self.changes,  # type: ignore[arg-type]
            SimpleNamespace(status=None, is_open=False),  # type: ignore[arg-type]
            inspection,
            lambda: {"started": 0.0},
            lambda: State.SERVING,
            self._upgrade,
            self.audit,  # type: ignore[arg-type]
        )
        self.application = self.api.application(Owner())  # type: ignore[arg-type]
        self.application.freeze()

    async def _upgrade(self, program: str | None) -> Any:
        self.changes.asked.append(("upgrade", program))
        raise UnknownGenerationError("nothing is changed here")

    async def ask(self, method: str, target: str, match: str, body: bytes) -> web.StreamResponse:
        """Ask once."""
        content = StreamReader(BaseProtocol(self.loop), BODY_MAX_BYTES, loop=self.loop)
        content.feed_data(body)
        content.feed_eof()
        headers = {"If-Match": match} if match else {}
        request = make_mocked_request(
            method, target, headers, payload=content, client_max_size=BODY_MAX_BYTES,
            app=self.application,
        )  # fmt: skip
        found = await self.application.router.resolve(request)
        found.add_app(self.application)
        found.freeze()
        request._match_info = found
        handler = found.handler
        for middleware in reversed(self.application.middlewares):
            handler = self._bound(middleware, handler)
        return await handler(request)

    @staticmethod
    def _bound(middleware: Any, handler: Any) -> Any:
        return lambda request: middleware(request, handler)


API = Api()


def seeds() -> Iterator[bytes]:
    """Yield requests to every endpoint that takes something, right and wrong."""
    bodies = (
        b"", b"{}", b'{"reason": "why", "requested_by": "me", "expected_generation": 7}', b"[]",
        b'{"config_path": "/etc/other.yaml", "probation_seconds": 30}', b'{"weight": 5}', b"\xc3",
        b'{"target_generation": 3}', b'{"rollback": true}', b'{"program": "/usr/bin/spooky"}',
        b'{"weight": 1e999}',
        b'{"reason": "\\ud800"}', b'{"reason": 1, "other": null}', b"[" * 500, b'{"weight": -1}',
    )  # fmt: skip
    for number, endpoint in enumerate(ALL):
        parts = [b"api", b"a%2F1"][: len(PARAMETER.findall(endpoint.path))]
        for match in (b"", b'"7"'):
            body = bodies[number % len(bodies)]
            yield bytes((number,)) + CUT.join((*parts, match, body))
        if endpoint.method == "POST":
            for body in bodies:
                yield bytes((number,)) + CUT.join((*parts, b"*", body))


def run(data: bytes) -> None:
    """Ask, and check the answer."""
    endpoint = ALL[(data[0] if data else 0) % len(ALL)]
    count = len(PARAMETER.findall(endpoint.path))
    parts = data[1:].split(CUT, count + 1)
    parts += [b""] * (count + 2 - len(parts))
    names = iter(parts[:count])
    target = PARAMETER.sub(lambda _: text(next(names)) or "x", endpoint.path)
    if (endpoint.method == "GET" and not count) or not is_target(target):
        return  # They only look, and take nothing to say what at.
    match = re.sub(r"[^!-~]", "", text(parts[count]))
    API.audit.lines.clear()
    answer = API.loop.run_until_complete(API.ask(endpoint.method, target, match, parts[count + 1]))
    check(endpoint, answer)


def text(part: bytes) -> str:
    return part.decode("utf-8", "surrogateescape")


def is_target(target: str) -> bool:
    """Tell whether the HTTP parser lets a target through."""
    try:
        path = URL(target, encoded=True).path
    except ValueError:
        return False
    return bool(path) and not re.search(r"[\x00-\x20\x7f?#]", target)


def check(endpoint: Endpoint, answer: web.StreamResponse) -> None:
    """See that an answer is one that the endpoint may give, and that there is a line of it."""
    assert isinstance(answer, web.Response)
    assert answer.status in (*EVERYWHERE, *endpoint.refusals), (answer.status, answer.body)
    assert answer.status != 500
    assert isinstance(answer.body, bytes)
    if "json" in answer.content_type:
        msgspec.json.decode(answer.body)
    else:
        assert (answer.status, answer.content_type) == (200, endpoint.content)
    if answer.status in (400, 404) or endpoint.method == "POST":
        assert len(API.audit.lines) == 1
    assert not API.api.busy
