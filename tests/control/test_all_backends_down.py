"""All backends die, and come back: what clients are told meanwhile, and what backends get then."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.control.serve import served
from tests.control.test_health import ask
from tests.control.test_outliers import WORKERS, to_fleet
from tests.control.test_too_many_requests import answered_in_a_row
from tests.support.fleet import Kind, Load, fleet
from tests.support.proxy import run
from tests.support.waiting import until

CLIENTS = 16
RATE = 200.0
STORM_MAX = 1.2
"""Of what clients ask for: so much may reach the backends as they return."""


class Outage(NamedTuple):
    """What was seen of one.

    Attributes:
        statuses: Of requests that were not answered with 200.
        shed_ms: How long each of those took that was refused meanwhile, sorted.
        recovery_seconds: From the return to a hundred good answers in a row.
        asked: Requests from the return on.
        arrived: Of these, what came to the backends.
    """

    statuses: set[int]
    shed_ms: list[float]
    recovery_seconds: float
    asked: int
    arrived: int


def shed_durations(log: Path, since: int) -> list[float]:
    """Return how long requests took that failed, from a line of the access log on, sorted; ms."""
    # The last line may be half of one.
    lines = log.read_text().rpartition("\n")[0].splitlines()[since:]
    found = map(json.loads, lines)
    return sorted(line["duration_ms"] for line in found if line["status"] == 503)


async def outage(directory: Path, shed: int) -> Outage:
    """Kill all backends under load, and have them return when so many requests were refused."""
    control, access_log = directory / "control.sock", directory / "access.log"
    async with fleet(*[Kind()] * 4) as members:
        go = to_fleet(members, {})

        def change(settings: dict[str, Any]) -> None:
            go(settings)
            settings["control"] = {"socket": str(control)}
            settings["access_log"] = {"format": "json", "path": str(access_log)}

        async with (
            served(directory, WORKERS, change) as proxy,
            Load(proxy.port, clients=CLIENTS, rate=RATE) as load,
        ):
            await until(lambda: len(load.samples) >= 200)
            assert load.failures(0) == []
            for member in members:
                await member.kill()
            async with asyncio.timeout(60):
                while (await ask(control, "/ready"))[1]["state"] != "no_backend":
                    await asyncio.sleep(0.02)
            status, answer = await ask(control, "/ready")
            assert (status, answer["healthy_backends"], answer["total_backends"]) == (503, 0, 4)
            since = len(access_log.read_text().splitlines())
            await until(lambda: len(shed_durations(access_log, since)) >= shed)
            durations = shed_durations(access_log, since)
            returned = time.monotonic()
            await asyncio.gather(*[member.return_() for member in members])
            await until(lambda: answered_in_a_row(load) >= 100)
            recovered = time.monotonic()
            assert (await ask(control, "/ready"))[0] == 200
            await asyncio.sleep(0.5)
            end = time.monotonic()
        arrived = 0
        for member in members:
            arrived += sum(returned <= at < end for at in await member.arrivals())
    return Outage(
        {one.status for one in load.failures(0)}, durations, recovered - returned,
        len(load.since(returned, end)), arrived,
    )  # fmt: skip


def test_clients_are_told_and_the_return_is_no_storm(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen = await outage(tmp_path, 100)
        assert seen.statuses <= {502, 503}
        # Those on their way at the end are not among what was answered.
        assert seen.arrived <= STORM_MAX * seen.asked + CLIENTS

    run(scenario)
