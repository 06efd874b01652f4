"""The health scenarios in whole: real backends of a stated capacity, at some 400 requests a second.

Each backend works at 64 requests at once for 5 ms each. The load is compiled and open, so it does
not slow down with the proxy.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop

from spooky._core import COMPILED
from spooky.bench.generator import Load
from spooky.bench.histogram import Histogram
from spooky.bench.plan import Kind as LoadKind
from spooky.bench.plan import LoadPlan, LoadResult, RequestPlan
from tests.control.serve import generous, served
from tests.control.test_outliers import to_fleet
from tests.support.fleet import Kind, Member, fleet
from tests.support.waiting import until

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not COMPILED, reason="the load generator is compiled"),
]

RATE = 400.0

AFTERMATH_SECONDS = 10.0
FAILED_SHARE_MAX = 0.001
"""Of all requests in so long after the death of a backend; none of those that are idempotent."""

GET, POST = RequestPlan("/"), RequestPlan("/", body_size=1)


async def load(
    port: int,
    seconds: float,
    warmup: float = 1.0,
    rate: float = RATE,
    request: RequestPlan = GET,
) -> LoadResult:
    """Return what came of so many seconds of requests over HTTP/3."""
    plan = LoadPlan(
        host="127.0.0.1",
        port=port,
        server_name="localhost",
        authority="localhost",
        kind=LoadKind.REQUESTS,
        connections=8,
        streams=32,
        requests=(request,),
        seconds=seconds,
        warmup=warmup,
        rate=rate,
    )
    return await asyncio.to_thread(Load(plan).run)


def behind(members: list[Member], balancing: str) -> Any:
    """Return a change that has requests go to a fleet, with detection as it is by default."""

    def change(settings: dict[str, Any]) -> None:
        generous(settings)
        to_fleet(members, {}, balancing)(settings)

    return change


@pytest.mark.parametrize("balancing", ["round-robin", "least-request"])
def test_one_of_four_backends_killed_under_load(tmp_path: Path, balancing: str) -> None:
    async def scenario() -> None:
        async with (
            fleet(*[Kind()] * 4) as members,
            served(tmp_path, 2, behind(members, balancing)) as proxy,
        ):
            seconds = 3.0 + AFTERMATH_SECONDS
            loading = asyncio.gather(*(
                load(proxy.port, seconds, rate=RATE / 2, request=request)
                for request in (GET, POST)
            ))  # fmt: skip
            # The load before what is measured takes a second.
            await asyncio.sleep(3)
            killed_at = time.monotonic()
            await members[1].kill()
            await until(lambda: "b1 of backend is ejected" in proxy.log)
            assert time.monotonic() - killed_at <= 1
            idempotent, other = await loading
            print(f"\n{balancing}: {idempotent.requests} GET, errors {idempotent.errors}")
            print(f"{other.requests} POST, errors {other.errors}")
            assert idempotent.requests + other.requests >= 0.99 * RATE * seconds
            assert idempotent.errors == {}
            assert sum(other.errors.values()) <= FAILED_SHARE_MAX * RATE * AFTERMATH_SECONDS

    uvloop.run(scenario())


@pytest.mark.parametrize("balancing", ["least-request", "latency-aware"])
def test_one_backend_ten_times_slower(tmp_path: Path, balancing: str) -> None:
    async def p99(kinds: list[Kind], directory: Path, warmup: float) -> float:
        """Return a quantile of 10 s, after so many to warm up; milliseconds."""
        directory.mkdir()
        async with (
            fleet(*kinds) as members,
            served(directory, 2, behind(members, balancing)) as proxy,
        ):
            result = await load(proxy.port, 10.0, warmup)
            assert result.errors == {}
            return Histogram.of_buckets(result.latencies).percentile(0.99) / 1000

    async def scenario() -> None:
        before = await p99([Kind()] * 4, tmp_path / "before", 2.0)
        # It is found out at the end of the first interval, of 10 s.
        after = await p99([Kind()] * 3 + [Kind(service_ms=50)], tmp_path / "after", 12.0)
        print(
            f"\n{balancing}: p99 {before:.1f} ms before, {after:.1f} ms with one ten times slower"
        )
        assert after <= 1.5 * before

    uvloop.run(scenario())


def test_one_backend_answers_500_to_a_tenth(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            fleet(Kind(), Kind(), Kind(fail_share=0.1), Kind()) as members,
            served(tmp_path, 2, behind(members, "round-robin")) as proxy,
        ):
            first = await load(proxy.port, 10.0)
            assert first.errors
            await until(lambda: "b2 of backend is ejected for 30 s" in proxy.log)
            second = await load(proxy.port, 20.0, 0.5)
            assert second.errors == {}
            # It returns, is found out again, and stays away for twice as long.
            await load(proxy.port, 30.0)
            assert proxy.log.count("is ejected for 30 s") == 1
            assert proxy.log.count("is ejected for 60 s") == 1
            third = await load(proxy.port, 20.0, 0.5)
            assert third.errors == {}
            assert proxy.log.count("is ejected for") == 2

    uvloop.run(scenario())
