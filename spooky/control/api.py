"""The control API: what runs, what would change, and changing it; JSON over HTTP."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from spooky.config.control import PROBATION_MIN
from spooky.config.problems import ConfigurationError
from spooky.control import answers, openapi
from spooky.control.access import CALLER, Access, OwnerAccess
from spooky.control.activity import ActivityReader
from spooky.control.answers import ChangeBody
from spooky.control.api_errors import CODE, answer_errors, json_answer
from spooky.control.audit import AuditEvent, AuditLog, audit_text
from spooky.control.backend_acts import STATES, reset_act, state_act, weight_act
from spooky.control.change import (
    Act,
    Asked,
    Outcome,
    UnknownBackendError,
    UnknownGenerationError,
)
from spooky.control.changes import Changes
from spooky.control.endpoints import ENDPOINTS, OPEN, UPGRADE, Endpoint
from spooky.control.inspection import Inspection
from spooky.control.lives import Lives
from spooky.control.overrides import overridden_settings
from spooky.control.preconditions import MalformedError, expected_number, read_if_match
from spooky.control.probation import Probation
from spooky.control.roles import DeniedError, Role
from spooky.control.state import State
from spooky.control.status_page import HEADERS, StatusPage, asset
from spooky.control.upgrade import Upgraded
from spooky.generation.materials import MaterialError

logger = logging.getLogger(__name__)

BODY_MAX_BYTES: Final = 64 * 1024
"""A request names files; it carries none."""

Body = TypeVar("Body", bound=answers.Body)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ENDPOINT: Final = web.RequestKey("endpoint", Endpoint)
_REASON: Final = web.RequestKey("reason", str)
_NOT_OPEN: Final = (401, 403, 500)
"""How what is asked all the time is answered when that is worth a line: refusals, and defects."""


class ControlApi:
    """Answers requests about one running Spooky.

    Arguments:
        changes: What makes changes.
        probation: What watches them.
        inspection: What looks at the rest.
        process: Gives what is known of this process: version, number, start, restarts.
        state: Says whether clients are served.
        upgrade: Has a program take over; takes its path.
        audit: Where requests are written down.

    Attributes:
        busy: The connections that a change is being made for.
    """

    def __init__(
        self,
        changes: Changes,
        probation: Probation,
        inspection: Inspection,
        process: Callable[[], Mapping[str, Any]],
        state: Callable[[], State],
        upgrade: Callable[[str | None], Awaitable[Upgraded]],
        audit: AuditLog,
    ) -> None:
        self._changes = changes
        self._probation = probation
        self._inspection = inspection
        self._lives = Lives(inspection.segment, changes)
        self._activity = ActivityReader(
            inspection.segment, lambda: (changes.record.number, changes.running.configuration)
        )
        self._process = process
        self._state = state
        self._upgrade = upgrade
        self._audit = audit
        self.busy: set[RequestHandler] = set()

    def application(
        self, access: Access, endpoints: tuple[Endpoint, ...] = ENDPOINTS
    ) -> web.Application:
        """Return the application, for whoever gets access."""
        if isinstance(access, OwnerAccess):
            endpoints = (*endpoints, UPGRADE)
        activity = self._activity.read
        page = StatusPage(self._what_runs, activity, self._inspection.upstreams, self._generations)
        # Now: what an installation puts in their place is another program's.
        script, style = asset("status.js"), asset("status.css")
        by_name: dict[str, Handler] = {
            "status-page": self._text("text/html", page.text),
            "status-script": self._text("text/javascript", lambda: script),
            "status-style": self._text("text/css", lambda: style),
            "health": self._health,
            "ready": self._ready,
            "openapi": _document(endpoints),
            "runtime": self._runtime,
            "history": self._history,
            "generation": self._generation,
            "upstream": self._upstream,
            "backend": self._backend,
            "activity": self._list(activity),
            "request": self._life,
            "validate": self._validate,
            "preview": self._preview,
            "activate": self._activate,
            "reload": self._reload,
            "reload-certs": self._reload_certificates,
            "restart": self._restart,
            "upgrade": self._take_over,
            "rollback": self._rollback,
            "weight": self._weigh,
            "reset": self._reset,
            **dict.fromkeys(STATES, self._set_state),
            "workers": self._list(self._inspection.workers),
            "listeners": self._list(self._inspection.listeners),
            "certificates": self._list(self._inspection.certificates),
            "routes": self._list(self._inspection.routes),
            "upstreams": self._list(self._inspection.upstreams),
            "backends": self._list(self._inspection.backends),
        }
        application = web.Application(
            middlewares=[self._record(access), answer_errors, _admit(access, endpoints)],
            client_max_size=BODY_MAX_BYTES,
        )
        for endpoint in endpoints:
            application.router.add_route(endpoint.method, endpoint.path, by_name[endpoint.name])
        return application

    # --- reading ------------------------------------------------------------------------------

    async def _health(self, _: web.Request) -> web.Response:
        # Whoever answers lives; whether clients should come is another question.
        uptime_ms = max(0, round(1000 * (time.time() - self._process()["started"])))
        return json_answer(answers.Health("ok", self._state(), uptime_ms))

    async def _ready(self, _: web.Request) -> web.Response:
        state = self._state()
        counts = self._inspection.backend_counts()
        answer = answers.Readiness(state.ready, state, self._probation.is_open, *counts)
        return json_answer(answer, 200 if state.ready else 503)

    async def _runtime(self, _: web.Request) -> web.Response:
        return json_answer(self._what_runs(), headers=self._tag())

    def _what_runs(self) -> answers.Runtime:
        running = self._changes.running
        return answers.Runtime(
            **self._process(),
            source=self._changes.source,
            ready=self._state().ready,
            state=self._state(),
            generation=answers.summary(self._changes.record),
            probation=self._probation.status,
            overrides=tuple(overridden_settings(running.written, running.overrides)),
            workers=self._inspection.workers(),
            listeners=self._inspection.listeners(),
            certificates=self._inspection.certificates(),
        )

    def _text(self, content: str, make: Callable[[], str]) -> Handler:
        """Return the handler that shows something of the status page."""

        async def handle(_: web.Request) -> web.Response:
            headers = {"Cache-Control": "no-store", **HEADERS}
            return web.Response(text=make(), content_type=content, headers=headers)

        return handle

    def _list(self, look: Callable[[], Any]) -> Handler:
        """Return the handler that lists objects of one kind."""

        async def handle(_: web.Request) -> web.Response:
            return json_answer(look(), headers=self._tag())

        return handle

    async def _upstream(self, request: web.Request) -> web.Response:
        name = request.match_info["upstream"]
        found = (one for one in self._inspection.upstreams() if one.name == name)
        if (upstream := next(found, None)) is None:
            raise UnknownBackendError(f"there is no upstream {name!r}")
        return json_answer(upstream, headers=self._tag())

    async def _backend(self, request: web.Request) -> web.Response:
        names = _names(request)
        found = (one for one in self._inspection.backends() if (one.upstream, one.id) == names)
        if (backend := next(found, None)) is None:
            raise UnknownBackendError(f"there is no backend {names[1]!r} of {names[0]!r}")
        return json_answer(backend, headers=self._tag())

    async def _history(self, _: web.Request) -> web.Response:
        return json_answer(self._generations())

    def _generations(self) -> answers.GenerationList:
        entries = [answers.summary(record) for record in self._changes.history]
        return answers.GenerationList(self._changes.record.number, entries[::-1])

    async def _generation(self, request: web.Request) -> web.Response:
        text = request.match_info["generation"]
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
        record = self._changes.history.get(number)
        if record is None:
            kept = ", ".join(str(one.number) for one in self._changes.history)
            raise UnknownGenerationError(f"generation {text} is not kept; these are: {kept}")
        return json_answer(answers.whole(record))

    async def _life(self, request: web.Request) -> web.Response:
        try:
            life = self._lives.life(request.match_info["request_id"])
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return json_answer(life)

    def _tag(self) -> Mapping[str, str]:
        return {"ETag": f'"{self._changes.record.number}"'}

    # --- looking ahead ------------------------------------------------------------------------

    async def _validate(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, answers.LookBody)
        path = self._looked_at(request, wanted)
        try:
            if path is None:
                made, warnings = await self._changes.judge_rollback(wanted.target_generation)
            else:
                made, warnings = await self._changes.judge(path)
        except ConfigurationError as error:
            judgement = answers.Judgement(False, list(error.problems), None)
        except MaterialError as error:
            judgement = answers.Judgement(False, [{"message": str(error)}], None)
        else:
            judgement = answers.Judgement(True, list(warnings), made)
        return json_answer(judgement)

    async def _preview(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, answers.LookBody)
        path = self._looked_at(request, wanted)
        if path is None:
            return json_answer(await self._changes.preview_rollback(wanted.target_generation))
        return json_answer(await self._changes.preview(path))

    def _looked_at(self, request: web.Request, wanted: answers.LookBody) -> Path | None:
        """Return the file to look at; ``None`` for a rollback.

        Raises:
            DeniedError: The caller may not name it.
        """
        if not wanted.rollback and wanted.target_generation is None:
            return self._allowed(request, wanted.config_path)
        if wanted.config_path is not None:
            raise web.HTTPBadRequest(text="a file and a rollback are two different things to see")
        return None

    def _allowed(self, request: web.Request, wanted: str | None) -> Path:
        """Return the file that is meant.

        What is wrong with a file is said in its words, and what is in force anybody may read: so
        who may name any file can read any that this process can.

        Raises:
            DeniedError: The caller may not name it.
        """
        source = self._changes.source
        if wanted is None or wanted == source:
            return Path(source)
        request[CALLER].require(Role.ADMIN, "to name another file than the one in force")
        return Path(wanted)

    # --- changing -----------------------------------------------------------------------------

    async def _activate(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, answers.ActivateBody)
        asked = self._asked(request, wanted, wanted.probation_seconds)
        path = self._allowed(request, wanted.config_path)
        return self._outcome(await self._changes.apply(path, asked))

    async def _reload(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, answers.ReloadBody)
        asked = self._asked(request, wanted, wanted.probation_seconds)
        return self._outcome(await self._changes.reload(asked))

    async def _reload_certificates(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, ChangeBody)
        return self._outcome(await self._changes.renew_now(self._asked(request, wanted)))

    async def _restart(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, ChangeBody)
        return self._outcome(await self._changes.restart(self._asked(request, wanted)))

    async def _rollback(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, answers.RollbackBody)
        asked = self._asked(request, wanted, wanted.probation_seconds)
        return self._outcome(await self._changes.rollback(wanted.target_generation, asked))

    async def _set_state(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, ChangeBody)
        act = state_act(request[_ENDPOINT].name, *_names(request))
        return await self._override(request, wanted, act)

    async def _weigh(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, answers.WeightBody)
        return await self._override(request, wanted, weight_act(*_names(request), wanted.weight))

    async def _reset(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, ChangeBody)
        return await self._override(request, wanted, reset_act(*_names(request)))

    async def _override(self, request: web.Request, wanted: ChangeBody, act: Act) -> web.Response:
        asked = self._asked(request, wanted)
        return self._outcome(await self._changes.override(*_names(request), act, asked))

    async def _take_over(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, answers.UpgradeBody)
        upgraded = await self._upgrade(wanted.program)
        milliseconds = round(1000 * upgraded.seconds, 1)
        return json_answer(answers.UpgradeAnswer(upgraded.version, upgraded.pid, milliseconds))

    def _asked(
        self, request: web.Request, wanted: ChangeBody, probation_seconds: float | None = None
    ) -> Asked:
        """Return who asks for a change, and which generation they know.

        Raises:
            StaleError: They know another text than is in force.
        """
        if probation_seconds is not None and 0 < probation_seconds < PROBATION_MIN:
            text = f"a probation of less than {PROBATION_MIN} s tells nothing"
            raise web.HTTPBadRequest(text=text)
        expected = wanted.expected_generation
        allowed: tuple[str, ...] | None = None if expected is None else (str(expected),)
        try:
            stated = read_if_match(request.headers.getall("If-Match", ("*",)))
        except MalformedError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        if stated is not None:
            allowed = stated
        generation = None if allowed is None else expected_number(allowed, self._changes.record)
        name = request[CALLER].name
        by = f"{wanted.requested_by} ({name})" if wanted.requested_by else name
        return Asked(by, wanted.reason, generation, probation_seconds)

    def _outcome(self, outcome: Outcome) -> web.Response:
        status = self._probation.status
        # Where nothing changed, what was said of the same generation before is no answer.
        watched = (
            status is not None
            and status["generation"] == outcome.record.number
            and (outcome.changed or self._probation.is_open)
        )
        answer = answers.ChangeAnswer(
            outcome.changed,
            answers.summary(outcome.record),
            round(1000 * outcome.seconds, 1),
            outcome.plan,
            status if watched else None,
            list(outcome.warnings),
        )
        return json_answer(answer, headers={"ETag": f'"{outcome.record.number}"'})

    # --- every request ------------------------------------------------------------------------

    async def _body(self, request: web.Request, kind: type[Body]) -> Body:
        """Return what a request says; from here on, the answer takes its time."""
        try:
            content = await request.read() or b"{}"
        except (web.RequestPayloadError, ConnectionError) as error:
            raise web.HTTPBadRequest(text=f"the body cannot be read: {error}") from error
        try:
            body = msgspec.json.decode(content, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            text = f"the body is not what is expected here: {error}"
            raise web.HTTPBadRequest(text=text) from error
        if isinstance(body, ChangeBody):
            request[_REASON] = body.reason
        self.busy.add(request.protocol)
        return body

    def _record(self, access: Access) -> Any:
        """Return the middleware that writes every request down, with what came of it."""

        @web.middleware
        async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                response = await handler(request)
            finally:
                self.busy.discard(request.protocol)
            endpoint = request.get(_ENDPOINT)
            # A defect of ours was answered before it comes here: it is an answer like any.
            if endpoint is None or endpoint.name not in OPEN or response.status in _NOT_OPEN:
                self._audit.write(self._event(request, access, response))
            return response

        return record

    def _event(
        self, request: web.Request, access: Access, response: web.StreamResponse
    ) -> AuditEvent:
        caller, endpoint = request.get(CALLER), request.get(_ENDPOINT)
        status = response.status
        return AuditEvent(
            through=access.through,
            peer=audit_text(request.remote or ""),
            actor=caller.name if caller is not None else "",
            role=caller.role if caller is not None else "",
            action=endpoint.name if endpoint is not None else "unknown",
            method=audit_text(request.method),
            target=audit_text(request.path),
            status=status,
            outcome="done" if status < 400 else "refused" if status < 500 else "failed",
            code=response.get(CODE, ""),
            generation=self._changes.record.number,
            reason=audit_text(request.get(_REASON, "")),
        )


def _document(endpoints: tuple[Endpoint, ...]) -> Handler:
    """Return the handler that gives the OpenAPI document of endpoints."""

    async def handle(_: web.Request) -> web.Response:
        return json_answer(openapi.document(endpoints))

    return handle


def _admit(access: Access, endpoints: tuple[Endpoint, ...]) -> Any:
    """Return the middleware that finds out who asks, and refuses what they may not do."""
    by_route = {(each.method, each.path): each for each in endpoints}

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else ""
        if (endpoint := by_route.get((request.method, path))) is not None:
            request[_ENDPOINT] = endpoint
        if (
            endpoint is not None
            and endpoint.role is None
            and not access.is_protected(endpoint.name)
        ):
            return await handler(request)
        caller = request[CALLER] = access.identify(request)
        if endpoint is not None:
            caller.require(endpoint.role or Role.VIEWER, f"`{endpoint.name}`")
            if endpoint.method != "GET" and "Origin" in request.headers:
                # A page of another site may have a browser ask, with its caller's certificate.
                raise DeniedError(403, "from_a_page", "a web page may change nothing")
        return await handler(request)

    return admit


def _names(request: web.Request) -> tuple[str, str]:
    return request.match_info["upstream"], request.match_info["backend"]
