"""What the control API takes and gives, as values; their schemas are in the OpenAPI document."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from spooky.config.control import PROBATION_MAX
from spooky.control.history import Record
from spooky.control.overrides import OverriddenSetting, Overrides, Weight
from spooky.control.plan import Plan
from spooky.control.state import State

TEXT_MAX = 1024
"""Longest reason and requester that the history keeps; characters."""

Generation = Annotated[int, Meta(ge=1, le=10**18 - 1)]
Content = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
FilePath = Annotated[str, Meta(pattern=r"^/[^\x00]*$", max_length=4096)]
Text = Annotated[str, Meta(max_length=TEXT_MAX)]


# --- what is asked ----------------------------------------------------------------------------
class Body(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of what a request may say."""


class ChangeBody(Body, frozen=True, kw_only=True):
    """Who asks for a change, and what they know."""

    requested_by: Text = ""
    reason: Text = ""
    expected_generation: Generation | Content | None = None


class UpgradeBody(Body, frozen=True, kw_only=True):
    """Which program takes over; without one, what is running, as it is now on disk."""

    program: FilePath | None = None


class UpgradeAnswer(Struct, frozen=True):
    """What took over."""

    version: str
    pid: int
    milliseconds: float


class LookBody(Body, frozen=True, kw_only=True):
    """A file to look at, by default that which a reload reads; or a rollback, by default to where
    one without a number goes.
    """

    config_path: FilePath | None = None
    rollback: bool = False
    target_generation: Generation | None = None


class ReloadBody(ChangeBody, frozen=True, kw_only=True):
    """A change that may be watched."""

    probation_seconds: Annotated[float, Meta(ge=0, le=PROBATION_MAX)] | None = None


class ActivateBody(ReloadBody, frozen=True, kw_only=True):
    """A file to put in force."""

    config_path: FilePath


class RollbackBody(ReloadBody, frozen=True, kw_only=True):
    """A generation to go back to; without one, that before the one in force."""

    target_generation: Generation | None = None


class WeightBody(ChangeBody, frozen=True, kw_only=True):
    """A share of the requests."""

    weight: Weight


# --- what is answered -------------------------------------------------------------------------
class Health(Struct, frozen=True):
    """That it lives, and for how long."""

    status: str
    state: State
    uptime_ms: int


class Readiness(Struct, frozen=True):
    """Whether clients should come, and how many of the backends that are listed can serve."""

    ready: bool
    state: State
    probation: bool
    healthy_backends: int
    total_backends: int


class Summary(Struct, frozen=True, kw_only=True):
    """A generation without its text."""

    number: int
    time: float
    source: str
    path: str
    origin: int
    requested_by: str
    reason: str
    overrides: Overrides
    digest: str
    unproven: bool


class Whole(Summary, frozen=True, kw_only=True):
    """A generation with its text, and the digests of the files that it names."""

    text: str
    files: dict[str, str]


class GenerationList(Struct, frozen=True):
    """The generations that are kept, the newest first."""

    active_generation: int
    entries: list[Summary]


class Judgement(Struct, frozen=True):
    """What would become of a file, or of a rollback."""

    valid: bool
    problems: list[Any]
    plan: Plan | None


class ChangeAnswer(Struct, frozen=True):
    """What came of a change; the warnings are of the file, if there is one."""

    changed: bool
    generation: Summary
    milliseconds: float
    plan: Plan
    probation: dict[str, Any] | None
    warnings: list[Any]


class WorkerView(Struct, frozen=True):
    """A worker process; one that leaves finishes what it has, and one that begins has no beat."""

    slot: int
    pid: int
    leaving: bool
    heartbeat_age_seconds: float | None


class ListenerView(Struct, frozen=True):
    """Where clients come in."""

    address: str
    port: int


class CertificateView(Struct, frozen=True):
    """A certificate that is presented; times are of ISO 8601, in UTC."""

    listener: str
    names: tuple[str, ...]
    fingerprint: str
    not_before: str
    not_after: str
    seconds_left: int


class BackendView(Struct, frozen=True):
    """A backend; its requests in flight are those of all workers."""

    upstream: str
    id: str
    address: str
    state: str
    weight: int
    in_flight: int
    overridden: tuple[str, ...]


class UpstreamView(Struct, frozen=True):
    """An upstream."""

    name: str
    protocol: str
    balancing: str
    in_flight: int
    backends: tuple[BackendView, ...]


class RouteView(Struct, frozen=True):
    """A route; null stands for any."""

    upstream: str
    host: str | None
    path_prefix: str | None
    method: str | None


class AdaptiveActivity(Struct, frozen=True):
    """An adaptive limit, the requests without a response head that it counts, and the latency
    among few requests that it goes by; 0 if that is not known.
    """

    limit: int
    unanswered: int
    minimum_ms: float


