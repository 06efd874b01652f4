"""Memory that runs out, with real processes: what is done, in which order, and that it ends."""

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from spooky._core import COMPILED
from spooky.overload.manager import Action
from spooky.overload.memory import MemoryReader
from tests.control.serve import Served, served
from tests.control.test_processes import is_alive
from tests.support.proxy import run
from tests.support.waiting import until

WORKERS = 2 if COMPILED else 1

BEGINS = re.compile(r"overload: (\w+) begins, as the pressure on memory")

UNLIMITED = 1 << 40


def used(proxy: Served) -> int:
    """Return what its processes hold."""
    # So little that no cgroup's limit is nearer.
    return MemoryReader().read([proxy.process.pid, *proxy.workers], 1).used


async def limit(proxy: Served, max_bytes: int) -> None:
    """Let it have so much memory."""

    def change(settings: dict[str, Any]) -> None:
        settings["resilience"] = {"overload": {"memory_max_bytes": max_bytes}}

    proxy.write(change)
    code, output = await proxy.command("reload")
    assert code == 0, output


def begun(proxy: Served) -> list[str]:
    """Return which actions began, in the order in which they did first."""
    return list(dict.fromkeys(BEGINS.findall(proxy.log)))


async def refused(proxy: Served) -> None:
    """Wait until a new connection is refused: a log tells of the first worker that begins."""
    while True:
        try:
            client = await proxy.client("h2")
        except (ConnectionError, ssl.SSLError):
            return
        await client.close()


@pytest.mark.timeout(180)
def test_under_a_low_limit_of_memory_actions_begin_in_order_and_the_service_recovers(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            await limit(proxy, UNLIMITED)
            await asyncio.sleep(1)
            assert begun(proxy) == []
            # Between the thresholds of the gentlest and the next.
            await limit(proxy, int(used(proxy) / 0.82))
            await until(lambda: begun(proxy) == [Action.SHORTEN_IDLE_TIMEOUTS])
            assert await is_alive(await proxy.client("h3"))
            client = await proxy.client("h2")
            stream = await client.open("GET", "/wait")
            await proxy.origin.gate.reached.wait()
            await limit(proxy, used(proxy))
            await until(lambda: begun(proxy) == list(Action))
            proxy.origin.gate.opened.set()
            assert (await stream.whole()).cut is None
            await refused(proxy)
            await limit(proxy, UNLIMITED)
            ends = WORKERS * len(Action)
            await until(lambda: proxy.log.count(" ends, as the pressure on memory") == ends)
            for ingress in ("h3", "h2", "h1"):
                assert await is_alive(await proxy.client(ingress))

    run(scenario)
