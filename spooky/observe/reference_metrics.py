"""The reference's metrics as far as ours tell the same, under its names, worked out at the scrape.

Nothing is counted for them; what they say is a sum over ours. A counter's name ends in ``_total``
here also where the reference's does not.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from spooky._core.reasons import Fault, Stage
from spooky.observe.counters import CounterReader, SlotName
from spooky.observe.families import Family, Labels
from spooky.observe.metrics import PREFIX, Kind
from spooky.observe.outcomes import Outcome, is_shed, is_timeout, outcome_of, reason_of

NO_BACKEND: Final = "__none__"
"""The backend of requests that reached none."""

Sums = Mapping[SlotName, Sequence[int]]


class _Alias(NamedTuple):
    """A metric that is one of ours, summed over the labels that are not named."""

    name: str
    help: str
    ours: str
    labels: Mapping[str, str] = {}
    kind: Kind = Kind.COUNTER


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
}


def reference_families(sums: Sums) -> Iterator[Family]:
    """Yield the reference's metrics, from the sums over all workers."""
    counts: dict[str, Counter[Labels]] = {
        **{name: Counter({(): 0}) for name in _REQUESTS},
        **{name: Counter() for name in _BY_LABELS},
    }
    aliased = {alias.name: 0 for alias in _ALIASES}
    for (metric, pairs), values in sums.items():
        labels = dict(pairs)
        if metric == "requests_total":
            for name, sample in _samples(labels):
                counts[name][sample] += values[0]
        for alias in _BY_OURS.get(metric, ()):
            if alias.labels.items() <= labels.items():
                aliased[alias.name] += values[0]
    for name, samples in counts.items():
        if samples:
            text = _REQUESTS.get(name) or _BY_LABELS[name]
            yield Family(PREFIX + name, Kind.COUNTER, text, list(samples.items()))
    for alias in _ALIASES:
        yield Family(PREFIX + alias.name, alias.kind, alias.help, [((), aliased[alias.name])])


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
    for worker, _, value in counters.by_worker("datagrams_received_total"):
        requests["worker_ingress_packets_total"][("worker", str(worker)),] += value
    for name, samples in requests.items():
        if samples:
            yield Family(PREFIX + name, Kind.COUNTER, _OF_WORKERS[name], list(samples.items()))


_OF_WORKERS: Final = {
    "worker_requests_total": "Requests that ended, by worker slot.",
    "worker_requests_success_total": "Requests that were answered as asked, by worker slot.",
    "worker_requests_failure_total": "Requests that ended otherwise, by worker slot.",
    "worker_ingress_packets_total": "UDP datagrams that reached a connection, by worker slot.",
}

NAMES: Final = (*_REQUESTS, *_BY_LABELS, *_OF_WORKERS, *(alias.name for alias in _ALIASES))
"""All of them, without prefix."""

_BY_OURS: Final[dict[str, list[_Alias]]] = {}
for _alias in _ALIASES:
    _BY_OURS.setdefault(_alias.ours, []).append(_alias)


def _samples(labels: Mapping[str, str]) -> Iterator[tuple[str, Labels]]:
    """Yield which samples a request counts for."""
    if (reason := reason_of(labels)) is None:
        return
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
    ended = (("status_class", status_class), ("outcome", outcome.value))
    upstream = ("upstream", labels["upstream"])
    if labels["upstream"]:
        yield "upstream_requests_total", (upstream, *ended)
        backend = ("backend", labels["backend"] or NO_BACKEND)
        yield "backend_requests_total", (upstream, backend, *ended)
