"""Where attacks take place: one `spooky serve` for many of them, and bystanders beside each.

Its process is another one than the attacker's, so that its memory and its processor time are its
own. Attackers come from addresses of their own, as limits of a source are not what is tested here.
"""

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spooky.bench import processes
from tests.attacks.hostile_backends import Http1Backend, serve_h2
from tests.attacks.hostile_backends_h3 import start_h3
from tests.control.serve import Served, generous, served
from tests.support.client import Client
from tests.support.origin import pattern
from tests.support.ports import free_port
from tests.support.proxy import INGRESSES, connect
from tests.support.scraping import scrape, sums

MIB = 1 << 20

MEMORY_BOUND = 32 * MIB
"""What an attack may make the worker grow by: far more than its limits, far less than an attack
that no limit stops."""

CPU_BOUND_S = 20.0
"""Processor time that one attack may cost. Not a measure of speed: what has no limit takes more."""

SHORT_MS = 3_000
"""The timeouts of the proxy, so that tests of them are short."""

RATE = 1_000
"""How fast clients have to be; bytes per second."""

HALF_OPEN_MAX = 500
BYSTANDERS_PATHS = ("size", "echo")
BACKEND_MS = 5_000
RESPONSE_BYTES = 2_000
BYSTANDER_PAUSE_SECONDS = 0.03
SCHEMES = {"h1": "http", "h2": "http", "h3": "https"}
CALM_SECONDS = 60.0
RETRY_HOST = "127.0.77.1"
DENIED_HOST = "127.0.77.2"

_hosts = itertools.count(1)


def attacker_host() -> str:
    """Return an address that nobody else has used."""
    number = next(_hosts)
    return f"127.1.{number // 250}.{number % 250 + 1}"


def _configure(
    settings: dict[str, Any], metrics_port: int, hostile: dict[str, int], directory: Path
) -> None:
    generous(settings)
    settings["control"] = {"socket": str(directory / "socket")}
    settings["performance"] |= {
        "client_head_timeout_ms": SHORT_MS,
        "client_body_idle_timeout_ms": SHORT_MS,
        "client_min_request_bytes_per_sec": RATE,
        "client_min_stream_bytes_per_sec": RATE,
        "client_min_response_bytes_per_sec": RATE,
        "client_rate_grace_ms": SHORT_MS,
        "quic_max_idle_timeout_ms": SHORT_MS,
        "backend_connect_timeout_ms": BACKEND_MS,
        "backend_timeout_ms": BACKEND_MS,
        "backend_body_idle_timeout_ms": BACKEND_MS,
        "max_half_open_connections": HALF_OPEN_MAX,
        "source_rules": [f"retry {RETRY_HOST}", f"drop {DENIED_HOST}"],
    }
    # What attackers make the backend do must not be held against it by who serves bystanders.
    (upstream,) = settings["upstream"].values()
    for name in BYSTANDERS_PATHS:
        route = {"path_prefix": f"/{name}"}
        settings["upstream"][name] = {**upstream, "route": route}
    for name, port in hostile.items():
        settings["upstream"][f"hostile-{name}"] = {
            "route": {"path_prefix": f"/hostile-{name}"},
            "backends": [{"id": "one", "address": f"{SCHEMES[name]}://127.0.0.1:{port}"}],
            "protocol": f"http{name[1]}",
            "tls": {"verify_certificates": False},
            "retry": {"conditions": []},
            "outlier_detection": {"enabled": False},
        }
    # Each flood meets its own budget here; what all of them share has tests of its own.
    glitches = {"connection_budget": None, "source_budget": None}
    settings["resilience"] = {
        "protocol": {"glitches": glitches},
        # What backends do is to be seen each time, not once.
        "circuit_breaker": {"enabled": False},
        # The load of the machine that tests run on is no attack.
        "overload": {"enabled": False},
    }
    settings["observability"] = {
        "metrics": {"enabled": True, "required": True, "port": metrics_port}
    }


@dataclass
class Bystander:
    """A client that does no harm, on one connection for all attacks.

    Attributes:
        ingress: The protocol it speaks.
        served: Requests that were answered rightly.
        failures: What became of the others.
        seconds: How long each took.
    """

    ingress: str
    port: int
    served: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Ask again and again."""
        while True:
            client = await connect(self.ingress, self.port)
            try:
                while True:
                    await self._ask(client)
                    await asyncio.sleep(BYSTANDER_PAUSE_SECONDS)
            except Exception as error:
                self.failures.append(repr(error))
            finally:
                await client.close()

    async def _ask(self, client: Client) -> None:
        """Ask for a response, and for what is sent."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        response = await client.fetch("GET", f"/size/{RESPONSE_BYTES}")
        if (response.status, response.body) != (200, pattern(RESPONSE_BYTES)):
            self.failures.append(
                f"GET: {response.status} {response.cut} {bytes(response.body[:80])!r}"
            )
        response = await client.fetch("POST", "/echo", body=b"hello")
        if (response.status, response.body) != (200, b"hello"):
            self.failures.append(
                f"POST: {response.status} {response.cut} {bytes(response.body[:80])!r}"
            )
        self.seconds.append((clock() - begun) / 2)
        self.served += 1


