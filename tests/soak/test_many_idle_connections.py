"""Twenty thousand QUIC connections that do nothing, and requests of others beside them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from spooky._core import COMPILED
from spooky.bench import processes
from spooky.bench.histogram import Histogram
from spooky.bench.plan import Failed, Finished, Kind, LoadPlan, LoadResult, RequestPlan
from tests.control.serve import generous, served
from tests.soak.test_idle_connections import BYTES_PER_CONNECTION_MAX
from tests.support.ports import free_port
from tests.support.scraping import scrape, sums

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not COMPILED, reason="the twin's engine has no bound on what it keeps"),
]

CONNECTIONS = int(os.environ.get("SOAK_CONNECTIONS", "20000"))
PER_CLIENT = 1000
"""Connections of one process, which have to be there within 20 s."""

WORKERS = 2
RATE = 200.0
SECONDS = 10.0
ROUNDS = int(os.environ.get("SOAK_ROUNDS", "3"))
"""The best of so many counts: what else the machine does is not the connections' fault."""

P99_GROWTH_MAX = 1.2


def plan(port: int, kind: Kind, connections: int, seconds: float) -> bytes:
    """Return what a generator is told."""
    return msgspec.json.encode(
        LoadPlan(
            host="127.0.0.1",
            port=port,
            server_name="localhost",
            authority="localhost",
            kind=kind,
            connections=connections,
            streams=32,
            requests=(RequestPlan("/size/1024"),),
            seconds=seconds,
            rate=RATE if kind is Kind.REQUESTS else 0.0,
        )
    )


@contextmanager
def generating(told: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """Run a generator until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "spooky.bench.generator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(told)
        process.stdin.close()
        yield process
    finally:
        process.kill()
        process.wait()


def result(process: subprocess.Popen[bytes]) -> LoadResult:
    """Wait for what a generator found out."""
    assert process.stdout is not None
    last = msgspec.json.decode(process.stdout.read().splitlines()[-1], type=Finished | Failed)
    assert isinstance(last, Finished), last
    return last.result


def p99(port: int) -> float:
    """Return the best 99th percentile of some rounds of traffic; milliseconds."""
    found = []
    for _ in range(ROUNDS):
        with generating(plan(port, Kind.REQUESTS, 8, SECONDS)) as process:
            traffic = result(process)
        assert traffic.errors == {}
        found.append(Histogram.of_buckets(traffic.latencies).percentile(0.99) / 1000)
    return min(found)


def test_many_idle_connections_leave_others_alone(tmp_path: Path) -> None:
    metrics = free_port()

    def change(settings: dict[str, Any]) -> None:
        generous(settings)
        settings["performance"] |= {
            "max_active_connections": 2 * CONNECTIONS,
            "quic_max_idle_timeout_ms": 1_800_000,
        }
        settings["observability"] = {"metrics": {"enabled": True, "port": metrics}}

    async def opened() -> int:
        page = await scrape(metrics)
        return round(sums(page, "spooky_connections_active", transport="quic"))

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, change) as proxy:
            before = await asyncio.to_thread(p99, proxy.port)
            alone = processes.resident_bytes(proxy.workers)
            with ExitStack() as stack:
                clients: list[subprocess.Popen[bytes]] = []
                while len(clients) * PER_CLIENT < CONNECTIONS:
                    held = generating(plan(proxy.port, Kind.IDLE, PER_CLIENT, 1_800.0))
                    clients.append(stack.enter_context(held))
                    async with asyncio.timeout(60):
                        while await opened() < len(clients) * PER_CLIENT:
                            await asyncio.sleep(0.2)
                grown = processes.resident_bytes(proxy.workers) - alone
                after = await asyncio.to_thread(p99, proxy.port)
                for process in clients:
                    assert process.poll() is None, result(process)
                assert await opened() >= CONNECTIONS
            print(
                f"{CONNECTIONS} connections: {grown / CONNECTIONS / 1024:.1f} KiB each, "
                f"p99 {before:.2f} ms before, {after:.2f} ms with them"
            )
            assert grown / CONNECTIONS <= BYTES_PER_CONNECTION_MAX
            assert after <= P99_GROWTH_MAX * before

    uvloop.run(scenario())
