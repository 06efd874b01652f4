"""The reference's metrics are sums over ours."""

import pytest

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.observe.counters import CounterReader, Counters, reason_labels
from spooky.observe.outcomes import Outcome, outcome_of
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