@dataclass
class Siege:
    """One attack, seen from the proxy.

    Attributes:
        memory: How much the worker grew at most, bytes.
        cpu_s: Processor time it took so far.
    """

    ground: "Ground"
    _resident: int
    _cpu_s: float
    _peak: int = 0

    @property
    def memory(self) -> int:
        self.look()
        return self._peak - self._resident

    @property
    def cpu_s(self) -> float:
        return self.ground.cpu_s() - self._cpu_s

    def look(self) -> None:
        self._peak = max(self._peak, self.ground.resident())


class Ground:
    """A running proxy that tests share.

    Its backend and the bystanders are in a thread of their own, and outlive each attack.
    """

    half_open_max = HALF_OPEN_MAX

    def __init__(self, proxy: Served, metrics_port: int, hostile: Http1Backend) -> None:
        self.hostile = hostile
        self.proxy = proxy
        self.port = proxy.port
        self.metrics_port = metrics_port
        self.bystanders = [Bystander(ingress, proxy.port) for ingress in INGRESSES]
        (self._worker,) = proxy.workers

    # --- what the proxy is like ---------------------------------------------------------------

    def resident(self) -> int:
        """Return the memory that the worker has; bytes."""
        pages = int(Path(f"/proc/{self._worker}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """Return the processor time that the worker has taken."""
        return processes.cpu_seconds([self._worker])

    async def page(self) -> str:
        """Return the page of metrics."""
        return await scrape(self.metrics_port)

    async def counted(self, metric: str, **labels: str) -> int:
        """Return the sum of a metric over what these labels select."""
        return int(sums(await self.page(), f"spooky_{metric}", **labels))

    async def until(self, reached: Callable[[], Any], seconds: float = CALM_SECONDS) -> None:
        """Wait for a state that a coroutine function tells."""
        async with asyncio.timeout(seconds):
            while not await reached():
                await asyncio.sleep(0.05)

    # --- sieges -------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def siege(
        self, memory_bound: int = MEMORY_BOUND, leaves_half_open: bool = False
    ) -> AsyncIterator[Siege]:
        """Have bystanders ask during an attack; assert that they, and only they, were served.

        Afterwards nothing is left of it: no request, no connection, and no more memory than an
        attack may take.

        Arguments:
            leaves_half_open: Whether it leaves handshakes that only time ends. They are not waited
                for here, but at the end of all.
        """
        bystanders = self.bystanders
        before = [len(bystander.failures) for bystander in bystanders]
        siege = Siege(self, self.resident(), self.cpu_s())
        looking = asyncio.create_task(self._look(siege))
        try:
            yield siege
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        served = [bystander.served for bystander in bystanders]
        async with asyncio.timeout(CALM_SECONDS):
            # A request that begins after it too.
            while any(b.served <= n + 1 for b, n in zip(bystanders, served, strict=True)):
                await asyncio.sleep(0.01)
        for bystander, count in zip(bystanders, before, strict=True):
            assert bystander.failures[count:] == [], bystander.ingress
        assert siege.memory <= memory_bound
        assert siege.cpu_s <= CPU_BOUND_S
        if not leaves_half_open:
            await self.until(self.is_calm)
        assert (self._worker,) == tuple(self.proxy.workers), "the worker was replaced"

    async def _look(self, siege: Siege) -> None:
        while True:
            siege.look()
            await asyncio.sleep(0.02)

    async def is_calm(self) -> bool:
        """Return whether nothing but bystanders is there."""
        count = len(self.bystanders)
        return (
            await self.counted("connections_active") == count
            and await self.counted("requests_active") <= count
        )


@contextlib.contextmanager
def ground(directory: Path) -> Iterator[Ground]:
    """Run a proxy and its backend for as long as tests need them."""
    started: asyncio.Future[Ground] | Any = None
    metrics_port = free_port()
    ready = threading.Event()
    found: list[Ground | BaseException] = []
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        try:
            hostile = Http1Backend()
            servers = {
                name: await asyncio.start_server(serve, "127.0.0.1", 0)
                for name, serve in (("h1", hostile.serve), ("h2", serve_h2))
            }
            ports = {name: each.sockets[0].getsockname()[1] for name, each in servers.items()}
            quic, ports["h3"] = await start_h3(directory)
            async with served(
                directory, 1, lambda each: _configure(each, metrics_port, ports, directory)
            ) as proxy:
                running = Ground(proxy, metrics_port, hostile)
                tasks = [asyncio.create_task(each.run()) for each in running.bystanders]
                while not all(bystander.served for bystander in running.bystanders):
                    await asyncio.sleep(0.01)
                found.append(running)
                ready.set()
                await ended.wait()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            quic.close()
        except BaseException as error:
            found.append(error)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    ready.wait()
    (started,) = found
    assert isinstance(started, Ground), started
    try:
        yield started
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
