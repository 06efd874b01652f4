"""What may be said of retries, their budget and hedging: what contradicts itself, and who inherits.

The mark ⟦ stands before the place that must be named.
"""

import pytest

from spooky.config import load_text
from tests.config.support import marked, minimal, only, where

BACKEND = "route: {path_prefix: /}\nbackends: [{id: a, address: 'http://127.0.0.1:80'}]\n"


@pytest.mark.parametrize(
    ("retry", "key", "words"),
    [
        (
            "backoff_base_ms: ⟦100, backoff_max_ms: 99",
            "backoff_base_ms",
            "is more than backoff_max",
        ),
        ("statuses: ⟦[]", "statuses", "no status is given"),
        ("statuses: [⟦200]", "statuses[0]", "from 400 to 599"),
        ("methods: [GET, ⟦'A B']", "methods[1]", "is not a method"),
        ("conditions: [⟦always]", "conditions[0]", "expected one of connect_failure"),
        ("connect_tries: ⟦11", "connect_tries", "from 0 to 10"),
        ("tries: ⟦-1", "tries", "from 0 to 10"),
        ("per_try_timeout_ms: ⟦5001", "per_try_timeout_ms", "backend_total_request_timeout_ms"),
        ("body_max_bytes: ⟦16777217", "body_max_bytes", "16777216"),
    ],
)
@pytest.mark.parametrize("place", ["resilience", "upstream"])
def test_a_retry_that_cannot_be_is_refused(place, retry, key, words):
    performance = (
        "performance: {backend_total_request_timeout_ms: 5000, "
        "backend_body_total_timeout_ms: 900}\n"
    )
    if place == "upstream":
        text, path = (
            minimal(f"{BACKEND}retry: {{{retry}}}", performance),
            f"upstream.api.retry.{key}",
        )
    else:
        text = minimal(more=f"{performance}resilience: {{retry: {{{retry}}}}}\n")
        path = f"resilience.retry.{key}"
    text, line, column = marked(text)
    problem = only(text)
    assert words in problem.message
    assert where(problem) == (line, column, path)


@pytest.mark.parametrize(
    ("resilience", "path", "words"),
    [
        (
            "retry_budget: {per_route_ratio_percent: {web: ⟦5}}",
            "resilience.retry_budget.per_route_ratio_percent.web",
            "there is no upstream",
        ),
        (
            "retry_budget: {ratio_percent: ⟦101}",
            "resilience.retry_budget.ratio_percent",
            "from 0 to 100",
        ),
        (
            "retry_budget: {window_ms: ⟦999}",
            "resilience.retry_budget.window_ms",
            "from 1000 to 600000",
        ),
        (
            "hedging: {enabled: true, route_allowlist: [⟦web]}",
            "resilience.hedging.route_allowlist[0]",
            "there is no upstream",
        ),
        (
            "hedging: {enabled: true, safe_methods: [⟦POST]}",
            "resilience.hedging.safe_methods[0]",
            "expected one of GET",
        ),
        (
            "hedging: {enabled: ⟦true}, retry_budget: {enabled: false}",
            "resilience.hedging.enabled",
            "bounded by the retry budget, which is off",
        ),
        (
            "hedging: {delay_percentile: ⟦100}",
            "resilience.hedging.delay_percentile",
            "from 50 to 99.9",
        ),
    ],
)
def test_a_budget_and_hedging_that_cannot_be_are_refused(resilience, path, words):
    text, line, column = marked(minimal(more=f"resilience: {{{resilience}}}\n"))
    problem = only(text)
    assert words in problem.message
    assert problem.path == path
    assert (problem.line, problem.column) == (line, column)


def test_an_upstream_has_its_own_retry_as_a_whole_or_that_of_all():
    text = minimal(f"{BACKEND}retry: {{tries: 3}}", "resilience: {retry: {connect_tries: 5}}\n")
    configuration = load_text(text, "test.yaml")
    assert configuration.retry_of("api").tries == 3
    assert configuration.retry_of("api").connect_tries == 2
    inherited = load_text(minimal(more="resilience: {retry: {connect_tries: 5}}\n"), "test.yaml")
    assert inherited.retry_of("api").connect_tries == 5


def test_methods_are_written_in_any_case():
    text = minimal(more="resilience: {retry: {methods: [get, Post]}}\n")
    assert load_text(text, "test.yaml").resilience.retry.methods == ("GET", "POST")
