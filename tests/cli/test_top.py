"""``spooky top``: rates and latencies from two samples of counts."""

import io
from typing import Any

import pytest
from rich.console import Console

from spooky.cli.top import render, summarise

BOUNDS = [0.001, 0.01, 0.1]


def sample(
    time: float, requests: dict[str, int], latencies: list[int], shed: int
) -> dict[str, Any]:
    upstream = {
        "name": "api", "in_flight": 3, "limit": 9, "requests": requests,
        "adaptive": {"limit": 64, "unanswered": 41, "minimum_ms": 2.5},
    }  # fmt: skip
    backend = {
        "upstream": "api", "id": "one\x1b[2J", "state": "enabled", "health": "failing",
        "breaker": "half_open", "in_flight": 2, "limit": 8, "requests": requests,
    }  # fmt: skip
    none = {
        "name": "", "in_flight": 0, "limit": 9, "requests": {}, "latencies": [0] * 4,
        "adaptive": None,
    }  # fmt: skip
    return {
        "time": time, "generation": 4, "bounds": BOUNDS, "connections": {"quic": 7},
        "in_flight": 3, "limit": 99, "upstreams": [{**upstream, "latencies": latencies}, none],
        "backends": [backend], "sheds": {"global_inflight": shed},
    }  # fmt: skip


@pytest.fixture
def view() -> dict[str, Any]:
    before = sample(10.0, {"2xx": 100}, [50, 0, 0, 0], 5)
    return summarise(before, sample(12.0, {"2xx": 280, "5xx": 20}, [150, 90, 10, 0], 7))


def test_rates_and_latencies_are_those_between_two_samples(view: dict[str, Any]) -> None:
    (upstream,) = view["upstreams"]
    assert upstream["requests_per_second"] == 100
    assert upstream["failures_per_second"] == 10
    assert upstream["p50_ms"] == 1.0
    assert 1 < upstream["p95_ms"] <= 10 < upstream["p99_ms"] <= 100
    assert view["sheds"] == {"global_inflight": {"total": 7, "per_second": 1}}
    assert view["backends"][0]["requests_per_second"] == 100
    assert (upstream["adaptive"]["limit"], view["backends"][0]["breaker"]) == (64, "half_open")


def test_what_is_new_counts_from_nothing_and_what_is_idle_has_no_latency() -> None:
    now = sample(12.0, {"2xx": 20}, [0, 0, 0, 20], 0)
    earlier = {**sample(10.0, {}, [0] * 4, 0), "upstreams": [], "backends": []}
    (upstream,) = summarise(earlier, now)["upstreams"]
    assert (upstream["requests_per_second"], upstream["p50_ms"]) == (10, 100)
    (idle,) = summarise(now, {**now, "time": 13.0})["upstreams"]
    assert (idle["requests_per_second"], idle["p99_ms"]) == (0, None)


def test_counts_that_were_given_up_are_neither_negative_rates_nor_a_peak() -> None:
    before = sample(10.0, {"2xx": 100, "5xx": 50}, [150, 0, 0, 0], 9)
    view = summarise(before, sample(12.0, {"2xx": 120, "5xx": 4}, [0, 24, 0, 0], 4))
    (upstream,) = view["upstreams"]
    assert (upstream["requests_per_second"], upstream["failures_per_second"]) == (10, 0)
    assert 1 < upstream["p50_ms"] < upstream["p99_ms"] <= 10
    assert view["sheds"]["global_inflight"] == {"total": 4, "per_second": 0}


def test_the_view_shows_all_of_it_and_nothing_that_a_terminal_obeys(view: dict[str, Any]) -> None:
    output = io.StringIO()
    Console(file=output, width=120).print(render(view))
    text = output.getvalue()
    assert "\x1b" not in text
    for part in (
        "generation 4", "7 quic", "api", "failing", "100.0", "global_inflight", "99", "half-open",
        "64", "41",
    ):  # fmt: skip
        assert part in text


def test_without_adaptive_limits_no_number_is_cut_in_80_columns(view: dict[str, Any]) -> None:
    for one in view["upstreams"]:
        one["adaptive"] = None
    output = io.StringIO()
    Console(file=output, width=80).print(render(view))
    assert "…" not in output.getvalue()
    assert "ADAPTIVE" not in output.getvalue()
