"""The rules that the type of one value cannot say."""

from collections.abc import Collection
from typing import Final

from spooky import _core
from spooky.config.control import check_control
from spooky.config.control_reach import check_control_reach
from spooky.config.listener_rules import check_listeners
from spooky.config.observability import check_observability
from spooky.config.overload_manager import check_overload_manager
from spooky.config.overload_rules import check_overload
from spooky.config.paths import canonical_path_prefix
from spooky.config.performance import Performance
from spooky.config.places import check_places
from spooky.config.problems import InvalidValueError, quoted
from spooky.config.report import Report
from spooky.config.resilience import ProtocolLimits
from spooky.config.retries import check_retry, check_retry_budget
from spooky.config.route_rules import check_routes
from spooky.config.schema import Configuration
from spooky.config.security import check_privileges
from spooky.config.shared_room import check_shared_room
from spooky.config.source_rules import check_source_rules
from spooky.config.upstream_rules import TOKEN, check_upstreams
from spooky.config.watchdog import check_watchdog


def check(configuration: Configuration, apps: Collection[str], report: Report) -> None:
    """Report everything that the rules find wrong.

    Arguments:
        configuration: As read; values that could not be read have stand-ins.
        apps: Names of the applications embedded with Spooky.
        report: Where problems go.
    """
    check_listeners(configuration, report)
    check_places(configuration, report)
    _check_performance(configuration.performance, report)
    _check_protocol_limits(configuration.resilience.protocol, report)
    _check_early_data(configuration, report)
    check_overload_manager(configuration.resilience.overload, report)
    check_watchdog(configuration.resilience.watchdog, report)
    _check_retries(configuration, report)
    _check_logs(configuration, report)
    check_control(configuration.control, report)
    check_privileges(configuration.security.privileges, report)
    check_observability(configuration.observability, report)
    check_control_reach(configuration, report)
    check_overload(configuration, report)
    check_shared_room(configuration, report)
    check_upstreams(configuration, apps, report)
    check_routes(configuration, report)


# --- performance ------------------------------------------------------------------------------
_NOT_GREATER: Final = (
    ("backend_connect_timeout_ms", "backend_timeout_ms"),
    ("backend_timeout_ms", "backend_body_idle_timeout_ms"),
    ("backend_body_total_timeout_ms", "backend_total_request_timeout_ms"),
    ("quic_initial_max_stream_data", "quic_initial_max_data"),
)
"""Pairs of which the first must not exceed the second, where both are set."""

_NEVER_REACHED: Final = (
    ("per_backend_inflight_limit", "per_upstream_inflight_limit"),
    ("per_upstream_inflight_limit", "global_inflight_limit"),
)
"""Pairs of which the first never acts where it exceeds the second."""


def _check_performance(performance: Performance, report: Report) -> None:
    if performance.quic_engine == "native" and not _core.COMPILED:
        report.error(
            ("performance", "quic_engine"),
            '"native" needs the compiled kernels, which this installation does not have',
            "use auto or aioquic, or install with a compiler",
        )
    check_source_rules(performance.source_rules, report)
    for lesser, greater in _NOT_GREATER:
        low, high = getattr(performance, lesser), getattr(performance, greater)
        if high is not None and low > high:
            report.error(
                ("performance", lesser),
                f"{low} is more than {greater}, which is {high}",
                f"lower it to {high} or less, or raise {greater}",
                related=(("performance", greater),),
            )
    for lesser, greater in _NEVER_REACHED:
        path, above = ("performance", lesser), ("performance", greater)
        low, high = getattr(performance, lesser), getattr(performance, greater)
        # Who lowers one and leaves the other at its default contradicts nothing.
        if low > high and report.positions.has(path) and report.positions.has(above):
            report.warning(
                path,
                f"{low} is more than {greater}, which is {high}: so many are never in flight, and "
                "the limit never acts",
                f"lower it to {high} or less, or raise {greater}",
                related=(above,),
            )


# --- resilience -------------------------------------------------------------------------------
def _check_protocol_limits(limits: ProtocolLimits, report: Report) -> None:
    path = ("resilience", "protocol")
    for i, method in enumerate(limits.allowed_methods):
        if not TOKEN.fullmatch(method):
            report.error((*path, "allowed_methods", i), f"{quoted(method)} is not a method")
    for i, prefix in enumerate(limits.denied_path_prefixes):
        prefix_path = (*path, "denied_path_prefixes", i)
        try:
            canonical = canonical_path_prefix(prefix)
        except InvalidValueError as error:
            report.error(prefix_path, error.message, error.remedy)
            continue
        if canonical != prefix:
            report.error(
                prefix_path,
                "no request matches this: paths are compared in their canonical form",
                f"write {quoted(canonical)}",
            )


def _check_early_data(configuration: Configuration, report: Report) -> None:
    if not configuration.resilience.protocol.allow_0rtt:
        return
    path = ("resilience", "protocol", "allow_0rtt")
    if configuration.performance.quic_engine == "aioquic":
        report.error(
            path,
            "the QUIC engine aioquic takes no 0-RTT data",
            "set it to false, or quic_engine to auto",
            related=(("performance", "quic_engine"),),
        )
    elif not _core.COMPILED:
        report.error(
            path,
            "0-RTT needs the compiled kernels, which this installation does not have",
            "set it to false, or install with a compiler",
        )


def _check_retries(configuration: Configuration, report: Report) -> None:
    resilience = configuration.resilience
    total = configuration.performance.backend_total_request_timeout_ms
    check_retry(("resilience", "retry"), resilience.retry, total, report)
    for name, upstream in configuration.upstream.items():
        if upstream.retry is not None:
            check_retry(("upstream", name, "retry"), upstream.retry, total, report)
    check_retry_budget(resilience.retry_budget, resilience.hedging, configuration.upstream, report)


# --- logs -------------------------------------------------------------------------------------
def _check_logs(configuration: Configuration, report: Report) -> None:
    if configuration.log.file.enabled and not configuration.log.file.path:
        report.error(("log", "file", "path"), "the file name is empty")
    if configuration.access_log.path == "":
        report.error(("access_log", "path"), "the file name is empty", "remove it for stderr")
