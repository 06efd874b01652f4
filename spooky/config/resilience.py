"""The ``resilience`` section: what protects Spooky and backends."""

from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import force_setattr

from spooky.config.fields import Section, described
from spooky.config.glitches import Glitches
from spooky.config.overload import AdaptiveAdmission, Brownout, CircuitBreaker, RouteQueue
from spooky.config.overload_manager import Overload
from spooky.config.retries import Hedging, RetryBudgetSettings, RetrySettings
from spooky.config.watchdog import Watchdog


class ProtocolLimits(Section, frozen=True):
    """What a request may look like, on every protocol."""

    max_headers_count: Annotated[
        int,
        Meta(ge=1, le=10_000),
        described("Header fields in a request head; more get 431."),
    ] = 128
    max_headers_bytes: Annotated[
        int,
        Meta(ge=256, le=1_048_576, extra={"unit": "bytes"}),
        described(
            "Sum of the lengths of header names and values; more gets 431.",
            hazard="Backends have limits of their own, often 8 KiB.",
        ),
    ] = 16_384
    enforce_authority_host_match: Annotated[
        bool, described("Refuse a request whose `Host` differs from its `:authority`, with 400.")
    ] = True
    underscores_in_headers: Annotated[
        Literal["pass", "drop", "reject"],
        described(
            "What becomes of request fields and trailers with an underscore in their name: they "
            "`pass`, are left out (`drop`), or the request gets 400 (`reject`). "
            "`spooky_requests_with_dropped_fields_total` counts requests that lost some fields.",
            hazard="Backends that speak CGI or WSGI take `x_forwarded_for` for `x-forwarded-for`: "
            "with `pass`, clients can say there what Spooky alone should.",
        ),
    ] = "drop"
    allow_0rtt: Annotated[
        bool,
        described(
            "Let clients that come again send requests with the first packets of their handshake "
            "(0-RTT). Backends see `Early-Data: 1`, and may answer 425.",
            hazard="What was recorded can be sent again: see 0-RTT in "
            "[the life of a request](request-life.md). The client's address is not proven then, "
            "unless `quic_retry` is `always`.",
        ),
    ] = False
    early_data_safe_methods: Annotated[
        tuple[Literal["GET", "HEAD"], ...],
        Meta(min_length=1),
        described(
            "Methods of requests that are taken in 0-RTT data; the others get 425, and clients "
            "send them again after the handshake.",
            unordered=True,
        ),
    ] = ("GET", "HEAD")
    allowed_methods: Annotated[
        tuple[str, ...],
        described(
            "Methods let through, the others get 405; empty for every method.", unordered=True
        ),
    ] = ()
    denied_path_prefixes: Annotated[
        tuple[str, ...],
        described(
            "Requests whose path starts with one of these get 403; plain text prefixes of the "
            "canonical path.",
            hazard="`/admin` denies `/administrator` too.",
            unordered=True,
        ),
    ] = ()
    glitches: Annotated[Glitches, described("How odd a client may be while Spooky is pressed.")] = (
        Glitches()
    )

    def __post_init__(self) -> None:
        force_setattr(self, "allowed_methods", tuple(m.upper() for m in self.allowed_methods))


class Resilience(Section, frozen=True):
    """Protection of Spooky and of backends."""

    protocol: Annotated[
        ProtocolLimits, described("What a request may look like, on every protocol.")
    ] = ProtocolLimits()
    adaptive_admission: Annotated[
        AdaptiveAdmission,
        described("A limit on requests in flight that follows how long they take."),
    ] = AdaptiveAdmission()
    route_queue: Annotated[
        RouteQueue,
        described("Caps on requests in flight, and the queue where requests wait for a place."),
    ] = RouteQueue()
    brownout: Annotated[Brownout, described("Shedding by the priority of routes.")] = Brownout()
    circuit_breaker: Annotated[
        CircuitBreaker, described("Leaving backends alone that fail time after time.")
    ] = CircuitBreaker()
    overload: Annotated[
        Overload, described("What is done as memory, processor time and descriptors run out.")
    ] = Overload()
    retry: Annotated[
        RetrySettings, described("When requests are tried again, but for upstreams with their own.")
    ] = RetrySettings()
    retry_budget: Annotated[
        RetryBudgetSettings, described("How many retries and hedges there may be.")
    ] = RetryBudgetSettings()
    hedging: Annotated[Hedging, described("Asking a second backend when the first takes long.")] = (
        Hedging()
    )
    watchdog: Annotated[
        Watchdog, described("When a worker that runs and does not serve is replaced.")
    ] = Watchdog()
