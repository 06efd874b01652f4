"""The rules that the type of one value cannot say: routes, alone and together."""

import difflib
from collections.abc import Collection
from typing import Final, TypeAlias

from spooky._core.routes import Rule
from spooky.config.hosts import parse_host_pattern
from spooky.config.paths import canonical_path_prefix
from spooky.config.problems import InvalidValueError, Path, format_path, quoted
from spooky.config.report import Report
from spooky.config.schema import Configuration, Route
from spooky.config.upstream_rules import TOKEN

_CRITERIA: Final = ("host", "path_prefix", "method")

_Rules: TypeAlias = dict[tuple[bytes | None, bytes, bytes | None], Path]
"""Where each route stands, by what it matches."""


def check_routes(configuration: Configuration, report: Report) -> None:
    """Report what is wrong with routes, and which upstreams none leads to.

    Arguments:
        configuration: As read.
        report: Where problems go.
    """
    rules: _Rules = {}
    for name, upstream in configuration.upstream.items():
        if upstream.route is not None:
            _check_route(("upstream", name, "route"), name, upstream.route, rules, report)
    for i, route in enumerate(configuration.routes):
        path: Path = ("routes", i)
        _check_route(path, route.upstream, route, rules, report)
        if route.upstream not in configuration.upstream and not report.is_broken(
            (*path, "upstream"), ("upstream",)
        ):
            report.error(
                (*path, "upstream"),
                f"there is no upstream {quoted(route.upstream)}",
                _nearest(route.upstream, configuration.upstream),
            )
    _check_all_reached(configuration, report)


def _nearest(name: str, upstreams: Collection[str]) -> str:
    near = difflib.get_close_matches(name, upstreams, n=1)
    return f"did you mean {near[0]}?" if near else "name one of the mapping `upstream`"


def _check_all_reached(configuration: Configuration, report: Report) -> None:
    if report.is_broken(("routes",)):
        return
    reached = {name for name, _ in configuration.all_routes()}
    for name in configuration.upstream:
        path: Path = ("upstream", name)
        if name not in reached and not report.is_broken(path, (*path, "route")):
            report.error(
                path,
                "no route leads to this upstream",
                f"add route to it, or an entry with upstream: {name} to the top-level routes",
            )


def _check_route(path: Path, upstream: str, route: Route, rules: _Rules, report: Report) -> None:
    if report.is_broken(*((*path, key) for key in _CRITERIA)):
        return
    if route.host is None and route.path_prefix is None:
        report.error(
            path,
            "the route has neither host nor path_prefix",
            "add one of them; path_prefix: / takes every request",
        )
        return
    if _can_match(path, route, report):
        _check_differs(path, upstream, route, rules, report)


def _can_match(path: Path, route: Route, report: Report) -> bool:
    """Report what no request can match, and return whether there was none."""
    sound = True
    try:
        if route.host is not None:
            parse_host_pattern(route.host)
    except InvalidValueError as error:
        report.error((*path, "host"), error.message, error.remedy)
        sound = False
    try:
        if route.path_prefix is not None:
            canonical_path_prefix(route.path_prefix)
    except InvalidValueError as error:
        report.error((*path, "path_prefix"), error.message, error.remedy)
        sound = False
    if route.method is not None and not TOKEN.fullmatch(route.method):
        report.error((*path, "method"), f"{quoted(route.method)} is not a method", "write GET")
        sound = False
    return sound


def _check_differs(path: Path, upstream: str, route: Route, rules: _Rules, report: Report) -> None:
    host, prefix, method = (
        None if text is None else text.encode()
        for text in (route.host, route.path_prefix, route.method)
    )
    rule = Rule(upstream, host, prefix, method, None)
    other = rules.setdefault((rule.host, rule.path_prefix, rule.method), path)
    if other != path:
        first = report.positions.of_key(other)
        where = f", on line {first.line}" if first else ""
        report.error(
            path,
            f"{format_path(other)}{where}, matches exactly the same requests",
            "let them differ in host, path_prefix or method, or give one upstream all backends",
        )
