"""What is tried again: the ``retry``, ``retry_budget`` and ``hedging`` sections."""

from collections.abc import Collection
from typing import Annotated, Final, Literal

from msgspec import Meta, field
from msgspec.structs import force_setattr

from spooky.config.fields import Milliseconds, Section, described
from spooky.config.problems import Path, quoted
from spooky.config.report import Report

TRIES_MAX: Final = 10  # who fails so often will not serve the next time
STATUS_MIN: Final = 400  # below, the backend did what it was asked
RATIO_MAX: Final = 100  # percent: more would have every request sent twice
FLOOR_MAX: Final = 100_000  # as a rate, above what any upstream has of failures
WINDOW_MIN: Final = 1_000  # ms: counts of less say nothing of a rate
WINDOW_MAX: Final = 600_000  # ms: older traffic says nothing of the load now
BODY_MAX: Final = 1 << 24  # 16 MiB: larger ones would hold all the room for such bodies
IDEMPOTENT_METHODS: Final = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
"""Doing it twice is as doing it once (RFC 9110 section 9.2.2)."""


class RetrySettings(Section, frozen=True):
    """When a request that failed is sent to a backend once more, before any of its response was
    sent to the client."""

    conditions: Annotated[
        tuple[
            Literal["connect_failure", "refused_stream", "reset_before_head", "status", "timeout"],
            ...,
        ],
        described(
            "`connect_failure`: no connection could be made. `refused_stream`: the backend says "
            "that it did nothing (REFUSED_STREAM, H3_REQUEST_REJECTED, GOAWAY). "
            "`reset_before_head`: the stream or connection ended before the response head. "
            "`status`: one of `statuses`. `timeout`: `per_try_timeout_ms`, or "
            "`performance.backend_timeout_ms`, was over. Empty: nothing is tried again.",
            unordered=True,
        ),
    ] = ("connect_failure", "refused_stream", "reset_before_head", "status")
    connect_tries: Annotated[
        int,
        Meta(ge=0, le=TRIES_MAX),
        described("So many more tries after failures to connect."),
    ] = 2
    tries: Annotated[
        int,
        Meta(ge=0, le=TRIES_MAX),
        described("So many more tries after all other failures together."),
    ] = 1
    methods: Annotated[
        tuple[str, ...],
        described(
            "Methods of requests that may be sent again though a backend may have acted on them; "
            "after `connect_failure` and `refused_stream` all are.",
            hazard="With POST or PATCH here, an order may be placed twice.",
            unordered=True,
        ),
    ] = IDEMPOTENT_METHODS
    statuses: Annotated[
        tuple[Annotated[int, Meta(ge=STATUS_MIN, le=599)], ...],
        described("What a backend answers when another one is to be tried.", unordered=True),
    ] = (503,)
    per_try_timeout_ms: Annotated[
        Milliseconds | None,
        described(
            "How long one try may take to its response head, connecting included; null for no "
            "limit of its own. It does not run while the client still sends.",
        ),
    ] = None
    backoff_base_ms: Annotated[
        Milliseconds,
        described(
            "Before a backend is tried that failed already, a random time passes, at most this, "
            "then twice, four times as much. One that was not tried yet is tried at once."
        ),
    ] = 25
    backoff_max_ms: Annotated[
        Milliseconds,
        described(
            "That time is never more than this. A `Retry-After` that asks for more is passed on."
        ),
    ] = 250
    body_max_bytes: Annotated[
        int,
        Meta(ge=0, le=BODY_MAX, extra={"unit": "bytes"}),
        described(
            "A request body is kept up to this size while it is sent, to be sent again; a request "
            "with a larger one is tried again only if none of it was sent. 0 keeps none.",
        ),
    ] = 65_536

    def __post_init__(self) -> None:
        force_setattr(self, "methods", tuple(method.upper() for method in self.methods))


