"""The reference's metrics as far as ours tell the same, under its names, worked out at the scrape.

Nothing is counted for them; what they say is a sum over ours. A counter's name ends in ``_total``
here also where the reference's does not. Those of latencies are in
:mod:`spooky.observe.reference_latencies`, those of what no worker counts in
:mod:`spooky.observe.reference_facts`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from spooky._core import reasons
from spooky._core.reasons import Fault, Reason, Stage
from spooky.observe.counters import CounterReader, SlotName
from spooky.observe.families import Family, Labels
from spooky.observe.metrics import PREFIX, Kind
from spooky.observe.outcomes import Outcome, is_shed, is_timeout, outcome_of, reason_of

NO_BACKEND: Final = "__none__"
"""The backend of requests that reached none."""

UNROUTED: Final = "unrouted"
"""The route of requests that none took."""

Sums = Mapping[SlotName, Sequence[int]]


class _Alias(NamedTuple):
    """A metric that is one of ours, summed over the labels that are not kept."""

    name: str
    help: str
    ours: str
    labels: Mapping[str, str] = {}
    kind: Kind = Kind.COUNTER
    keeps: tuple[str, ...] = ()


_ALIASES: Final = (
    _Alias("active_connections", "Client connections open.", "connections_active", {}, Kind.GAUGE),
    _Alias(
        "connection_cap_rejects_total", "Client connections refused as too many were open.",
        "connections_refused_total", {"reason": "connection_cap"},
    ),
    _Alias(
        "ingress_packets_total", "UDP datagrams that reached a connection.",
        "datagrams_received_total",
    ),
    _Alias(
        "ingress_queue_drops_total", "UDP datagrams that found no room in a queue.",
        "datagrams_handover_dropped_total",
    ),
    _Alias(
        "ingress_rate_limited_total", "Client connections refused as they came too fast.",
        "connections_refused_total", {"reason": "new_connection_rate"},
    ),
    _Alias(
        "ingress_bad_header_total", "UDP datagrams that are no QUIC packets.",
        "connections_refused_total", {"reason": "bad_packet"},
    ),
    _Alias(
        "ingress_unroutable_total", "Packets that belong to no connection.",
        "connections_refused_total", {"reason": "unknown_connection"},
    ),
    _Alias(
        "early_data_accepted_total", "Handshakes whose 0-RTT data was taken.",
        "early_data_total", {"outcome": "accepted"},
    ),
    _Alias(
        "early_data_rejected_total", "Handshakes whose 0-RTT data was not taken.",
        "early_data_total", {"outcome": "refused"},
    ),
    _Alias(
        "ingress_draining_drops_total", "Packets of new connections to a worker that ends.",
        "connections_refused_total", {"reason": "draining"},
    ),
    _Alias(
        "circuit_breaker_rejected_total", "Requests refused as circuit breakers were open.",
        "requests_total", {"reason": "circuit_open"},
    ),
    _Alias(
        "request_buffer_limit_rejects_total", "Requests refused as the request buffers were full.",
        "requests_total", {"reason": "request_buffer_cap"},
    ),
    _Alias(
        "response_prebuffer_limit_rejects_total",
        "Responses that were larger than may be passed on, or held back.",
        "requests_total", {"reason": "response_too_large"},
    ),
    _Alias("retries_total", "Tries that followed a failed one.", "upstream_retries_total"),
    _Alias(
        "retry_attempts_total", "Tries that followed a failed one, by why that failed.",
        "upstream_retries_total", keeps=("reason",),
    ),
    _Alias("hedge_triggered_total", "Requests sent to a second backend too.", "hedges_total"),
    _Alias(
        "hedge_won_total", "Requests that a second backend answered first.", "hedges_total",
        {"outcome": "won"},
    ),
    _Alias(
        "hedge_primary_won_after_trigger_total",
        "Requests that the first backend answered after all.", "hedges_total", {"outcome": "lost"},
    ),
    *(
        _Alias(
            "hedge_wasted_total", "Requests that a second backend had in vain.", "hedges_total",
            {"outcome": outcome},
        )
        for outcome in ("lost", "failed", "cancelled")
    ),
    _Alias(
        "downstream_tls_handshake_failure_total", "Handshakes of clients that failed.",
        "handshakes_failed_total",
    ),
)  # fmt: skip

_REQUESTS: Final = {
    "requests_success_total": "Requests that were answered by a backend, with no 5xx.",
    "requests_failure_total": "Requests that ended otherwise.",
    "request_validation_rejects_total": "Requests refused because they are not valid.",
    "policy_denied_total": "Requests that a policy refused.",
    "backend_timeouts_total": "Requests whose backend took too long.",
    "backend_errors_total": "Requests that failed by their backend otherwise.",
    "overload_shed_total": "Requests refused for want of room.",
}

_BY_LABELS: Final = {
    "overload_shed_by_reason_total": "Requests refused for want of room, by why.",
    "upstream_requests_total": "Requests that ended, by upstream and outcome.",
    "backend_requests_total": "Requests that ended, by backend and outcome.",
    "health_failures_total": "Tries that failed by their backend, by why.",
    "upstream_tls_failure_total": "Tries that failed at TLS to a backend, by why.",
    "route_requests_total": "Requests that ended, by the upstream that their route leads to.",
    "route_success_total": "Requests that were answered by a backend, with no 5xx, likewise.",
    "route_failure_total": "Requests that ended otherwise, likewise.",
    "route_timeout_total": "Requests for which somebody took too long, likewise.",
    "route_rate_limited_total": "Requests refused as they came too fast, likewise.",
    "route_backend_error_total": "Requests that failed by their backend otherwise, likewise.",
    "route_overload_shed_total": "Requests refused for want of room, likewise.",
}

_ROUTE_OUTCOMES: Final = {
    Outcome.SUCCESS: "route_success_total",
    Outcome.TIMEOUT: "route_timeout_total",
    Outcome.RATE_LIMITED: "route_rate_limited_total",
    Outcome.BACKEND_ERROR: "route_backend_error_total",
    Outcome.OVERLOAD_SHED: "route_overload_shed_total",
}

_TLS_FAILURES: Final = frozenset(
    {
        reasons.UPSTREAM_CERTIFICATE_INVALID, reasons.UPSTREAM_TLS_FAILED,
        reasons.UPSTREAM_ALPN_MISMATCH,
    }
)  # fmt: skip


def reference_families(sums: Sums) -> Iterator[Family]:
    """Yield the reference's metrics, from the sums over all workers."""
    counts: dict[str, Counter[Labels]] = {
        **{name: Counter({(): 0}) for name in _REQUESTS},
        **{name: Counter() for name in _BY_LABELS},
    }
    for alias in _ALIASES:
        counts[alias.name] = Counter() if alias.keeps else Counter({(): 0})
    for (metric, pairs), values in sums.items():
        labels = dict(pairs)
        for name, sample in _samples(metric, labels):
            counts[name][sample] += values[0]
        for alias in _BY_OURS.get(metric, ()):
            if alias.labels.items() <= labels.items():
                kept = tuple((label, labels[label]) for label in alias.keeps)
                counts[alias.name][kept] += values[0]
    for name, samples in counts.items():
        if samples:
            yield Family(PREFIX + name, _KINDS[name], _HELPS[name], list(samples.items()))


