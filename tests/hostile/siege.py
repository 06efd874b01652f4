"""A proxy under hostile conversations: what must be true of it during and after them.

No process dies or says that something is wrong, nobody finds the proxy silent, bystanders are all
served, and afterwards nothing is left: no request, no connection, no descriptor.
"""

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks.ground import Bystander
from tests.control.serve import Served, generous, served
from tests.interop.conftest import free_port
from tests.support.client import AUTHORITY
from tests.support.proxy import INGRESSES
from tests.support.scraping import scrape, sums

SHORT_MS = 3_000
"""Timeouts of the proxy: who is slow or vanishes is forgotten soon."""

PRIVATE = re.compile(r"^Private_Dirty: +(\d+) kB$", re.MULTILINE)

CALM_SECONDS = 60.0
"""How long it may take until nothing is left of a crowd."""

WRONG = re.compile(r"Traceback|died|stalled|killed|defect|\"level\": ?\"(?:error|critical)\"", re.I)
"""What the log of a healthy proxy never says."""


def configure(settings: dict[str, Any], metrics_port: int, idle_ms: int) -> None:
    """Make the timeouts short, and serve bystanders by an upstream of their own."""
    generous(settings)
    settings["performance"] |= {
        "client_head_timeout_ms": SHORT_MS,
        "client_body_idle_timeout_ms": SHORT_MS,
        "quic_max_idle_timeout_ms": idle_ms,
        "h2_pool_idle_timeout_ms": SHORT_MS,
    }
    (upstream,) = settings["upstream"].values()
    # What hostile clients make their backend do must not be held against that of others.
    settings["upstream"]["bystanders"] = {**upstream, "route": {"host": AUTHORITY.decode()}}
    metrics = {"enabled": True, "required": True, "port": metrics_port}
    settings["observability"] = {"metrics": metrics}


@dataclass
class Paced(Bystander):
    """A bystander that asks at a rate.

    Attributes:
        pause: From one pair of requests to the next, seconds.
    """

    pause: float = 0.1

    async def _ask(self, client: Any) -> None:
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(30):
            await super()._ask(client)
        await asyncio.sleep(begun + self.pause - asyncio.get_running_loop().time())


@dataclass
class Siege:
    """A running proxy, its bystanders, and what it was like before.

    Attributes:
        proxy: The proxy.
        bystanders: Those who must be served.
        workers: Its workers, which must live.
        outcomes: What conversations came to so far.
    """

    proxy: Served
    metrics_port: int
    bystanders: list[Paced]
    workers: list[int] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    begun: int = 0

    # --- what it is like ----------------------------------------------------------------------

    def memory(self) -> int:
        """Return the memory that its processes have for themselves; bytes.

        What they share is made once: the ring of decisions only fills it.
        """
        pids = (self.proxy.process.pid, *self.workers)
        rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
        return sum(int(kibibytes) << 10 for each in rollups for kibibytes in PRIVATE.findall(each))

    def descriptors(self) -> int:
        """Return how many descriptors its workers have open."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.workers)

    async def counted(self, *metrics: str) -> list[int]:
        """Return the sums of metrics."""
        page = await scrape(self.metrics_port)
        return [int(sums(page, f"spooky_{name}")) for name in metrics]

    @property
    def served(self) -> int:
        """How many pairs of requests of bystanders were answered rightly."""
        return sum(each.served for each in self.bystanders)

    # --- the crowd ----------------------------------------------------------------------------

    async def crowd(self, first: int, count: int, rate: float, seconds: float) -> None:
        """Have a crowd talk, and see that everybody found the proxy."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.hostile", str(self.proxy.port), "--first", str(first),
            "--count", str(count), "--rate", str(rate), "--seconds", str(seconds),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode == 0
        found = json.loads(said)
        # By its number each can be had again: python -m tests.hostile PORT --first NUMBER.
        assert found["failures"] == [], f"found no proxy: {found['failures'][:10]}"
        self.begun += found["begun"]
        for outcome, times in found["outcomes"].items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + times

    # --- what must be true --------------------------------------------------------------------

    def check(self) -> None:
        """See that nobody was hurt so far."""
        assert self.proxy.workers == self.workers, "a worker was replaced"
        assert WRONG.findall(self.proxy.log) == [], self.proxy.log[-4000:]
        for bystander in self.bystanders:
            assert bystander.failures == [], f"{bystander.ingress}: {bystander.failures}"

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait for a state, and say how things are if it does not come."""
        ends = time.monotonic() + CALM_SECONDS
        while not reached():
            self.check()
            assert time.monotonic() < ends, [(one.ingress, one.served) for one in self.bystanders]
            await asyncio.sleep(0.05)

    async def until_calm(self) -> None:
        """Wait until nobody is there but bystanders."""
        count = len(self.bystanders)
        ends = time.monotonic() + CALM_SECONDS
        while True:
            connections, requests = await self.counted("connections_active", "requests_active")
            if connections == count and requests <= count:
                return
            assert time.monotonic() < ends, f"{connections} connections, {requests} requests left"
            await asyncio.sleep(0.1)

    async def until_forgotten(self, descriptors: int) -> None:
        """Wait until no more descriptors are open than before."""
        ends = time.monotonic() + CALM_SECONDS
        while (now := self.descriptors()) > descriptors:
            assert time.monotonic() < ends, f"{now} descriptors open, before {descriptors}"
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def besieged(
    directory: Path, workers: int, pauses: Iterable[float], idle_ms: int
) -> AsyncIterator[Siege]:
    """Run a proxy with bystanders, one for each pause, of all protocols in turn.

    Arguments:
        idle_ms: When a client without a word is forgotten: longer than this machine may keep a
            bystander from running.
    """
    metrics_port = free_port()

    def change(settings: dict[str, Any]) -> None:
        configure(settings, metrics_port, idle_ms)

    async with served(directory, workers, change) as proxy:
        bystanders = [
            Paced(INGRESSES[number % len(INGRESSES)], proxy.port, pause=pause)
            for number, pause in enumerate(pauses)
        ]
        siege = Siege(proxy, metrics_port, bystanders, proxy.workers)
        tasks = [asyncio.create_task(each.run()) for each in bystanders]
        try:
            await siege.until(lambda: all(each.served for each in bystanders))
            yield siege
            # None of what was asked is left unanswered.
            before = siege.served
            await siege.until(lambda: siege.served > before + len(bystanders))
            siege.check()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