class RetryBudgetSettings(Section, frozen=True):
    """How many retries and hedges there may be, counted for each upstream; per machine."""

    enabled: Annotated[
        bool,
        described(
            "Bound them.",
            hazard="Off: when all backends fail, each request is sent as often as `retry` allows, "
            "and they are kept from coming back.",
        ),
    ] = True
    ratio_percent: Annotated[
        int,
        Meta(ge=0, le=RATIO_MAX),
        described("At most this share of the requests of the last `window_ms`.", unit="%"),
    ] = 20
    per_route_ratio_percent: Annotated[
        dict[str, Annotated[int, Meta(ge=0, le=RATIO_MAX)]],
        described("`ratio_percent` of single upstreams, by name.", unit="%"),
    ] = field(default_factory=dict)
    min_retries: Annotated[
        int,
        Meta(ge=0, le=FLOOR_MAX),
        described("So many in each window whatever the share is, for upstreams with few requests."),
    ] = 10
    window_ms: Annotated[
        int,
        Meta(ge=WINDOW_MIN, le=WINDOW_MAX, extra={"unit": "ms"}),
        described("How far back requests and retries are counted."),
    ] = 10_000


class Hedging(Section, frozen=True):
    """Sending a request to a second backend when the first takes long; the first good answer is
    passed on, and the other request is given up."""

    enabled: Annotated[bool, described("Hedge, as far as the retry budget goes.")] = False
    delay_ms: Annotated[
        Milliseconds, described("How long the first backend has until the second is asked.")
    ] = 100
    delay_percentile: Annotated[
        Annotated[float, Meta(ge=50, le=99.9)] | None,
        described(
            "Wait as long as so many percent of the upstream's responses took lately; `delay_ms` "
            "until enough were seen. Null: always `delay_ms`.",
            unit="%",
        ),
    ] = None
    safe_methods: Annotated[
        tuple[Literal["GET", "HEAD", "OPTIONS"], ...],
        Meta(min_length=1),
        described("Methods of requests that are hedged, if they have no body.", unordered=True),
    ] = ("GET", "HEAD")
    route_allowlist: Annotated[
        tuple[str, ...],
        described("Upstreams whose requests are hedged, by name; empty for all.", unordered=True),
    ] = ()


def check_retry(
    path: Path, retry: RetrySettings, total_timeout: int | None, report: Report
) -> None:
    """Report what is wrong with a ``retry`` section.

    Arguments:
        path: Where it stands.
        total_timeout: What a whole request may take; ms.
    """
    if retry.backoff_base_ms > retry.backoff_max_ms:
        report.error(
            (*path, "backoff_base_ms"),
            f"{retry.backoff_base_ms} is more than backoff_max_ms, which is {retry.backoff_max_ms}",
            f"lower it to {retry.backoff_max_ms} or less, or raise backoff_max_ms",
            related=((*path, "backoff_max_ms"),),
        )
    timeout = retry.per_try_timeout_ms
    if timeout is not None and total_timeout is not None and timeout > total_timeout:
        report.error(
            (*path, "per_try_timeout_ms"),
            f"{timeout} is more than backend_total_request_timeout_ms, which is {total_timeout}",
            f"lower it to {total_timeout} or less",
            related=(("performance", "backend_total_request_timeout_ms"),),
        )
    if "status" in retry.conditions and not retry.statuses:
        report.error(
            (*path, "statuses"),
            "no status is given, but `status` is one of the conditions",
            "name statuses, or remove `status` from conditions",
            related=((*path, "conditions"),),
        )
    for i, method in enumerate(retry.methods):
        if not _is_token(method):
            report.error((*path, "methods", i), f"{quoted(method)} is not a method")


def check_retry_budget(
    budget: RetryBudgetSettings, hedging: Hedging, upstreams: Collection[str], report: Report
) -> None:
    """Report what is wrong with the ``retry_budget`` and ``hedging`` sections.

    Arguments:
        upstreams: The names that there are.
    """
    path: Path = ("resilience", "retry_budget", "per_route_ratio_percent")
    for name in budget.per_route_ratio_percent:
        if name not in upstreams:
            _unknown((*path, name), name, upstreams, report)
    path = ("resilience", "hedging", "route_allowlist")
    for i, name in enumerate(hedging.route_allowlist):
        if name not in upstreams:
            _unknown((*path, i), name, upstreams, report)
    if hedging.enabled and not budget.enabled:
        report.error(
            ("resilience", "hedging", "enabled"),
            "hedges are bounded by the retry budget, which is off",
            "set resilience.retry_budget.enabled to true",
            related=(("resilience", "retry_budget", "enabled"),),
        )


def _unknown(path: Path, name: str, upstreams: Collection[str], report: Report) -> None:
    known = ", ".join(sorted(upstreams))
    report.error(path, f"there is no upstream {quoted(name)}", f"there are {known}")


def _is_token(text: str) -> bool:
    return bool(text) and all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in text)