def worker_families(counters: CounterReader) -> Iterator[Family]:
    """Yield what each worker did, of the reference's metrics."""
    requests: dict[str, Counter[Labels]] = {name: Counter() for name in _OF_WORKERS}
    for worker, (_, pairs), value in counters.by_worker("requests_total"):
        labels, sample = dict(pairs), (("worker", str(worker)),)
        requests["worker_requests_total"][sample] += value
        if (reason := reason_of(labels)) is None:
            continue
        succeeded = outcome_of(reason, labels["status_class"]) is Outcome.SUCCESS
        ended = "worker_requests_success_total" if succeeded else "worker_requests_failure_total"
        requests[ended][sample] += value
    for name, ours in _DATAGRAMS_OF_WORKERS.items():
        for worker, _, value in counters.by_worker(ours):
            requests[name][("worker", str(worker)),] += value
    for name, samples in requests.items():
        if samples:
            yield Family(PREFIX + name, Kind.COUNTER, _OF_WORKERS[name], list(samples.items()))


_OF_WORKERS: Final = {
    "worker_requests_total": "Requests that ended, by worker slot.",
    "worker_requests_success_total": "Requests that were answered as asked, by worker slot.",
    "worker_requests_failure_total": "Requests that ended otherwise, by worker slot.",
    "worker_ingress_packets_total": "UDP datagrams that reached a connection, by worker slot.",
    "worker_ingress_queue_drops_total": "UDP datagrams that found no room, by worker slot.",
}
_DATAGRAMS_OF_WORKERS: Final = {
    "worker_ingress_packets_total": "datagrams_received_total",
    "worker_ingress_queue_drops_total": "datagrams_handover_dropped_total",
}

