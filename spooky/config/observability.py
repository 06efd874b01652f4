"""The ``observability`` section: what others can learn of a running Spooky."""

import ipaddress
from typing import Annotated, Final

from msgspec import Meta

from spooky._core.decisions import RING_MIN_BYTES
from spooky._core.shared import DECISIONS_MAX_BYTES
from spooky.config.control_api import ControlApi, check_control_api
from spooky.config.fields import Milliseconds, Section, described
from spooky.config.hosts import parse_listener_address
from spooky.config.problems import InvalidValueError, Path, quoted
from spooky.config.report import Report

METRICS_CONNECTIONS_MAX: Final = 65_536  # each takes a file descriptor

_METRICS: Final[Path] = ("observability", "metrics")


class Metrics(Section, frozen=True):
    """The Prometheus endpoint: HTTP without TLS, served apart from the proxied traffic."""

    enabled: Annotated[bool, described("Serve metrics.")] = False
    required: Annotated[
        bool,
        described(
            "Refuse to start when the endpoint's address cannot be bound, instead of serving "
            "without metrics."
        ),
    ] = False
    address: Annotated[str, described("IP address of the endpoint.")] = "127.0.0.1"
    allow_non_loopback: Annotated[
        bool,
        described(
            "Allow an address that other machines can reach.",
            hazard="Whoever can reach it reads names of upstreams and backends and their traffic; "
            "there is no authentication.",
        ),
    ] = False
    port: Annotated[
        int, Meta(ge=0, le=65_535), described("TCP port of the endpoint; 0 takes a free one.")
    ] = 9901
    path: Annotated[str, described("Path of the page; every other path is 404.")] = "/metrics"
    max_connections: Annotated[
        int,
        Meta(ge=1, le=METRICS_CONNECTIONS_MAX),
        described("Connections to the endpoint at once; more are closed."),
    ] = 512
    connection_timeout_ms: Annotated[
        Milliseconds, described("A connection to the endpoint is closed after this time.")
    ] = 30_000


class Decisions(Section, frozen=True):
    """What is kept of the last requests, for `spooky why`."""

    bytes: Annotated[
        int,
        Meta(ge=0, le=DECISIONS_MAX_BYTES),
        described(
            "Memory in which each worker keeps what became of its last requests, 200 to 350 "
            "bytes for each; it outlives the worker. 0 keeps nothing, else at least 65536. A "
            "change forgets what was kept.",
        ),
    ] = 4 * 1024 * 1024


class Observability(Section, frozen=True):
    """What others can learn of a running Spooky."""

    metrics: Annotated[Metrics, described("The Prometheus endpoint.")] = Metrics()
    control_api: Annotated[
        ControlApi, described("The control API over TCP, with TLS; `control.socket` is the local.")
    ] = ControlApi()
    decisions: Annotated[
        Decisions, described("What is kept of the last requests, for `spooky why`.")
    ] = Decisions()


def check_observability(observability: Observability, report: Report) -> None:
    """Report what is wrong with the metrics endpoint and the control API."""
    check_control_api(observability.control_api, report)
    if 0 < observability.decisions.bytes < RING_MIN_BYTES:
        report.error(
            ("observability", "decisions", "bytes"),
            f"{observability.decisions.bytes} bytes hold too few requests to be of use",
            f"write {RING_MIN_BYTES} or more, or 0 to keep nothing",
        )
    metrics = observability.metrics
    if not metrics.path.startswith("/") or "?" in metrics.path or "#" in metrics.path:
        report.error((*_METRICS, "path"), f"{quoted(metrics.path)} is not a path", "write /metrics")
    if metrics.required and not metrics.enabled:
        report.error(
            (*_METRICS, "required"),
            "metrics are required but not enabled",
            "set enabled: true, or remove this",
            related=((*_METRICS, "enabled"),),
        )
    try:
        address = parse_listener_address(metrics.address)
    except InvalidValueError as error:
        report.error((*_METRICS, "address"), error.message, error.remedy)
        return
    if not metrics.allow_non_loopback and not ipaddress.ip_address(address).is_loopback:
        report.error(
            (*_METRICS, "address"),
            f"other machines can reach {address}, and the endpoint asks nobody who they are",
            "write 127.0.0.1, or set allow_non_loopback: true",
            related=((*_METRICS, "allow_non_loopback"),),
        )
