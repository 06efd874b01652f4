"""A proxy under hostile conversations: what must be true of it during and after them.

No process dies or says that something is wrong, nobody finds the proxy silent, bystanders are all
served, and afterwards nothing is left: no request, no connection, no descriptor.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spooky.bench import processes
from tests.attacks.ground import Bystander
from tests.control.serve import Served, generous, served
from tests.support.client import AUTHORITY
from tests.support.ports import free_port
from tests.support.proxy import INGRESSES
from tests.support.scraping import scrape, sums

SHORT_MS = 3_000
"""Timeouts of the proxy: who is slow or vanishes is forgotten soon."""

PRIVATE = re.compile(r"^Private_Dirty: +(\d+) kB$", re.MULTILINE)

BYSTANDERS = b'"authority":"%b"' % AUTHORITY
COMPLETED = b'"reason":"completed"'
"""Which lines of the access log are theirs, and which of those are of no interest."""

LOG_MAX_BYTES = 64 << 20
LOG_SECONDS = 0.5
"""How long a line may take to be there."""

BEHIND_MAX_SECONDS = 10.0
"""How much of its rate a bystander makes up for."""

CALM_SECONDS = 60.0
"""How long it may take until nothing is left of a crowd."""

WRONG = re.compile(r"Traceback|died|stalled|killed|defect|\"level\": ?\"(?:error|critical)\"", re.I)
"""What the log of a healthy proxy never says."""


def configure(
    settings: dict[str, Any], metrics_port: int, idle_ms: int, backend_port: int, log: Path
) -> None:
    """Make the timeouts short, and serve bystanders by an upstream of their own."""
    generous(settings)
    settings["access_log"] = {"enabled": True, "format": "json", "path": str(log)}
    settings["performance"] |= {
        "client_head_timeout_ms": SHORT_MS,
        "client_body_idle_timeout_ms": SHORT_MS,
        "quic_max_idle_timeout_ms": idle_ms,
        "h2_pool_idle_timeout_ms": SHORT_MS,
    }
    (upstream,) = settings["upstream"].values()
    upstream["backends"][0]["address"] = f"http://127.0.0.1:{backend_port}"
    # What hostile clients make their backend do must not be held against that of others.
    settings["upstream"]["bystanders"] = {**upstream, "route": {"host": AUTHORITY.decode()}}
    metrics = {"enabled": True, "required": True, "port": metrics_port}
    settings["observability"] = {"metrics": metrics}


@dataclass
class Paced(Bystander):
    """A bystander that asks at a rate, and faster for a while after a pair that took long.

    Attributes:
        pause: From the beginning of one pair of requests to that of the next, seconds.
    """

    pause: float = 0.1
    _due: float = 0.0

    async def _ask(self, client: Any) -> None:
        clock = asyncio.get_running_loop().time
        self._due = self._due or clock()
        async with asyncio.timeout(30):
            await super()._ask(client)
        self._due = max(self._due + self.pause, clock() - BEHIND_MAX_SECONDS)
        await asyncio.sleep(self._due - clock())


class UnservedLog:
    """What the access log says of requests of bystanders that did not complete.

    Arguments:
        path: The log, which is begun anew when it is long.

    Attributes:
        lines: Of those requests.
    """

    def __init__(self, path: Path) -> None:
        self.lines: list[str] = []
        self._path = path
        # The one before may get lines until all workers have opened the new one.
        self._files = deque([path.open("rb")], maxlen=2)
        self._rests = [b"", b""]

    def read(self) -> None:
        """Read what is new."""
        for number, file in enumerate(self._files):
            *lines, self._rests[number] = (self._rests[number] + file.read()).split(b"\n")
            self.lines += (
                line.decode() for line in lines if BYSTANDERS in line and COMPLETED not in line
            )

    @property
    def is_long(self) -> bool:
        """Whether it is time to begin anew."""
        return self._files[-1].tell() > LOG_MAX_BYTES

    def begin_anew(self, reopen: Callable[[], None]) -> None:
        """Go on in another file, that ``reopen`` makes workers open."""
        self.read()
        self._path.rename(self._path.with_suffix(".old"))
        self._path.touch()
        reopen()
        self._rests = [self._rests[len(self._files) - 1], b""]
        self._files.append(self._path.open("rb"))


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
    unserved: UnservedLog
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

    def cpu_s(self) -> float:
        """Return the processor time that its processes took."""
        return processes.cpu_seconds([self.proxy.process.pid, *self.workers])

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
        self.unserved.read()
        if self.unserved.is_long:
            self.unserved.begin_anew(lambda: self.proxy.signal(signal.SIGUSR1))
        failures = [f"{one.ingress}: {why}" for one in self.bystanders for why in one.failures]
        if failures:
            # The line of a request comes after its end.
            time.sleep(LOG_SECONDS)
            self.unserved.read()
        assert failures == [], "\n".join([*failures, *self.unserved.lines])

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
async def backend() -> AsyncIterator[int]:
    """Run the backend, in a process of its own; its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.hostile.backend", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def besieged(
    directory: Path, workers: int, pauses: Iterable[float], idle_ms: int
) -> AsyncIterator[Siege]:
    """Run a proxy with bystanders, one for each pause, of all protocols in turn.

    Arguments:
        idle_ms: When a client without a word is forgotten: longer than this machine may keep a
            bystander from running.
    """
    metrics_port, log = free_port(), directory / "access.log"
    log.touch()
    log.chmod(0o666)

    def change(settings: dict[str, Any]) -> None:
        configure(settings, metrics_port, idle_ms, backend_port, log)

    async with backend() as backend_port, served(directory, workers, change) as proxy:
        bystanders = [
            Paced(INGRESSES[number % len(INGRESSES)], proxy.port, pause=pause)
            for number, pause in enumerate(pauses)
        ]
        siege = Siege(proxy, metrics_port, UnservedLog(log), bystanders, proxy.workers)
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
