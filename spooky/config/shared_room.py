"""How much of the table that workers share a configuration takes, and that it takes no more.

What has no entry there is counted by each worker alone: its limits would be one for each worker,
and health checks, ejections and breakers would not reach the others.
"""

from collections.abc import Hashable, Mapping
from typing import Final

from spooky._core.shared import LIMITS_MAX
from spooky.config.inventory import route_name, rule_of
from spooky.config.report import Report
from spooky.config.schema import Configuration, Route

ENTRIES_PER_BACKEND: Final = 3
"""Its health, how requests end there, and its limit with its breaker."""

ENTRIES_PER_UPSTREAM: Final = 3
"""Its limit, its adaptive limit, and its retries."""

ENTRIES_BESIDE: Final = 512
"""For what is there once, or once for each worker."""

ENTRIES_MAX: Final = LIMITS_MAX - ENTRIES_BESIDE


def shared_entries(configuration: Configuration) -> Mapping[Hashable, int]:
    """Return how many entries each thing takes, by what makes it the same in another generation."""
    entries: dict[Hashable, int] = {}
    for name, upstream in configuration.upstream.items():
        entries[name] = ENTRIES_PER_UPSTREAM
        for backend in upstream.listed_backends:
            entries[name, backend.id] = ENTRIES_PER_BACKEND
    for name, route in configuration.all_routes():
        if route.max_inflight is not None:
            entries["route", _same_route(name, route)] = 1
    return entries


def _same_route(upstream: str, route: Route) -> Hashable:
    """Return what its limit goes by, wherever it stands."""
    try:
        return route_name(rule_of(upstream, route))
    except ValueError:
        # An error of the configuration, which is reported elsewhere.
        return route


def check_shared_room(configuration: Configuration, report: Report) -> None:
    """Report a configuration that takes more entries than there are."""
    taken = sum(shared_entries(configuration).values())
    if taken > ENTRIES_MAX:
        backends = sum(len(each.listed_backends) for each in configuration.upstream.values())
        report.error(
            ("upstream",),
            f"{backends} backends of {len(configuration.upstream)} upstreams take {taken} entries "
            f"of the table that workers share, which has {ENTRIES_MAX}: {ENTRIES_PER_BACKEND} for "
            f"each backend, {ENTRIES_PER_UPSTREAM} for each upstream, 1 for each route with "
            "max_inflight",
            f"have no more than about {ENTRIES_MAX // ENTRIES_PER_BACKEND} backends in all",
        )
