"""The ``outlier_detection`` section: which backends are taken out for how their requests end."""

from typing import Annotated, Final

from msgspec import Meta

from spooky.config.fields import MAX_MILLISECONDS, Section, described
from spooky.config.problems import Path
from spooky.config.report import Report

CONSECUTIVE_MAX: Final = 10_000  # who waits for more errors in a row wants none counted
INTERVAL_MIN: Final = 100  # ms: less than this gathers too little to compare
REQUEST_VOLUME_MIN: Final = 10  # of fewer requests a share says nothing
FACTOR_MAX: Final = 1_000.0  # beyond it nothing deviates

DETECTORS: Final = (
    "consecutive_errors",
    "consecutive_gateway_errors",
    "success_rate_stdev_factor",
    "latency_factor",
)
"""The keys that switch a way of detection off when they are null."""


class OutlierDetection(Section, frozen=True):
    """How a backend is found that serves worse than the others; once for the whole machine."""

    enabled: Annotated[
        bool,
        described(
            "Take out, for a time, the backends whose requests fail or are slow.",
            hazard="Off: a backend that is broken, and is not checked, goes on getting requests.",
        ),
    ] = True
    consecutive_errors: Annotated[
        Annotated[int, Meta(ge=1, le=CONSECUTIVE_MAX)] | None,
        described(
            "So many requests in a row that fail, or that it answers with 5xx, eject a backend at "
            "once. Null: they do not."
        ),
    ] = 5
    consecutive_gateway_errors: Annotated[
        Annotated[int, Meta(ge=1, le=CONSECUTIVE_MAX)] | None,
        described(
            "So many in a row that fail to connect, are reset, time out, or are answered with 502, "
            "503 or 504. Null: they do not."
        ),
    ] = 5
    success_rate_stdev_factor: Annotated[
        Annotated[float, Meta(ge=1, le=FACTOR_MAX)] | None,
        described(
            "A backend is ejected whose share of errors in an interval is so many standard "
            "deviations above that of the others, and at least 3 % of its requests. Null: never."
        ),
    ] = 4.0
    latency_factor: Annotated[
        Annotated[float, Meta(ge=1.1, le=FACTOR_MAX)] | None,
        described(
            "A backend is ejected whose typical time to the response head in an interval is more "
            "than so many times that of the others, and at least 10 ms more. Null: never."
        ),
    ] = 5.0
    min_hosts: Annotated[
        int,
        Meta(ge=2, le=10_000),
        described(
            "Backends are compared where at least so many of an upstream had `request_volume`."
        ),
    ] = 3
    request_volume: Annotated[
        int,
        Meta(ge=REQUEST_VOLUME_MIN, le=1_000_000),
        described("A backend is compared only if it had so many requests in the interval."),
    ] = 100
    interval_ms: Annotated[
        int,
        Meta(ge=INTERVAL_MIN, le=MAX_MILLISECONDS),
        described("How often backends are compared.", unit="ms"),
    ] = 10_000
    base_ejection_ms: Annotated[
        int,
        Meta(ge=INTERVAL_MIN, le=MAX_MILLISECONDS),
        described(
            "How long a backend is ejected the first time; each time that it soon has to be "
            "ejected again, for twice as long.",
            unit="ms",
        ),
    ] = 30_000
    max_ejection_ms: Annotated[
        int,
        Meta(ge=INTERVAL_MIN, le=MAX_MILLISECONDS),
        described("How long it is ejected at most.", unit="ms"),
    ] = 300_000
    max_ejected_percent: Annotated[
        int,
        Meta(ge=1, le=100),
        described(
            "At most this share of an upstream's enabled backends, rounded up, is ejected at a "
            "time; the last one that can serve never is.",
            hazard="At 100, a fault behind all backends alike leaves one of them for all requests.",
        ),
    ] = 33


def check_outlier_detection(path: Path, section: OutlierDetection, report: Report) -> None:
    """Report what is wrong with an outlier detection.

    Arguments:
        path: Where it stands.
        section: The section.
        report: Where problems go.
    """
    if section.max_ejection_ms < section.base_ejection_ms:
        report.error(
            (*path, "max_ejection_ms"),
            f"{section.max_ejection_ms} is less than base_ejection_ms, which is "
            f"{section.base_ejection_ms}",
            f"raise it to {section.base_ejection_ms} or more, or lower base_ejection_ms",
            related=((*path, "base_ejection_ms"),),
        )
    errors, gateway_errors = section.consecutive_errors, section.consecutive_gateway_errors
    if errors is not None and gateway_errors is not None and gateway_errors > errors:
        report.error(
            (*path, "consecutive_gateway_errors"),
            f"{gateway_errors} is never reached: gateway errors are errors, too, and "
            f"{errors} of them in a row eject the backend before",
            f"lower it to {errors} or less, or set it to null",
            related=((*path, "consecutive_errors"),),
        )
    if section.enabled and all(getattr(section, key) is None for key in DETECTORS):
        report.error(
            (*path, "enabled"),
            "nothing is detected: every way of detection is null",
            f"give one of {', '.join(DETECTORS)} a number, or set enabled: false",
        )
