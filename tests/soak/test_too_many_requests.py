"""A minute of five times the load that real backends can take."""

import asyncio
import time
from pathlib import Path

import pytest

from spooky.bench import processes
from tests.control.serve import served, until
from tests.control.test_outliers import WORKERS
from tests.control.test_too_many_requests import (
    BACKENDS,
    CAPACITY,
    KIND,
    answered_in_a_row,
    limited,
)
from tests.support.fleet import Load, fleet, quantile

pytestmark = pytest.mark.soak

SECONDS = 60
GROWTH_MAX = 4 * 1024 * 1024
"""Of all workers together, in half a minute of it: what allocators may add."""


def test_goodput_latency_and_recovery(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            fleet(*[KIND] * BACKENDS) as members,
            served(tmp_path, WORKERS, limited(members)) as proxy,
        ):
            async with Load(proxy.port, clients=32, rate=CAPACITY / 2) as calm:
                await until(lambda: len(calm.samples) >= 500)
            async with Load(proxy.port, clients=128, rate=5 * CAPACITY) as load:
                # Its connections take their time, on a busy machine many seconds.
                await until(lambda: len(load.samples) >= 2 * load.clients, 60.0)
                start = time.monotonic()
                await asyncio.sleep(SECONDS / 2)
                before = processes.resident_bytes(proxy.workers)
                await asyncio.sleep(SECONDS / 2)
                end = time.monotonic()
                grown = processes.resident_bytes(proxy.workers) - before
            done = [one for one in load.since(start, end) if one.status == 200]
            print(
                f"{len(done) / (end - start):.1f} of {CAPACITY:.0f} requests/s, p99 "
                f"{quantile(done, 0.99):.3f} s, {quantile(calm.samples, 0.99):.3f} s unloaded, "
                f"{grown / 1024:.0f} KiB more memory"
            )
            assert len(done) / (end - start) >= 0.9 * CAPACITY
            assert quantile(done, 0.99) <= 3 * quantile(calm.samples, 0.99)
            assert grown <= GROWTH_MAX
            await asyncio.sleep(2.0)
            async with Load(proxy.port, clients=32, rate=CAPACITY / 2) as after:
                # New connections come all at once, and catch up: more than the limit, at first.
                await until(lambda: answered_in_a_row(after) >= 100)

    asyncio.run(scenario())
