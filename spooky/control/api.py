"""The control API: what runs, what would change, and changing it; JSON over HTTP."""

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web

from spooky.config.control import PROBATION_MAX, PROBATION_MIN
from spooky.config.problems import ConfigurationError
from spooky.control.backend_acts import (
    STATES,
    WrongStateError,
    reset_act,
    state_act,
    weight_act,
)
from spooky.control.changes import (
    Act,
    Asked,
    ChangeError,
    Changes,
    Outcome,
    StaleError,
    UnknownBackendError,
    UnknownGenerationError,
)
from spooky.control.control_socket import peer_user, user_name
from spooky.control.history import HistoryError, Record
from spooky.control.overrides import Weight, overridden_settings
from spooky.control.plan import encode
from spooky.control.probation import Probation
from spooky.control.state import State
from spooky.generation.materials import MaterialError

logger = logging.getLogger(__name__)

BODY_MAX_BYTES: Final = 64 * 1024
"""A request names files; it carries none."""

TEXT_MAX: Final = 1024
"""Longest reason and requester that the history keeps; characters."""

BACKEND: Final = "/admin/runtime/upstreams/{upstream}/backends/{backend}"

Body = TypeVar("Body", bound=msgspec.Struct)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    requested_by: str = ""
    reason: str = ""
    expected_generation: int | None = None


