"""Metrics of the reference that are told by what nobody counts, under its names."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from spooky.observe.families import Family, Labels
from spooky.observe.metrics import PREFIX, Fact, Kind

_DAY_SECONDS: Final = 86_400


class _Alias(NamedTuple):
    """A metric that is one of ours, summed over the labels that are not kept."""

    name: str
    help: str
    ours: str
    kind: Kind = Kind.COUNTER
    label: str = ""
    """Which label decides whether a number counts."""
    values: tuple[str, ...] = ()
    """What it has to be."""
    keeps: tuple[str, ...] = ()
    in_days: bool = False
    """Whether a moment is told as how many days it is away."""


_ALIASES: Final = (
    _Alias(
        "health_checks_success_total", "Checks of backends that succeeded.", "health_checks_total",
        label="outcome", values=("succeeded",),
    ),
    _Alias(
        "health_checks_failure_total", "Checks of backends that failed.", "health_checks_total",
        label="outcome", values=("failed",),
    ),
    _Alias(
        "backend_dns_refresh_success_total", "Names of backends that resolved again.",
        "backend_dns_refreshes_total", label="outcome", values=("changed", "unchanged"),
    ),
    _Alias(
        "backend_dns_refresh_failure_total", "Names of backends that did not resolve again.",
        "backend_dns_refreshes_total", label="outcome", values=("empty", "failed"),
    ),
    _Alias(
        "backend_dns_address_set_changes_total", "Times that the name of a backend led elsewhere.",
        "backend_dns_refreshes_total", label="outcome", values=("changed",),
    ),
    _Alias(
        "watchdog_restart_requests_total", "Workers that the watchdog replaced.",
        "watchdog_replacements_total",
    ),
    _Alias(
        "runtime_panics_total", "Workers that died and were replaced.", "worker_restarts_total"
    ),
    _Alias(
        "runtime_active_generation", "Number of the generation in force.", "generation", Kind.GAUGE
    ),
    _Alias(
        "downstream_tls_certificate_not_after_seconds",
        "When a listener's certificate expires, since 1970.", "certificate_expiry_seconds",
        Kind.GAUGE, keeps=("listener", "server_name", "fingerprint"),
    ),
    _Alias(
        "downstream_tls_certificate_days_remaining", "Days until a listener's certificate expires.",
        "certificate_expiry_seconds", Kind.GAUGE,
        keeps=("listener", "server_name", "fingerprint"), in_days=True,
    ),
    _Alias(
        "upstream_client_certificate_not_after_seconds",
        "When a certificate that backends are shown expires, since 1970.",
        "client_certificate_expiry_seconds", Kind.GAUGE, keeps=("file", "fingerprint"),
    ),
    _Alias(
        "upstream_client_certificate_days_remaining",
        "Days until a certificate that backends are shown expires.",
        "client_certificate_expiry_seconds", Kind.GAUGE, keeps=("file", "fingerprint"),
        in_days=True,
    ),
)  # fmt: skip

NAMES: Final = tuple(alias.name for alias in _ALIASES)
"""All of them, without prefix."""


def reference_fact_families(facts: Iterable[Fact]) -> Iterator[Family]:
    """Yield the reference's metrics that facts of ours tell; none where there is no such fact."""
    sums: dict[_Alias, Counter[Labels]] = {}
    for fact in facts:
        for alias in _BY_OURS.get(fact.name, ()):
            labels = dict(fact.labels)
            if alias.label and labels[alias.label] not in alias.values:
                continue
            value = (fact.value - time.time()) / _DAY_SECONDS if alias.in_days else fact.value
            kept = tuple((label, labels[label]) for label in alias.keeps)
            found = sums.setdefault(alias, Counter())
            # Several facts under the same labels: what is counted is summed, a state is not.
            found[kept] = value if alias.kind is Kind.GAUGE else found[kept] + value  # type: ignore[assignment]
    for alias, samples in sums.items():
        yield Family(PREFIX + alias.name, alias.kind, alias.help, list(samples.items()))


_BY_OURS: Final[dict[str, list[_Alias]]] = {}
for _alias in _ALIASES:
    _BY_OURS.setdefault(_alias.ours, []).append(_alias)
