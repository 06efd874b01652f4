"""The sections of ``resilience`` that say what gives when there is too much."""

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, field

from spooky._core.breaker import PROBES_MAX, THRESHOLD_MAX
from spooky.config.fields import Count, Milliseconds, Section, described

MIN_LIMIT: Final = 4
TOLERANCE_PERCENT: Final = 10
MEASURE_INTERVAL_MS: Final = 60_000
STEP: Final = 16
HIGH_LATENCY_MS: Final = 500
TARGET_MS: Final = 5
OPEN_INITIAL_MS: Final = 1_000
RETRY_AFTER_MAX: Final = 3_600  # an hour: who is told to stay away longer does not come back
TOLERANCE_MAX: Final = 1_000  # ten times the minimum is no limit any more

Priority: TypeAlias = Literal["low", "normal", "high", "core"]
"""Whose requests are shed first, in this order; those of ``core`` routes are not for brownout."""

PRIORITIES: Final[tuple[Priority, ...]] = ("low", "normal", "high", "core")


class AdaptiveAdmission(Section, frozen=True):
    """A limit on requests in flight to each upstream that follows how long they take; per machine.

    Requests beyond it get 503 (`adaptive_admission`).
    """

    enabled: Annotated[
        bool,
        described(
            "Limit requests in flight to an upstream by how long they take. The other keys of "
            "this section act where this is true.",
            hazard="On: a backend whose latencies vary much, or rise without a queue, may be given "
            "less than it can take for a while. Off: one that gets slower gets ever more requests "
            "at once, up to `performance.per_upstream_inflight_limit`.",
        ),
    ] = False
    algorithm: Annotated[
        Literal["gradient", "aimd"],
        described(
            "`gradient` compares latencies with their minimum, which it measures; `aimd` moves by "
            "steps, by whether a request took `high_latency_ms`."
        ),
    ] = "gradient"
    min_limit: Annotated[
        Count | None,
        described("The limit is never less; null for 4, or the maximum if that is less."),
    ] = None
    max_limit: Annotated[
        Count | None,
        described(
            "The limit is never more, and that is what it begins with; null for "
            "`performance.per_upstream_inflight_limit`."
        ),
    ] = None
    latency_tolerance_percent: Annotated[
        Annotated[int, Meta(ge=1, le=TOLERANCE_MAX)] | None,
        described(
            "With `gradient`: latencies longer than the minimum by no more than this mean that "
            "nothing waits. Null for 10."
        ),
    ] = None
    measure_interval_ms: Annotated[
        Milliseconds | None,
        described(
            "With `gradient`: so long after a measurement the minimum is measured again, if the "
            "limit matters by then. A measurement lowers the limit to a quarter for a moment. "
            "Null for 60000."
        ),
    ] = None
    increase_step: Annotated[
        Count | None,
        described("With `aimd`: what a quick request adds to the limit. Null for 16."),
    ] = None
    decrease_step: Annotated[
        Count | None,
        described("With `aimd`: what a slow request takes from the limit. Null for 16."),
    ] = None
    high_latency_ms: Annotated[
        Milliseconds | None,
        described("With `aimd`: from here on a request is slow. Null for 500."),
    ] = None


class RouteQueue(Section, frozen=True):
    """Caps on requests in flight, and the queue where requests wait for a place; per machine.

    A request waits at most `performance.inflight_acquire_wait_ms`; as many as the limit allows in
    flight can wait.
    """

    default_cap: Annotated[
        Count | None,
        described(
            "Requests in flight by all routes to one upstream; more get 503 (`route_cap`). Null: "
            "`performance.per_upstream_inflight_limit` alone limits them."
        ),
    ] = None
    caps: Annotated[
        dict[str, Count], described("The same for single upstreams, by name; instead of the above.")
    ] = field(default_factory=dict)
    global_cap: Annotated[
        Count | None,
        described(
            "Requests in flight by all routes together; more get 503 (`route_global_cap`). Null: "
            "`performance.global_inflight_limit` alone limits them."
        ),
    ] = None
    shed_retry_after_seconds: Annotated[
        int,
        Meta(ge=1, le=RETRY_AFTER_MAX),
        described("What `Retry-After` says in every 503 that sheds load.", unit="s"),
    ] = 1
    target_ms: Annotated[
        Milliseconds | None,
        described(
            "Where requests have been waiting without a break for as long as one may, each waits "
            "no longer than this, and the newest enters first: who has waited long is gone soon. "
            "Null for 5, or `performance.inflight_acquire_wait_ms` if that is less."
        ),
    ] = None


class Brownout(Section, frozen=True):
    """Shedding by the priority of routes, while limits are nearly reached; per machine.

    Requests get 503 (`brownout`). Where all routes have the same priority, nothing is shed.
    """

    enabled: Annotated[bool, described("Shed requests by the priority of their routes.")] = True
    trigger_inflight_percent: Annotated[
        int,
        Meta(ge=1, le=100),
        described(
            "From this share of a limit on requests in flight on, of all or of the upstream, the "
            "lowest priority is shed, then the next."
        ),
    ] = 90
    recover_inflight_percent: Annotated[
        int,
        Meta(ge=0, le=99),
        described("Down to this share one priority after the other is let in again."),
    ] = 60
    core_routes: Annotated[
        tuple[str, ...],
        described(
            "Upstreams by name: all routes to them have priority `core`, and are not shed.",
            unordered=True,
        ),
    ] = ()


class CircuitBreaker(Section, frozen=True):
    """A backend that fails time after time is left alone for a while; per machine.

    Requests go to another backend, or get 503 (`circuit_open`) where there is none.
    """

    enabled: Annotated[
        bool,
        described(
            "Leave backends alone that fail.",
            hazard="Off: requests wait for a broken backend until they time out.",
        ),
    ] = True
    failure_threshold: Annotated[
        int,
        Meta(ge=1, le=THRESHOLD_MAX),
        described(
            "So many failures in a row open it: connections or responses that do not come or "
            "break off. Requests that one lost connection takes with it are one failure."
        ),
    ] = 3
    open_ms: Annotated[
        Milliseconds,
        described("Longest time that it is open: it doubles each time that a probe fails."),
    ] = 30_000
    open_initial_ms: Annotated[
        Milliseconds | None,
        described("Time that it is open at first; null for 1000, or `open_ms` if that is less."),
    ] = None
    half_open_max_probes: Annotated[
        int,
        Meta(ge=1, le=PROBES_MAX),
        described("Requests let through at once after that; one that succeeds closes it."),
    ] = 1

    @property
    def first_open_ms(self) -> int:
        """How long it is open at first."""
        if self.open_initial_ms is None:
            return min(OPEN_INITIAL_MS, self.open_ms)
        return self.open_initial_ms