class _Preview(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    config_path: str


class _Reload(_Change, frozen=True, kw_only=True):
    probation_seconds: Annotated[float, msgspec.Meta(ge=0, le=PROBATION_MAX)] | None = None


class _Activate(_Reload, frozen=True, kw_only=True):
    config_path: str


class _Weight(_Change, frozen=True, kw_only=True):
    weight: Weight


class _Rollback(_Change, frozen=True, kw_only=True):
    target_generation: int | None = None


class ControlApi:
    """Answers requests about one running Spooky.

    Arguments:
        changes: What makes changes.
        probation: What watches them.
        overview: Gives what is known of the processes and sockets, as JSON values.
        state: Says whether clients are served.
    """

    def __init__(
        self,
        changes: Changes,
        probation: Probation,
        overview: Callable[[], Mapping[str, Any]],
        state: Callable[[], State],
    ) -> None:
        self._changes = changes
        self._probation = probation
        self._overview = overview
        self._state = state

    def application(self) -> web.Application:
        """Return the application, for users of this machine that may change it."""
        application = web.Application(
            middlewares=[_errors, _only_the_owner], client_max_size=BODY_MAX_BYTES
        )
        application.add_routes(
            [
                web.get("/health", self._health),
                web.get("/ready", self._ready),
                web.get("/admin/runtime", self._runtime),
                web.get("/admin/runtime/history", self._history),
                web.get(r"/admin/runtime/history/{generation:\d{1,18}}", self._generation),
                web.post("/admin/runtime/preview", self._preview),
                web.post("/admin/runtime/activate", self._activate),
                web.post("/admin/runtime/reload", self._reload),
                web.post("/admin/runtime/rollback", self._rollback),
                web.post(f"{BACKEND}/{{act:{'|'.join(STATES)}}}", self._set_state),
                web.post(f"{BACKEND}/weight", self._set_weight),
                web.post(f"{BACKEND}/reset", self._reset),
            ]
        )
        return application

    # --- reading ------------------------------------------------------------------------------

    async def _health(self, _: web.Request) -> web.Response:
        # Whoever answers lives; whether clients should come is another question.
        return _json({"status": "ok", "state": self._state()})

    async def _ready(self, _: web.Request) -> web.Response:
        state = self._state()
        answer = {"ready": state.ready, "state": state, "probation": self._probation.is_open}
        return _json(answer, 200 if state.ready else 503)

    async def _runtime(self, _: web.Request) -> web.Response:
        record, running = self._changes.record, self._changes.running
        answer = {
            **self._overview(),
            "source": self._changes.source,
            "ready": self._state().ready,
            "state": self._state(),
            "probation": self._probation.status,
            "generation": _summary(record),
            "overrides": list(overridden_settings(running.written, running.overrides)),
        }
        return _json(answer, headers={"ETag": f'"{record.number}"'})

    async def _history(self, _: web.Request) -> web.Response:
        entries = [_summary(record) for record in self._changes.history]
        active = self._changes.record.number
        return _json({"active_generation": active, "entries": entries[::-1]})

    async def _generation(self, request: web.Request) -> web.Response:
        number = int(request.match_info["generation"])
        record = self._changes.history.get(number)
        if record is None:
            raise UnknownGenerationError(f"generation {number} is not kept")
        return _json({**_summary(record), "files": record.files, "text": record.text})

    async def _preview(self, request: web.Request) -> web.Response:
        wanted = await _body(request, _Preview)
        made = await self._changes.preview(Path(wanted.config_path))
        return web.Response(body=encode(made), content_type="application/json")

    # --- changing -----------------------------------------------------------------------------

    async def _activate(self, request: web.Request) -> web.Response:
        wanted = await _body(request, _Activate)
        asked = _asked(request, wanted, wanted.probation_seconds)
        return self._outcome(await self._changes.apply(Path(wanted.config_path), asked))

    async def _reload(self, request: web.Request) -> web.Response:
        wanted = await _body(request, _Reload)
        asked = _asked(request, wanted, wanted.probation_seconds)
        return self._outcome(await self._changes.reload(asked))

    async def _rollback(self, request: web.Request) -> web.Response:
        wanted = await _body(request, _Rollback)
        asked = _asked(request, wanted)
        return self._outcome(await self._changes.rollback(wanted.target_generation, asked))

    def _outcome(self, outcome: Outcome) -> web.Response:
        status = self._probation.status
        watched = status is not None and status["generation"] == outcome.record.number
        return _json(
            {
                "changed": outcome.changed,
                "generation": _summary(outcome.record),
                "milliseconds": round(1000 * outcome.seconds, 1),
                "plan": msgspec.to_builtins(outcome.plan),
                "probation": status if watched else None,
            },
            headers={"ETag": f'"{outcome.record.number}"'},
        )

    async def _set_state(self, request: web.Request) -> web.Response:
        wanted = await _body(request, _Change)
        upstream, backend = _backend(request)
        act = state_act(request.match_info["act"], upstream, backend)
        return await self._override(request, wanted, act)

    async def _set_weight(self, request: web.Request) -> web.Response:
        wanted = await _body(request, _Weight)
        return await self._override(request, wanted, weight_act(*_backend(request), wanted.weight))

    async def _reset(self, request: web.Request) -> web.Response:
        wanted = await _body(request, _Change)
        return await self._override(request, wanted, reset_act(*_backend(request)))

    async def _override(self, request: web.Request, wanted: _Change, act: Act) -> web.Response:
        asked = _asked(request, wanted)
        return self._outcome(await self._changes.override(*_backend(request), act, asked))


def _backend(request: web.Request) -> tuple[str, str]:
    return request.match_info["upstream"], request.match_info["backend"]


# --- who, and what went wrong -----------------------------------------------------------------
@web.middleware
async def _only_the_owner(request: web.Request, handler: Handler) -> web.StreamResponse:
    user = peer_user(request)
    if user not in (0, os.geteuid()):
        logger.warning("refused %s %s by user %s", request.method, request.path, user)
        return _failure(403, "forbidden", "only the service's own user and root may do this")
    return await handler(request)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConfigurationError as error:
        problems = msgspec.to_builtins(error.problems)
        return _failure(
            400, "invalid", "the configuration has errors", problems=problems, text=error.source
        )
    except MaterialError as error:
        return _failure(400, "invalid", str(error))
    except UnknownGenerationError as error:
        return _failure(404, "unknown_generation", str(error))
    except UnknownBackendError as error:
        return _failure(404, "unknown_backend", str(error))
    except WrongStateError as error:
        return _failure(409, "wrong_state", str(error))
    except StaleError as error:
        return _failure(412, "stale", str(error))
    except (ChangeError, HistoryError) as error:
        return _failure(500, "not_changed", str(error))
    except web.HTTPException as error:
        return _failure(error.status, "refused", error.text or error.reason)
    except Exception:
        # The boundary to the client: a defect is ours, and is answered as one.
        logger.exception("cannot answer %s %s", request.method, request.path)
        return _failure(500, "defect", "a defect of Spooky; its log says more")


async def _body(request: web.Request, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise web.HTTPBadRequest(text=f"the body is not what is expected here: {error}") from error


def _asked(request: web.Request, wanted: _Change, probation_seconds: float | None = None) -> Asked:
    """Return who asks for a change, and which generation they know."""
    if probation_seconds is not None and 0 < probation_seconds < PROBATION_MIN:
        raise web.HTTPBadRequest(text=f"a probation of less than {PROBATION_MIN} s tells nothing")
    generation = wanted.expected_generation
    if (match := request.headers.get("If-Match", "*")) != "*":
        number = match.removeprefix('"').removesuffix('"')
        if not number.isascii() or not number.isdigit():
            raise web.HTTPBadRequest(text='If-Match is not a generation, such as "12"')
        generation = int(number)
    user = peer_user(request)
    name = user_name(user) if user is not None else ""
    given = wanted.requested_by[:TEXT_MAX]
    by = f"{given} ({name})" if given else name
    return Asked(by, wanted.reason[:TEXT_MAX], generation, probation_seconds)


# --- answers ----------------------------------------------------------------------------------
def _summary(record: Record) -> dict[str, Any]:
    summary: dict[str, Any] = msgspec.to_builtins(record)
    del summary["text"], summary["files"], summary["version"]
    return {**summary, "digest": record.digest}


def _failure(status: int, code: str, message: str, **more: Any) -> web.Response:
    return _json({"error": code, "message": message, **more}, status)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value) + b"\n",
        status=status,
        headers=headers,
        content_type="application/json",
    )
