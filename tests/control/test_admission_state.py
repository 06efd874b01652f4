"""What the supervisor tells of admission: read from the segment, where workers put it."""

import pytest
from msgspec.structs import replace

from spooky._core.breaker import CLOSED, HALF_OPEN, OPEN
from spooky._core.shared import Segment
from spooky.config.overload import AdaptiveAdmission, Brownout
from spooky.config.schema import Configuration, UpstreamRoute
from spooky.control.admission_state import AdmissionState
from spooky.generation.stages import REQUESTS, adaptive_limit_of, breaker_of, teller
from spooky.observe.counters import Counters
from spooky.observe.segment import private_segment
from spooky.overload.places import shared_places
from tests.control.test_ejection import configured

PLAIN = configured("10.0.0.1", "10.0.0.2")
RESILIENCE = replace(PLAIN.resilience, adaptive_admission=AdaptiveAdmission(enabled=True))
TWO = replace(PLAIN, resilience=RESILIENCE)


def told(
    segment: Segment, configuration: Configuration = TWO, now: float = 1.0
) -> dict[str, float]:
    state = AdmissionState(segment, lambda: now)
    state.follow(configuration)
    return {
        " ".join((fact.name, *(value for _, value in fact.labels))): fact.value
        for fact in state.facts()
    }


def test_limits_and_breakers_of_workers_are_told() -> None:
    segment = private_segment()
    limit = adaptive_limit_of(TWO, segment, "api")
    assert limit is not None
    for _ in range(20):
        limit.observe(1.0, 0.25)
    breaker = breaker_of(TWO, segment, "api", "b1")
    assert breaker is not None
    for _ in range(3):
        breaker.failed(breaker.enter(1.0), 1.0)
    facts = told(segment)
    assert facts["upstream_concurrency_limit api"] == 64
    assert facts["upstream_minimum_latency_seconds api"] == 0.25
    assert facts["backend_circuit_open api b0"] == 0
    assert facts["backend_circuit_open api b1"] == 1


def test_there_is_no_adaptive_limit_unless_it_is_switched_on() -> None:
    segment = private_segment()
    assert adaptive_limit_of(PLAIN, segment, "api") is None
    assert "upstream_concurrency_limit api" not in told(segment, PLAIN)


def test_a_backend_whose_breaker_is_open_is_not_ready_until_it_may_be_tried() -> None:
    segment = private_segment()
    breaker = breaker_of(TWO, segment, "api", "b0")
    assert breaker is not None
    for _ in range(3):
        breaker.failed(breaker.enter(1.0), 1.0)
    seen = []
    for now in (1.5, 2.0):
        state = AdmissionState(segment, lambda now=now: now)  # type: ignore[misc]
        state.follow(TWO)
        seen.append((state.lets_through("api", "b0"), state.lets_through("api", "b1")))
    # Else nobody would send the request that closes it.
    assert seen == [(False, True), (True, True)]


def test_what_page_and_top_show_of_it() -> None:
    segment = private_segment()
    breaker = breaker_of(TWO, segment, "api", "b1")
    assert breaker is not None
    for _ in range(3):
        breaker.failed(breaker.enter(1.0), 1.0)
    state = AdmissionState(segment, lambda: 1.0)
    state.follow(TWO)
    assert (state.breaker("api", "b0"), state.breaker("api", "b1")) == ("closed", "open")
    assert breaker.enter(2.0) >= 0
    assert state.breaker("api", "b1") == "half_open"
    assert state.breaker("api", "gone") is None
    adaptive = state.adaptive("api")
    assert adaptive is not None
    assert (adaptive.unanswered, adaptive.minimum_ms) == (0, 0)
    assert adaptive.limit == TWO.performance.per_upstream_inflight_limit
    state.follow(PLAIN)
    assert state.adaptive("api") is None


def test_changes_of_a_breaker_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    told = teller(counters, "api", "b1")
    with caplog.at_level("INFO", "spooky.generation.stages"):
        for phase, open_ms in ((OPEN, 1500), (HALF_OPEN, 0), (CLOSED, 0), (OPEN, 1000)):
            told(phase, open_ms)
    counted = {
        dict(name.labels)["to"]: value
        for name, value in counters.snapshot()
        if name.metric == "backend_circuit_changes_total"
    }
    assert counted == {"open": 2, "half_open": 1, "closed": 1}
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO", "WARNING"]
    assert "b1 of api is open for 1500 ms" in caplog.messages[0]


def test_a_brownout_is_told_from_its_trigger_until_little_is_in_flight() -> None:
    segment = private_segment()
    brownout = Brownout(enabled=True, trigger_inflight_percent=50, recover_inflight_percent=25)
    configuration = replace(
        PLAIN,
        resilience=replace(PLAIN.resilience, brownout=brownout),
        performance=replace(PLAIN.performance, per_upstream_inflight_limit=8),
        routes=(*PLAIN.routes, UpstreamRoute(upstream="api", path_prefix="/other", priority="low")),
    )
    state = AdmissionState(segment, lambda: 1.0)
    state.follow(configuration)
    places = shared_places(Counters(segment, 0), REQUESTS, "upstream", "api")
    seen = []
    for change in (3, 1, -1, 0, -1, 2):
        if change > 0:
            assert places.take(8, change)
        else:
            places.give(-change)
        seen.append(
            {fact.labels: fact.value for fact in state.facts() if fact.name == "brownout_active"}
        )
        state.follow(configuration)
    upstream = (("scope", "upstream"), ("upstream", "api"))
    assert [one[upstream] for one in seen] == [0, 1, 1, 1, 0, 1]
    assert {one[("scope", "global"), ("upstream", "")] for one in seen} == {0}
    assert not any(name.startswith("brownout") for name in told(segment, PLAIN))
