"""The rules that the type of one value cannot say: admission, caps, brownout and breakers."""

import difflib
from collections.abc import Iterator
from typing import Final

from spooky.config.overload import AdaptiveAdmission
from spooky.config.problems import Path, quoted
from spooky.config.report import Report
from spooky.config.schema import Configuration, Route

_ROOT: Final = ("resilience",)
_KEYS_OF: Final = {
    "gradient": ("latency_tolerance_percent", "measure_interval_ms"),
    "aimd": ("increase_step", "decrease_step", "high_latency_ms"),
}


def check_overload(configuration: Configuration, report: Report) -> None:
    """Report limits that contradict each other, and thresholds that are never or always reached.

    Arguments:
        configuration: As read.
        report: Where problems go.
    """
    _check_adaptive(configuration, report)
    _check_caps(configuration, report)
    _check_brownout(configuration, report)
    _check_breaker(configuration, report)


# --- adaptive admission -----------------------------------------------------------------------
def _check_adaptive(configuration: Configuration, report: Report) -> None:
    adaptive = configuration.resilience.adaptive_admission
    path: Path = (*_ROOT, "adaptive_admission")
    _check_algorithm(path, adaptive, report)
    performance = configuration.performance
    highest, name = performance.per_upstream_inflight_limit, "per_upstream_inflight_limit"
    if adaptive.min_limit is not None and adaptive.min_limit > highest:
        report.error(
            (*path, "min_limit"),
            f"{adaptive.min_limit} is more than performance.{name}, which is {highest}: "
            "so many are never in flight, and the limit never acts",
            f"lower it to {highest} or less",
            related=(("performance", name),),
        )
    if adaptive.max_limit is None:
        return
    if adaptive.min_limit is not None and adaptive.min_limit > adaptive.max_limit:
        report.error(
            (*path, "min_limit"),
            f"{adaptive.min_limit} is more than max_limit, which is {adaptive.max_limit}",
            f"lower it to {adaptive.max_limit} or less, or raise max_limit",
            related=((*path, "max_limit"),),
        )
    if adaptive.max_limit > performance.global_inflight_limit:
        report.error(
            (*path, "max_limit"),
            f"{adaptive.max_limit} is more than performance.global_inflight_limit, which is "
            f"{performance.global_inflight_limit}: one upstream never has more in flight than all",
            f"lower it to {performance.global_inflight_limit} or less",
            related=(("performance", "global_inflight_limit"),),
        )


def _check_algorithm(path: Path, adaptive: AdaptiveAdmission, report: Report) -> None:
    for algorithm, keys in _KEYS_OF.items():
        for key in keys:
            if algorithm != adaptive.algorithm and getattr(adaptive, key) is not None:
                report.error(
                    (*path, key),
                    f"{adaptive.algorithm} does not use it",
                    f"remove it, or write algorithm: {algorithm}",
                    related=((*path, "algorithm"),),
                )


# --- caps -------------------------------------------------------------------------------------
def _check_caps(configuration: Configuration, report: Report) -> None:
    queue, performance = configuration.resilience.route_queue, configuration.performance
    path: Path = (*_ROOT, "route_queue")
    limits: list[tuple[Path, int | None, str]] = [
        ((*path, "global_cap"), queue.global_cap, "global_inflight_limit"),
        ((*path, "default_cap"), queue.default_cap, "per_upstream_inflight_limit"),
    ]
    for name, cap in queue.caps.items():
        limits.append(((*path, "caps", name), cap, "per_upstream_inflight_limit"))
        if name not in configuration.upstream:
            report.error(
                (*path, "caps", name),
                f"there is no upstream {quoted(name)}",
                _nearest(name, configuration),
            )
    for where, _, route in _routes(configuration):
        limits.append(((*where, "max_inflight"), route.max_inflight, "per_upstream_inflight_limit"))
    for place, most, key in limits:
        highest = getattr(performance, key)
        if most is not None and most > highest:
            report.error(
                place,
                f"{most} is more than performance.{key}, which is {highest}: "
                "so many are never in flight, and the cap never acts",
                f"lower it to {highest} or less, or raise {key}",
                related=(("performance", key),),
            )
    wait = performance.inflight_acquire_wait_ms
    if queue.target_ms is not None and 0 < wait < queue.target_ms:
        report.error(
            (*path, "target_ms"),
            f"{queue.target_ms} is more than performance.inflight_acquire_wait_ms, which is {wait}:"
            " under pressure requests would wait longer",
            f"lower it to {wait} or less",
            related=(("performance", "inflight_acquire_wait_ms"),),
        )


def _routes(configuration: Configuration) -> Iterator[tuple[Path, str, Route]]:
    for name, upstream in configuration.upstream.items():
        if upstream.route is not None:
            yield ("upstream", name, "route"), name, upstream.route
    for i, route in enumerate(configuration.routes):
        yield ("routes", i), route.upstream, route


def _nearest(name: str, configuration: Configuration) -> str:
    near = difflib.get_close_matches(name, configuration.upstream, n=1)
    return f"did you mean {near[0]}?" if near else "name one of the mapping `upstream`"


# --- brownout ---------------------------------------------------------------------------------
def _check_brownout(configuration: Configuration, report: Report) -> None:
    brownout = configuration.resilience.brownout
    path: Path = (*_ROOT, "brownout")
    trigger, recover = brownout.trigger_inflight_percent, brownout.recover_inflight_percent
    if recover >= trigger:
        report.error(
            (*path, "recover_inflight_percent"),
            f"{recover} is not less than trigger_inflight_percent, which is {trigger}: brownout "
            "would begin and end at once, over and over",
            f"lower it below {trigger}",
            related=((*path, "trigger_inflight_percent"),),
        )
    for i, name in enumerate(brownout.core_routes):
        if name not in configuration.upstream:
            report.error(
                (*path, "core_routes", i),
                f"there is no upstream {quoted(name)}",
                _nearest(name, configuration),
            )
    for where, name, route in _routes(configuration):
        if name in brownout.core_routes and route.priority not in ("normal", "core"):
            report.error(
                (*where, "priority"),
                f"{route.priority} contradicts core_routes, which names the upstream {name}",
                "remove one of them",
                related=((*path, "core_routes"),),
            )


# --- circuit breakers -------------------------------------------------------------------------
def _check_breaker(configuration: Configuration, report: Report) -> None:
    breaker = configuration.resilience.circuit_breaker
    path: Path = (*_ROOT, "circuit_breaker")
    if breaker.open_initial_ms is not None and breaker.open_initial_ms > breaker.open_ms:
        report.error(
            (*path, "open_initial_ms"),
            f"{breaker.open_initial_ms} is more than open_ms, which is {breaker.open_ms}",
            f"lower it to {breaker.open_ms} or less, or raise open_ms",
            related=((*path, "open_ms"),),
        )
