"""A thousand changes, each with names that were never there before: nothing grows."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import uvloop

from spooky.cli.control_client import post
from spooky.edge.worker import FORGET_SECONDS
from tests.control.serve import Served, served
from tests.support.proxy import INGRESSES

CHANGES = int(os.environ.get("SOAK_CHANGES", "1000"))
HISTORY = 20
"""As many generations are kept as the default is; before that, each adds to what is kept."""

WARM = 300
"""Until then caches fill, and what the collector of cycles lets wait."""

ASK_SECONDS = 5.0
"""How often clients ask while nothing changes: connections that are idle are closed."""

GROWTH_MAX = 4 * 1024 * 1024
"""What allocators and pages touched for the first time may add."""


def private_bytes(pid: int) -> int:
    """Return the memory that a process has for itself."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise ValueError("the kernel does not say how much memory is private")


def another(settings: dict[str, Any], number: int) -> None:
    """Have everything that has a name be called otherwise."""
    (upstream,) = settings["upstream"].values()
    upstream["backends"][0]["id"] = f"backend-{number}"
    settings["upstream"] = {f"upstream-{number}": upstream}


def measured(proxy: Served) -> dict[str, int]:
    """Return the memory of each process."""
    workers = {f"worker {pid}": private_bytes(pid) for pid in proxy.workers}
    return {"supervisor": private_bytes(proxy.process.pid), **workers}


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_changes_leave_no_growth_beyond_the_history(tmp_path: Path) -> None:
    def prepare(settings: dict[str, Any]) -> None:
        settings["control"] = {"history": HISTORY}
        settings["performance"]["shutdown_drain_timeout_ms"] = 100

    async def scenario() -> None:
        async with served(tmp_path, 2, prepare) as proxy:
            path = Path(os.environ["XDG_RUNTIME_DIR"]) / "spooky" / "control.sock"
            clients = [await proxy.client(ingress) for ingress in INGRESSES for _ in range(2)]

            async def change(number: int) -> None:
                proxy.write(lambda settings: another(settings, number))
                answer = await asyncio.to_thread(post, path, "/admin/runtime/reload", {})
                assert answer["changed"]
                await ask()

            async def ask() -> None:
                for client in clients:
                    assert (await client.fetch("GET", "/size/1")).status == 200

            for number in range(WARM):
                await change(number)
            before = measured(proxy)
            for number in range(WARM, CHANGES):
                await change(number)
            # What was counted of names that are gone is kept for so long, to be scraped once more.
            for _ in range(int(FORGET_SECONDS / ASK_SECONDS) + 1):
                await asyncio.sleep(ASK_SECONDS)
                await ask()
            for number in range(CHANGES, CHANGES + HISTORY):
                await change(number)
            after = measured(proxy)
            growth = {name: after[name] - size for name, size in before.items()}
            print("growth in bytes:", growth)
            assert max(growth.values()) < GROWTH_MAX, growth
            assert "died" not in proxy.log

    uvloop.run(scenario())
