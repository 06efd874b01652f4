"""Real backends that die, slow down or fail, in front of `spooky serve`: who is ejected, and when.

Small, for the suite; :mod:`tests.soak.test_outliers` has the whole.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spooky._core import COMPILED
from tests.control.serve import served
from tests.support.fleet import Kind, Load, Member, fleet
from tests.support.proxy import run
from tests.support.waiting import until

WORKERS = 2 if COMPILED else 1


def to_fleet(
    members: list[Member], detection: dict[str, Any], balancing: str = "round-robin"
) -> Callable[[dict[str, Any]], None]:
    """Return a change that has requests go to a fleet."""

    def change(settings: dict[str, Any]) -> None:
        settings["upstream"]["backend"] |= {
            "backends": [
                {"id": f"b{at}", "address": member.address} for at, member in enumerate(members)
            ],
            "outlier_detection": detection,
            "load_balancing": {"type": balancing},
        }

    return change


def test_a_backend_that_is_killed_is_ejected_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            fleet(*[Kind()] * 4) as members,
            served(tmp_path, WORKERS, to_fleet(members, {})) as proxy,
            Load(proxy.port, clients=16, rate=200) as load,
        ):
            # A fifth of them may be tried again: more than clients there are, and tries until then.
            await until(lambda: len(load.samples) >= 300)
            await members[1].kill()
            await until(lambda: "backend b1 of backend is ejected for 30 s" in proxy.log)
            # The log tells of it as it is decided; workers follow within a tenth of a second.
            await asyncio.sleep(1)
            seen = len(load.samples)
            await until(lambda: len(load.samples) >= seen + 100)
            assert load.failures(0) == []

    run(scenario)


def test_a_backend_that_fails_a_quarter_is_ejected_and_stays_out(tmp_path: Path) -> None:
    detection = {"interval_ms": 1_000, "request_volume": 20}

    async def scenario() -> None:
        async with (
            fleet(Kind(), Kind(), Kind(fail_share=0.25), Kind()) as members,
            served(tmp_path, WORKERS, to_fleet(members, detection)) as proxy,
            Load(proxy.port, clients=16, rate=200) as load,
        ):
            await until(lambda: "is ejected for 30 s" in proxy.log)
            assert "backend b2 of backend is ejected for 30 s: The backend failed" in proxy.log
            # The log tells of it as it is decided; workers follow within a tenth of a second.
            await asyncio.sleep(1)
            seen, now = len(load.samples), time.monotonic()
            await until(lambda: len(load.samples) >= seen + 200)
            # What was asked before may have been given to it.
            assert [one for one in load.failures(now) if one.at - one.seconds >= now] == []
            assert proxy.log.count("is ejected") == 1

    run(scenario)


def test_a_backend_ten_times_slower_is_ejected(tmp_path: Path) -> None:
    detection = {"interval_ms": 1_000, "request_volume": 10}

    async def scenario() -> None:
        async with (
            fleet(Kind(), Kind(), Kind(), Kind(service_ms=100)) as members,
            served(tmp_path, WORKERS, to_fleet(members, detection)) as proxy,
            Load(proxy.port, clients=32, rate=200),
        ):
            await until(lambda: "is ejected" in proxy.log)
            assert "backend b3 of backend is ejected for 30 s: The backend was much slower" in (
                proxy.log
            )

    run(scenario)
