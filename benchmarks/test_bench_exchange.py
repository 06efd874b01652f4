"""What a proxied request costs between the client's stream and the upstream socket.

The timer is CPU time that stands still while client and backend work, so a row is the proxy's own
part of one request: exchange, routing, balancing, pool and HTTP/2 client session.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.proxied import RESILIENCE, SHAPES, Proxied, Stopwatch
from spooky import _core

SIDE = "compiled" if _core.COMPILED else "pure"
CONCURRENCY = {"1 KiB GET": 16, "64 KiB GET": 4, "10 MiB GET": 1, "1 MiB POST": 1}

WATCH = Stopwatch()


@pytest.mark.parametrize("side", [SIDE])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.benchmark(timer=WATCH, min_rounds=20)
def test_a_proxied_request(benchmark: BenchmarkFixture, side: str, shape: str) -> None:
    concurrency = CONCURRENCY[shape]
    benchmark.group = f"exchange: {shape}, {concurrency} in a turn"
    benchmark.extra_info["calls"] = concurrency
    proxied = Proxied(SHAPES[shape], watch=WATCH)
    rounds = 200 if concurrency > 1 else 20
    benchmark.pedantic(proxied.run, (concurrency,), rounds=rounds, warmup_rounds=2)


@pytest.mark.parametrize("side", [SIDE])
@pytest.mark.benchmark(timer=WATCH, group="exchange: 1 KiB GET, 16 in a turn, access log")
def test_a_proxied_request_that_is_logged(benchmark: BenchmarkFixture, side: str) -> None:
    proxied = Proxied(SHAPES["1 KiB GET"], access_log=True, watch=WATCH)
    benchmark.extra_info["calls"] = 16
    benchmark.pedantic(proxied.run, (16,), rounds=200, warmup_rounds=2)


@pytest.mark.parametrize("side", [SIDE])
@pytest.mark.benchmark(timer=WATCH, group="exchange: 1 KiB GET, 16 in a turn, no decisions kept")
def test_a_proxied_request_of_which_nothing_is_kept(benchmark: BenchmarkFixture, side: str) -> None:
    proxied = Proxied(SHAPES["1 KiB GET"], watch=WATCH)
    proxied.service.keep_decisions(0)
    benchmark.extra_info["calls"] = 16
    benchmark.pedantic(proxied.run, (16,), rounds=200, warmup_rounds=2)


@pytest.mark.parametrize("side", [SIDE])
@pytest.mark.parametrize("resilience", RESILIENCE)
@pytest.mark.benchmark(timer=WATCH, group="exchange: 1 KiB GET, 16 in a turn, resilience")
def test_a_proxied_request_with_resilience_on_and_off(
    benchmark: BenchmarkFixture, side: str, resilience: str
) -> None:
    """All of it may cost 3 µs a request; docs/resilience.md says what it does."""
    proxied = Proxied(SHAPES["1 KiB GET"], watch=WATCH, resilience=resilience)
    benchmark.extra_info["calls"] = 16
    benchmark.pedantic(proxied.run, (16,), rounds=200, warmup_rounds=2)
