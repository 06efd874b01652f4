"""The ``health_check`` section: how Spooky asks a backend whether it can serve."""

import re
from typing import Annotated, Final, Literal

from msgspec import Meta

from spooky.config.fields import MAX_MILLISECONDS, Section, described
from spooky.config.problems import Path, quoted
from spooky.config.report import Report

THRESHOLD_MAX: Final = 100  # more checks in a row decide nothing that fewer do not
INTERVAL_MIN: Final = 100  # ms: more often is load, not a question
EXPECTED_BODY_MAX: Final = 1_024  # characters: it is a mark, not a page

STATUS_RANGE: Final = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")


class HealthCheck(Section, frozen=True):
    """How a backend is asked whether it can serve; once for the whole machine."""

    type: Annotated[
        Literal["http", "grpc", "tcp"],
        described(
            "`http` makes a GET request by the upstream's protocol, `grpc` asks "
            "`grpc.health.v1.Health`, `tcp` only connects (and completes TLS for `https`); not for "
            "`protocol: http3`."
        ),
    ] = "http"
    path: Annotated[str, described("What an `http` check asks for.")] = "/health"
    interval: Annotated[
        int,
        Meta(ge=INTERVAL_MIN, le=MAX_MILLISECONDS),
        described(
            "Time between checks; each is up to a tenth earlier or later, and after failures "
            "twice, then four times as long passes.",
            unit="ms",
        ),
    ] = 5_000
    timeout_ms: Annotated[
        int,
        Meta(ge=1, le=MAX_MILLISECONDS),
        described("How long one check may take.", unit="ms"),
    ] = 1_000
    failure_threshold: Annotated[
        int,
        Meta(ge=1, le=THRESHOLD_MAX),
        described("So many failures in a row take the backend out of the choice."),
    ] = 3
    success_threshold: Annotated[
        int,
        Meta(ge=1, le=THRESHOLD_MAX),
        described("So many successes in a row bring it back."),
    ] = 2
    cooldown_ms: Annotated[
        int,
        Meta(ge=0, le=MAX_MILLISECONDS),
        described(
            "How long a backend stays out at least; successes in that time do not count.",
            unit="ms",
        ),
    ] = 5_000
    expected_status: Annotated[
        tuple[str, ...],
        described(
            "Statuses that mean success, as `204` or `200-299`, all others mean failure. Empty: "
            "below 400 is success, 5xx failure, and 4xx counts as neither.",
            unordered=True,
        ),
    ] = ()
    expected_body: Annotated[
        Annotated[str, Meta(min_length=1, max_length=EXPECTED_BODY_MAX)] | None,
        described("Text that the first 64 KiB of the response's body must have in it."),
    ] = None
    grpc_service: Annotated[
        str, described("The service that a `grpc` check asks about; empty for the whole server.")
    ] = ""


def check_health_check(path: Path, check: HealthCheck, protocol: str, report: Report) -> None:
    """Report what is wrong with a health check.

    Arguments:
        path: Where it stands.
        check: The section.
        protocol: That of its upstream.
        report: Where problems go.
    """
    if check.timeout_ms > check.interval:
        report.error(
            (*path, "timeout_ms"),
            f"{check.timeout_ms} is more than interval, which is {check.interval}",
            f"lower it to {check.interval} or less, or raise interval",
            related=((*path, "interval"),),
        )
    if not re.fullmatch(r"/[\x21-\x7e]*", check.path) or "#" in check.path:
        report.error(
            (*path, "path"),
            f"{quoted(check.path)} cannot be asked for",
            "write a path with a slash first, other characters than ASCII percent-encoded",
        )
    for i, text in enumerate(check.expected_status):
        if parse_statuses(text) is None:
            report.error(
                (*path, "expected_status", i),
                f"{quoted(text)} is no status and no range of statuses",
                'write "204" or "200-299"',
            )
    for key in ("path", "expected_status", "expected_body"):
        if check.type != "http" and getattr(check, key) != getattr(HealthCheck(), key):
            report.error(
                (*path, key),
                f"a {check.type} check makes no request of its own",
                "remove it, or set type: http",
                related=((*path, "type"),),
            )
    if check.type != "grpc" and check.grpc_service:
        report.error(
            (*path, "grpc_service"),
            f"an {check.type} check asks about no service",
            "remove it, or set type: grpc",
            related=((*path, "type"),),
        )
    if check.type == "tcp" and protocol == "http3":
        report.error(
            (*path, "type"),
            "HTTP/3 is not over TCP, and protocol is http3",
            "set type: http, which asks over HTTP/3",
        )
    if check.type == "grpc" and protocol == "http1":
        report.error(
            (*path, "type"),
            "gRPC needs HTTP/2 or HTTP/3, and protocol is http1",
            "set protocol: http2",
        )


def parse_statuses(text: str) -> range | None:
    """Return the statuses that a text like ``200-299`` names, or ``None``."""
    matched = STATUS_RANGE.fullmatch(text)
    if matched is None:
        return None
    first, last = int(matched[1]), int(matched[2] or matched[1])
    return range(first, last + 1) if first <= last else None
