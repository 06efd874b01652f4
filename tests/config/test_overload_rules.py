"""Rules across the settings of overload: message, place and path. ⟦ stands before the place."""

import pytest

from spooky.config import diagnose_text
from spooky.config.overload import CircuitBreaker
from tests.config.support import marked, minimal, only, where


def check(text: str, path: str, words: str) -> None:
    text, line, column = marked(text)
    problem = only(text)
    assert words in problem.message
    assert problem.remedy
    assert where(problem) == (line, column, path)


@pytest.mark.parametrize(
    ("keys", "path", "words"),
    [
        (
            "adaptive_admission: {min_limit: ⟦30, max_limit: 20}",
            "adaptive_admission.min_limit",
            "30 is more than max_limit, which is 20",
        ),
        (
            "adaptive_admission: {min_limit: ⟦2000}",
            "adaptive_admission.min_limit",
            "performance.per_upstream_inflight_limit, which is 1024: so many are never in flight",
        ),
        (
            "adaptive_admission: {max_limit: ⟦5000}",
            "adaptive_admission.max_limit",
            "one upstream never has more in flight than all",
        ),
        (
            "adaptive_admission: {increase_step: ⟦16}",
            "adaptive_admission.increase_step",
            "gradient does not use it",
        ),
        (
            "adaptive_admission: {algorithm: aimd, latency_tolerance_percent: ⟦10}",
            "adaptive_admission.latency_tolerance_percent",
            "aimd does not use it",
        ),
        (
            "route_queue: {default_cap: ⟦1025}",
            "route_queue.default_cap",
            "the cap never acts",
        ),
        ("route_queue: {global_cap: ⟦4097}", "route_queue.global_cap", "the cap never acts"),
        ("route_queue: {caps: {api: ⟦1025}}", "route_queue.caps.api", "the cap never acts"),
        ("route_queue: {caps: {apj: ⟦10}}", "route_queue.caps.apj", 'no upstream "apj"'),
        (
            "route_queue: {target_ms: ⟦60}",
            "route_queue.target_ms",
            "60 is more than performance.inflight_acquire_wait_ms, which is 50",
        ),
        (
            "brownout: {trigger_inflight_percent: 60, recover_inflight_percent: ⟦60}",
            "brownout.recover_inflight_percent",
            "would begin and end at once",
        ),
        ("brownout: {core_routes: [⟦apj]}", "brownout.core_routes[0]", 'no upstream "apj"'),
        (
            "circuit_breaker: {open_ms: 500, open_initial_ms: ⟦501}",
            "circuit_breaker.open_initial_ms",
            "501 is more than open_ms, which is 500",
        ),
    ],
)
def test_contradictions_and_impossible_thresholds_are_errors_that_explain_the_rule(
    keys: str, path: str, words: str
) -> None:
    check(minimal(more=f"resilience:\n  {keys}\n"), f"resilience.{path}", words)


def test_a_core_route_with_a_low_priority_is_a_contradiction() -> None:
    more = (
        "resilience: {brownout: {core_routes: [api]}}\n"
        "routes: [{path_prefix: /low, upstream: api, priority: ⟦low}]\n"
    )
    check(minimal(more=more), "routes[0].priority", "contradicts core_routes")


def test_a_route_is_capped_below_its_upstream() -> None:
    more = "routes: [{path_prefix: /capped, upstream: api, max_inflight: ⟦1025}]\n"
    check(minimal(more=more), "routes[0].max_inflight", "the cap never acts")


def test_without_a_wait_the_target_of_the_queue_means_nothing_and_is_no_error() -> None:
    more = (
        "performance: {inflight_acquire_wait_ms: 0}\nresilience: {route_queue: {target_ms: 60}}\n"
    )
    assert not diagnose_text(minimal(more=more)).problems


def test_a_breaker_is_open_for_a_second_at_first_or_less_if_it_never_may_be_so_long() -> None:
    assert CircuitBreaker().first_open_ms == 1_000
    assert CircuitBreaker(open_ms=200).first_open_ms == 200
    assert CircuitBreaker(open_initial_ms=5).first_open_ms == 5