_HELPS: Final = {**_REQUESTS, **_BY_LABELS, **{alias.name: alias.help for alias in _ALIASES}}
_KINDS: Final = {
    **dict.fromkeys((*_REQUESTS, *_BY_LABELS), Kind.COUNTER),
    **{alias.name: alias.kind for alias in _ALIASES},
}

NAMES: Final = (*_HELPS, *_OF_WORKERS)
"""All of them, without prefix."""

_BY_OURS: Final[dict[str, list[_Alias]]] = {}
for _alias in _ALIASES:
    _BY_OURS.setdefault(_alias.ours, []).append(_alias)


def _samples(metric: str, labels: Mapping[str, str]) -> Iterator[tuple[str, Labels]]:
    """Yield what a number counts for, by its labels."""
    if metric not in ("requests_total", "upstream_retries_total"):
        return
    if (reason := reason_of(labels)) is None:
        return
    if metric == "requests_total":
        yield from _of_request(labels, reason)
        # Who was shed, by circuit breakers too, was not tried.
        failed = not is_shed(reason) and (
            reason.fault is Fault.UPSTREAM or _is_bad_answer(labels, reason)
        )
    else:
        failed = True
    if failed:
        why = reasons.UPSTREAM_STATUS if reason is reasons.COMPLETED else reason
        yield "health_failures_total", (("reason", why.code),)
    if reason in _TLS_FAILURES:
        yield (
            "upstream_tls_failure_total",
            (("upstream", labels["upstream"]), ("reason", reason.code)),
        )


def _is_bad_answer(labels: Mapping[str, str], reason: Reason) -> bool:
    return reason is reasons.COMPLETED and labels["status_class"] == "5xx"


def _of_request(labels: Mapping[str, str], reason: Reason) -> Iterator[tuple[str, Labels]]:
    """Yield what a request counts for."""
    status_class = labels["status_class"]
    outcome = outcome_of(reason, status_class)
    succeeded = outcome is Outcome.SUCCESS
    yield "requests_success_total" if succeeded else "requests_failure_total", ()
    if reason.stage is Stage.VALIDATE:
        yield "request_validation_rejects_total", ()
    if reason.stage is Stage.POLICY:
        yield "policy_denied_total", ()
    if is_shed(reason):
        yield "overload_shed_total", ()
        yield "overload_shed_by_reason_total", (("reason", reason.code),)
    if reason.fault is Fault.UPSTREAM:
        yield ("backend_timeouts_total" if is_timeout(reason) else "backend_errors_total"), ()
    route = (("route", labels["upstream"] or UNROUTED),)
    yield "route_requests_total", route
    if not succeeded:
        yield "route_failure_total", route
    if outcome in _ROUTE_OUTCOMES:
        yield _ROUTE_OUTCOMES[outcome], route
    ended = (("status_class", status_class), ("outcome", outcome.value))
    upstream = ("upstream", labels["upstream"])
    if labels["upstream"]:
        yield "upstream_requests_total", (upstream, *ended)
        backend = ("backend", labels["backend"] or NO_BACKEND)
        yield "backend_requests_total", (upstream, backend, *ended)
