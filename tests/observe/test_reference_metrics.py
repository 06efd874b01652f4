"""The reference's metrics are sums over ours."""

import time

import pytest

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.observe.counters import CounterReader, Counters, reason_labels
from spooky.observe.families import Distribution
from spooky.observe.metrics import Fact
from spooky.observe.outcomes import Outcome, outcome_of
from spooky.observe.reference_facts import reference_fact_families
from spooky.observe.reference_latencies import reference_latency_families
from spooky.observe.reference_metrics import reference_families, worker_families
from spooky.observe.segment import create_segment, open_segment


def count(counters: Counters, reason: Reason, status_class: str, number: int) -> None:
    labels = {
        "protocol": "h3", "upstream": "api", "status_class": status_class,
        "backend": "" if reason.status == 503 else "one", **reason_labels(reason),
    }  # fmt: skip
    counters.values[counters.slot("requests_total", labels)] += number


def samples(counters: Counters) -> dict[str, dict[tuple[str, ...], float]]:
    families = reference_families(CounterReader(counters.segment).read())
    return {
        family.name: {tuple(text for _, text in labels): value for labels, value in family.samples}
        for family in families
    }


def test_requests_are_summed_by_outcome_and_by_why_they_were_shed() -> None:
    counters = Counters()
    count(counters, reasons.COMPLETED, "2xx", 5)
    count(counters, reasons.COMPLETED, "5xx", 1)
    count(counters, reasons.GLOBAL_INFLIGHT, "5xx", 2)
    count(counters, reasons.UPSTREAM_HEAD_TIMEOUT, "5xx", 3)
    count(counters, reasons.UPSTREAM_RESET, "5xx", 4)
    count(counters, reasons.BAD_PATH, "4xx", 6)
    found = samples(counters)
    assert found["spooky_requests_success_total"] == {(): 5}
    assert found["spooky_requests_failure_total"] == {(): 16}
    assert found["spooky_request_validation_rejects_total"] == {(): 6}
    assert found["spooky_overload_shed_total"] == {(): 2}
    assert found["spooky_overload_shed_by_reason_total"] == {("global_inflight",): 2}
    assert found["spooky_backend_timeouts_total"] == {(): 3}
    assert found["spooky_backend_errors_total"] == {(): 4}
    upstream = found["spooky_upstream_requests_total"]
    assert upstream["api", "2xx", "success"] == 5
    assert upstream["api", "5xx", "overload_shed"] == 2
    backend = found["spooky_backend_requests_total"]
    assert backend["api", "__none__", "5xx", "overload_shed"] == 2
    assert backend["api", "one", "5xx", "timeout"] == 3
    assert sum(upstream.values()) == sum(backend.values()) == 21


def test_a_metric_by_another_name_sums_the_labels_that_it_does_not_name() -> None:
    counters = Counters()
    for transport, number in (("quic", 3), ("tcp", 4)):
        counters.values[counters.slot("connections_active", {"transport": transport})] += number
    for outcome, number in (("accepted", 5), ("refused", 6)):
        counters.values[counters.slot("early_data_total", {"outcome": outcome})] += number
    found = samples(counters)
    assert found["spooky_active_connections"] == {(): 7}
    assert found["spooky_early_data_accepted_total"] == {(): 5}
    assert found["spooky_early_data_rejected_total"] == {(): 6}


def test_routes_and_failed_tries_are_summed_too() -> None:
    counters = Counters()
    count(counters, reasons.COMPLETED, "2xx", 5)
    count(counters, reasons.COMPLETED, "5xx", 1)
    count(counters, reasons.GLOBAL_INFLIGHT, "5xx", 2)
    count(counters, reasons.CIRCUIT_OPEN, "5xx", 7)
    count(counters, reasons.UPSTREAM_HEAD_TIMEOUT, "5xx", 3)
    count(counters, reasons.UPSTREAM_CERTIFICATE_INVALID, "5xx", 4)
    for reason, outcome, number in (
        (reasons.UPSTREAM_CERTIFICATE_INVALID, "failed", 10),
        (reasons.CONNECT_REFUSED, "answered", 20),
    ):
        labels = {"upstream": "api", "reason": reason.code, "outcome": outcome}
        counters.values[counters.slot("upstream_retries_total", labels)] += number
    for outcome, number in (("won", 1), ("lost", 2), ("failed", 4), ("cancelled", 8)):
        labels = {"upstream": "api", "outcome": outcome}
        counters.values[counters.slot("hedges_total", labels)] += number
    found = samples(counters)
    assert found["spooky_route_requests_total"] == {("api",): 22}
    assert found["spooky_route_success_total"] == {("api",): 5}
    assert found["spooky_route_failure_total"] == {("api",): 17}
    assert found["spooky_route_timeout_total"] == {("api",): 3}
    assert found["spooky_route_backend_error_total"] == {("api",): 5}
    assert found["spooky_route_overload_shed_total"] == {("api",): 9}
    assert found["spooky_circuit_breaker_rejected_total"] == {(): 7}
    assert found["spooky_health_failures_total"] == {
        ("upstream_status",): 1, ("upstream_head_timeout",): 3,
        ("upstream_certificate_invalid",): 14, ("connect_refused",): 20,
    }  # fmt: skip
    assert found["spooky_upstream_tls_failure_total"] == {
        ("api", "upstream_certificate_invalid"): 14
    }
    assert found["spooky_retries_total"] == {(): 30}
    assert found["spooky_retry_attempts_total"] == {
        ("upstream_certificate_invalid",): 10, ("connect_refused",): 20,
    }  # fmt: skip
    hedges = [
        found[f"spooky_hedge_{name}_total"][()]
        for name in ("triggered", "won", "primary_won_after_trigger", "wasted")
    ]
    assert hedges == [15, 1, 2, 14]