class UpstreamActivity(Struct, frozen=True, kw_only=True):
    """Requests of an upstream, by class of status, and their durations, since the start; the
    upstream without a name has those that went to none.
    """

    name: str
    in_flight: int
    limit: int
    adaptive: AdaptiveActivity | None
    requests: dict[str, int]
    latencies: tuple[int, ...]


class BackendActivity(Struct, frozen=True, kw_only=True):
    """Requests of a backend, by class of status, since the start; its health is ``ok``,
    ``failing`` in checks, or ``ejected`` and for what, its breaker ``closed``, ``open`` or
    ``half_open``, null without one.
    """

    upstream: str
    id: str
    state: str
    health: str
    ejected_seconds: float
    breaker: str | None
    weight: int
    in_flight: int
    limit: int
    requests: dict[str, int]


class Activity(Struct, frozen=True, kw_only=True):
    """What goes on; the time is of a clock that only goes forward, in seconds. ``refused`` are
    connections, ``actions`` those against overload, each with the workers that take it now.
    """

    time: float
    generation: int
    bounds: tuple[float, ...]
    connections: dict[str, int]
    in_flight: int
    limit: int
    upstreams: tuple[UpstreamActivity, ...]
    backends: tuple[BackendActivity, ...]
    sheds: dict[str, int]
    refused: dict[str, int]
    actions: dict[str, int]


class RouteChoice(Struct, frozen=True):
    """Why a request went to its upstream; the candidates are routes that match, best first."""

    upstream: str | None
    route: str | None
    decided_by: str
    text: str
    candidates: tuple[str, ...]


class CandidateView(Struct, frozen=True):
    """A backend when one was chosen: ``chosen``; ``compared`` with it; ``passed_over``, as it did
    not let the request in; ``excluded`` from the choice; or another ``candidate``. Its requests in
    flight are those of the worker, with ``least-request`` of all; what was not looked at is null.
    """

    id: str
    state: str
    in_flight: int | None
    weight: float | None
    latency_ms: float | None
    score: float | None
    text: str


class BackendChoice(Struct, frozen=True):
    """Why a request went to its backend, what scores are, the backends, and how many more."""

    id: str
    balancing: str
    text: str
    scores: str
    candidates: tuple[CandidateView, ...]
    more: int


class StageView(Struct, frozen=True):
    """A stage that let a request in: what it compared with its limit, the request included."""

    stage: str
    value: int
    limit: int


class LifeEvent(Struct, frozen=True):
    """Something that happened to a request; milliseconds since its head came."""

    at_ms: float
    event: str
    name: str
    reason: str | None
    numbers: tuple[float, ...]
    text: str


class TryView(Struct, frozen=True):
    """A try at a backend, from when to when, and how it ended; milliseconds since the head came.

    A ``hedge`` began beside the one before. The last outcome is that of the request; ``status`` is
    null where no response came.
    """

    number: int
    backend: str
    hedge: bool
    began_ms: float
    ended_ms: float
    status: int | None
    reason: str
    text: str


class RequestLife(Struct, frozen=True, kw_only=True):
    """What became of a request, and why; what it was refused before is null."""

    request_id: str
    worker: int
    generation: int
    started: str
    duration_ms: float
    protocol: str
    upstream_protocol: str | None
    method: str
    authority: str
    path: str
    path_cut: bool
    status: int | None
    stage: str
    reason: str
    text: str
    fault: str
    bytes_received: int
    bytes_sent: int
    route: RouteChoice | None
    backend: BackendChoice | None
    admission: tuple[StageView, ...]
    tries: tuple[TryView, ...]
    events: tuple[LifeEvent, ...]
    events_cut: bool


class Runtime(Struct, frozen=True, kw_only=True):
    """What runs."""

    version: str
    pid: int
    started: float
    source: str
    ready: bool
    state: State
    generation: Summary
    probation: dict[str, Any] | None
    overrides: tuple[OverriddenSetting, ...]
    workers: tuple[WorkerView, ...]
    worker_restarts: int
    listeners: tuple[ListenerView, ...]
    certificates: tuple[CertificateView, ...]


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong (RFC 9457); ``code`` is for programs."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    problems: list[Any] = []
    text: str = ""


def summary(record: Record) -> Summary:
    """Return a generation without its text."""
    return Summary(**_common(record))


def whole(record: Record) -> Whole:
    """Return a generation with its text."""
    return Whole(**_common(record), text=record.text, files=record.files)


def _common(record: Record) -> dict[str, Any]:
    names = (
        "number", "time", "source", "path", "origin", "requested_by", "reason", "overrides",
        "unproven",
    )  # fmt: skip
    return {**{name: getattr(record, name) for name in names}, "digest": record.digest}
