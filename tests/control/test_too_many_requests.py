"""More requests than real backends can take, through `spooky serve`: what still gets done.

Capacity is set by the backends, low enough that clients and proxy have room to spare.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.control.serve import served, until
from tests.control.test_outliers import WORKERS, to_fleet
from tests.support.fleet import Kind, Load, Member, fleet, quantile
from tests.support.proxy import run

KIND = Kind(concurrency=2, service_ms=40.0)
BACKENDS = 2
CAPACITY = BACKENDS * KIND.concurrency / (KIND.service_ms / 1000)
CONVERGED_SECONDS = 5.0


def limited(members: list[Member]) -> Callable[[dict[str, Any]], None]:
    """Return a change that has requests go to a fleet behind an adaptive limit."""
    go = to_fleet(members, {})

    def change(settings: dict[str, Any]) -> None:
        go(settings)
        settings.setdefault("resilience", {})["adaptive_admission"] = {"enabled": True}

    return change


def answered_in_a_row(load: Load) -> int:
    """Return how many requests have been answered with 200 since one was not."""
    return next(
        (at for at, one in enumerate(reversed(load.samples)) if one.status != 200),
        len(load.samples),
    )


def test_five_times_the_load_leaves_goodput_at_the_peak_and_is_over_when_it_ends(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with (
            fleet(*[KIND] * BACKENDS) as members,
            served(tmp_path, WORKERS, limited(members)) as proxy,
        ):
            async with Load(proxy.port, clients=32, rate=CAPACITY / 2) as calm:
                await until(lambda: len(calm.samples) >= 100)
            assert calm.failures(0) == []
            async with Load(proxy.port, clients=128, rate=5 * CAPACITY) as load:
                # Its connections take their time, and until they are there the limit is not used.
                await until(lambda: len(load.samples) >= 2 * load.clients)
                await asyncio.sleep(CONVERGED_SECONDS)
                start = time.monotonic()
                await asyncio.sleep(3.0)
                end = time.monotonic()
            done = [one for one in load.since(start, end) if one.status == 200]
            shed = load.failures(start, end)
            assert {one.status for one in shed} == {503}
            assert len(shed) > len(done)
            # The soak suite holds the bounds of the whole; a loaded machine must not fail here.
            assert len(done) / (end - start) >= 0.7 * CAPACITY
            assert quantile(done, 0.5) <= 5 * quantile(calm.samples, 0.5)
            await asyncio.sleep(1.0)
            async with Load(proxy.port, clients=32, rate=CAPACITY / 2) as after:
                # New connections come all at once, and catch up: more than the limit, at first.
                await until(lambda: answered_in_a_row(after) >= 50)

    run(scenario)