def test_a_request_that_no_route_took_is_unrouted() -> None:
    counters = Counters()
    labels = {
        "protocol": "h3", "upstream": "", "status_class": "4xx", "backend": "",
        **reason_labels(reasons.NO_ROUTE),
    }  # fmt: skip
    counters.values[counters.slot("requests_total", labels)] += 3
    assert samples(counters)["spooky_route_requests_total"] == {("unrouted",): 3}


def test_latencies_are_told_in_milliseconds_and_as_percentiles() -> None:
    counters = Counters()
    for upstream, seconds in (("api", 0.2), ("api", 0.2), ("", 0.02)):
        counters.histogram("request_duration_seconds", {"upstream": upstream}).observe(seconds)
    for transport in ("quic", "tcp"):
        counters.histogram("handshake_duration_seconds", {"transport": transport}).observe(0.01)
    counters.histogram("hedge_primary_late_seconds").observe(0.03)
    sums = CounterReader(counters.segment).read()
    families = {
        family.name: {tuple(text for _, text in labels): value for labels, value in family.samples}
        for family in reference_latency_families(sums)
    }
    assert families["spooky_downstream_tls_handshake_success_total"] == {(): 2}
    assert families["spooky_hedge_primary_late_samples_total"] == {(): 1}
    assert families["spooky_hedge_primary_late_ms_total"] == {(): pytest.approx(30)}
    assert families["spooky_route_latency_ms_p50"] == {("api",): 175, ("unrouted",): 17.5}
    latency = families["spooky_upstream_request_latency_ms"]["api",]
    assert isinstance(latency, Distribution)
    assert dict(zip(latency.bounds, latency.counts, strict=False))[100] == 0
    assert dict(zip(latency.bounds, latency.counts, strict=False))[250] == 2
    assert (latency.counts[-1], latency.total) == (2, pytest.approx(400))


def test_what_no_worker_counts_has_the_names_of_the_reference_too() -> None:
    now = time.time()
    outcomes = {"changed": 1, "unchanged": 2, "empty": 4, "failed": 8}
    facts = [
        *(
            Fact("backend_dns_refreshes_total", "", number, (("outcome", outcome),))
            for outcome, number in outcomes.items()
        ),
        *(
            Fact(
                "health_checks_total", "", number,
                (("upstream", "api"), ("backend", backend), ("outcome", outcome)),
            )
            for backend in ("one", "two")
            for outcome, number in (("succeeded", 3), ("failed", 5), ("inconclusive", 7))
        ),
        Fact("generation", "", 12),
        # One certificate may be that of two names: it has as long to go as it has.
        *[
            Fact(
                "certificate_expiry_seconds", "", now + 2 * 86_400,
                (("listener", "a:1"), ("server_name", "x"), ("fingerprint", "f")),
            )
        ] * 2,
    ]  # fmt: skip
    found = {
        family.name.removeprefix("spooky_"): [value for _, value in family.samples]
        for family in reference_fact_families(facts)
    }
    assert found == {
        "backend_dns_refresh_success_total": [3],
        "backend_dns_refresh_failure_total": [12],
        "backend_dns_address_set_changes_total": [1],
        "health_checks_success_total": [6],
        "health_checks_failure_total": [10],
        "runtime_active_generation": [12],
        "downstream_tls_certificate_not_after_seconds": [now + 2 * 86_400],
        "downstream_tls_certificate_days_remaining": [pytest.approx(2, abs=0.1)],
    }


def test_workers_are_told_apart() -> None:
    segment, descriptor = create_segment(2)
    for worker in range(2):
        count(Counters(open_segment(descriptor), worker), reasons.COMPLETED, "2xx", worker + 1)
    reader = CounterReader(segment)
    reader.read()
    found = {family.name: dict(family.samples) for family in worker_families(reader)}
    assert found["spooky_worker_requests_success_total"] == {
        (("worker", "0"),): 1,
        (("worker", "1"),): 2,
    }


@pytest.mark.parametrize(
    ("reason", "status_class", "outcome"),
    [
        (reasons.COMPLETED, "3xx", Outcome.SUCCESS),
        (reasons.COMPLETED, "5xx", Outcome.BACKEND_ERROR),
        (reasons.NO_BACKEND, "5xx", Outcome.OVERLOAD_SHED),
        (reasons.CLIENT_BODY_TIMEOUT, "4xx", Outcome.TIMEOUT),
        (reasons.CONNECT_REFUSED, "5xx", Outcome.BACKEND_ERROR),
        (reasons.CLIENT_RESET, "none", Outcome.FAILURE),
    ],
)
def test_a_reason_has_its_outcome(reason: Reason, status_class: str, outcome: Outcome) -> None:
    assert outcome_of(reason, status_class) is outcome
