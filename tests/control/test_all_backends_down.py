"""All backends die, and come back: what clients are told meanwhile, and what backends get then."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from tests.control.serve import served, until
from tests.control.test_health import ask
from tests.control.test_outliers import WORKERS, to_fleet
from tests.control.test_too_many_requests import answered_in_a_row
from tests.support.fleet import Kind, Load, fleet
from tests.support.proxy import run

RATE = 200.0
OUTAGE_SECONDS = 3.0
SHED_MS_MAX = 1.0
STORM_MAX = 1.2
"""Of what clients ask for: so much may reach the backends as they return."""


def shed_durations(log: Path, since: int) -> list[float]:
    """Return how long requests took that failed, from a line of the access log on, sorted; ms."""
    lines = [json.loads(line) for line in log.read_text().splitlines()[since:]]
    return sorted(line["duration_ms"] for line in lines if line["status"] == 503)


def test_clients_are_told_at_once_and_the_return_is_no_storm(tmp_path: Path) -> None:
    control, access_log = tmp_path / "control.sock", tmp_path / "access.log"

    async def scenario() -> None:
        async with fleet(*[Kind()] * 4) as members:
            go = to_fleet(members, {})

            def change(settings: dict[str, Any]) -> None:
                go(settings)
                settings["control"] = {"socket": str(control)}
                settings["access_log"] = {"format": "json", "path": str(access_log)}

            async with (
                served(tmp_path, WORKERS, change) as proxy,
                Load(proxy.port, clients=16, rate=RATE) as load,
            ):
                await until(lambda: len(load.samples) >= 200)
                assert load.failures(0) == []
                for member in members:
                    await member.kill()
                async with asyncio.timeout(20):
                    while (await ask(control, "/ready"))[1]["state"] != "no_backend":
                        await asyncio.sleep(0.02)
                since = len(access_log.read_text().splitlines())
                await asyncio.sleep(OUTAGE_SECONDS)
                durations = shed_durations(access_log, since)
                # Most: a probe has to find out, and a busy machine holds some others up.
                assert durations[len(durations) * 3 // 4] <= SHED_MS_MAX
                assert len(durations) >= 0.5 * RATE * OUTAGE_SECONDS
                returned = time.monotonic()
                await asyncio.gather(*[member.return_() for member in members])
                await until(lambda: answered_in_a_row(load) >= 100)
                recovered = time.monotonic()
                assert (await ask(control, "/ready"))[0] == 200
                await asyncio.sleep(1.0)
                end = time.monotonic()
            asked = len(load.since(returned, end))
            arrived = 0
            for member in members:
                arrived += sum(returned <= at < end for at in await member.arrivals())
            print(
                f"shed in {durations[len(durations) // 2]:.3f} ms (99 %: "
                f"{durations[len(durations) * 99 // 100]:.3f} ms), back after "
                f"{recovered - returned:.1f} s, {arrived} requests at backends of {asked} asked"
            )
            assert arrived <= STORM_MAX * asked

    run(scenario)
