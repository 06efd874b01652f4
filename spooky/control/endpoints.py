"""The endpoints of the control API: the one table that routes, roles and documents come from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from spooky.control.answers import (
    ActivateBody,
    Activity,
    BackendView,
    Body,
    CertificateView,
    ChangeAnswer,
    ChangeBody,
    GenerationList,
    Health,
    Judgement,
    ListenerView,
    LookBody,
    Readiness,
    ReloadBody,
    RequestLife,
    RollbackBody,
    RouteView,
    Runtime,
    UpgradeAnswer,
    UpgradeBody,
    UpstreamView,
    WeightBody,
    Whole,
    WorkerView,
)
from spooky.control.backend_acts import STATES
from spooky.control.plan import Plan
from spooky.control.roles import Role

RUNTIME: Final = "/admin/runtime"
STATUS: Final = "/status"
BACKEND: Final = f"{RUNTIME}/upstreams/{{upstream}}/backends/{{backend}}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing to ask for.

    Attributes:
        name: What it is called in documents, logs and code.
        method: ``GET`` or ``POST``.
        path: As OpenAPI writes paths.
        role: What it takes; ``None`` for nothing.
        summary: What it does.
        answer: The type of a good answer.
        body: The type of what is sent, for a POST.
        refusals: Statuses of other answers, those that every endpoint has left out.
        content: The type of a good answer's content.
    """

    name: str
    method: str
    path: str
    role: Role | None
    summary: str
    answer: Any
    body: type[Body] | None = None
    refusals: tuple[int, ...] = ()
    content: str = "application/json"


def _read(name: str, path: str, summary: str, answer: Any, *refusals: int) -> Endpoint:
    return Endpoint(name, "GET", path, Role.VIEWER, summary, answer, None, refusals)


def _show(name: str, path: str, summary: str, content: str) -> Endpoint:
    return Endpoint(name, "GET", path, Role.VIEWER, summary, str, content=content)


def _change(
    name: str, path: str, summary: str, body: type[Body] = ChangeBody, *refusals: int
) -> Endpoint:
    every = (400, 409, 412, 413, 503, *refusals)
    return Endpoint(name, "POST", path, Role.OPERATOR, summary, ChangeAnswer, body, every)


_ACTS: Final = {
    "drain": "Give a backend no new requests; those it has finish.",
    "undrain": "Give a drained backend requests again.",
    "enable": "Give a backend requests, whether it was drained or disabled.",
    "disable": "Treat a backend as if it were not listed.",
}

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint("health", "GET", "/health", None, "Say that it lives.", Health),
    Endpoint(
        "ready", "GET", "/ready", None, "Say whether clients should come; 503 if not.", Readiness,
        None, (503,),
    ),
    _read("openapi", "/openapi.json", "Give this document.", dict[str, Any]),
    _read("runtime", RUNTIME, "Show what runs.", Runtime),
    _read("workers", f"{RUNTIME}/workers", "List the workers.", tuple[WorkerView, ...]),
    _read("listeners", f"{RUNTIME}/listeners", "List the listeners.", tuple[ListenerView, ...]),
    _read(
        "certificates", f"{RUNTIME}/certificates", "List the certificates that are presented.",
        tuple[CertificateView, ...],
    ),
    _read("routes", f"{RUNTIME}/routes", "List the routes.", tuple[RouteView, ...]),
    _read("upstreams", f"{RUNTIME}/upstreams", "List the upstreams.", tuple[UpstreamView, ...]),
    _read("upstream", f"{RUNTIME}/upstreams/{{upstream}}", "Show an upstream.", UpstreamView, 404),
    _read("backends", f"{RUNTIME}/backends", "List the backends.", tuple[BackendView, ...]),
    _read("backend", BACKEND, "Show a backend.", BackendView, 404),
    _read(
        "history", f"{RUNTIME}/history", "List the generations that were in force.", GenerationList
    ),
    _read(
        "generation", f"{RUNTIME}/history/{{generation}}", "Show a generation with its text.",
        Whole, 404,
    ),
    _read("activity", f"{RUNTIME}/activity", "Count what goes on, since the start.", Activity),
    _show("status-page", STATUS, "Show all of this to people.", "text/html"),
    _show("status-script", f"{STATUS}/script.js", "Give the page's script.", "text/javascript"),
    _show("status-style", f"{STATUS}/style.css", "Give the page's style sheet.", "text/css"),
    Endpoint(
        "request", "GET", f"{RUNTIME}/requests/{{request_id}}", Role.OPERATOR,
        "Tell what became of a request, and why.", RequestLife, None, (400, 404),
    ),
    Endpoint(
        "validate", "POST", f"{RUNTIME}/validate", Role.OPERATOR,
        "Say whether a file, or a rollback, could be put in force, all that is wrong with it, and "
        "what it would change.",
        Judgement, LookBody, (400, 404, 413),
    ),
    Endpoint(
        "preview", "POST", f"{RUNTIME}/preview", Role.OPERATOR,
        "Say what a file, or a rollback, would change.", Plan, LookBody, (400, 404, 413),
    ),
    _change("activate", f"{RUNTIME}/activate", "Put a file in force.", ActivateBody),
    _change(
        "reload", f"{RUNTIME}/reload", "Put in force what the file says now.", ReloadBody
    ),
    _change(
        "reload-certs", f"{RUNTIME}/reload-certs",
        "Take certificates, keys, authorities and tokens as the files are now.",
    ),
    Endpoint(
        "restart", "POST", f"{RUNTIME}/restart", Role.ADMIN,
        "Have new workers take over, which loses nothing.", ChangeAnswer, ChangeBody,
        (400, 409, 412, 413, 503),
    ),
    _change(
        "rollback", f"{RUNTIME}/rollback", "Put an earlier generation in force again.",
        RollbackBody, 404,
    ),
    *(_change(name, f"{BACKEND}/{name}", _ACTS[name], ChangeBody, 404) for name in STATES),
    _change(
        "weight", f"{BACKEND}/weight", "Give a backend another share of the requests.",
        WeightBody, 404,
    ),
    _change("reset", f"{BACKEND}/reset", "Take a backend as the file has it.", ChangeBody, 404),
)  # fmt: skip


def endpoints_at(paths: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """Return the endpoints, those of some names elsewhere."""
    return tuple(replace(each, path=paths.get(each.name, each.path)) for each in ENDPOINTS)


UPGRADE: Final = Endpoint(
    "upgrade", "POST", f"{RUNTIME}/upgrade", Role.ADMIN, "Have another program take over.",
    UpgradeAnswer, UpgradeBody, (400, 413, 503),
)  # fmt: skip
"""Answered on the Unix socket alone: who may do it runs programs on this machine."""

OPEN: Final = frozenset(("health", "ready"))
"""What is asked all the time, and not worth a line of the audit log when it is answered."""
