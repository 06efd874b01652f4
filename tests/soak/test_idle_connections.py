"""What connections cost that do nothing: the memory of a worker grows by so much for each."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from spooky._core import COMPILED
from spooky.bench.generator import Load
from spooky.bench.plan import Kind, LoadPlan, RequestPlan
from tests.control.serve import generous, served
from tests.support.proxy import run

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not COMPILED, reason="the twin's engine has no bound on what it keeps"),
]

CONNECTIONS = 1000

BYTES_PER_CONNECTION_MAX = 36 * 1024


def lasting(settings: dict[str, Any]) -> None:
    """Let one address have all connections at once, and keep them."""
    generous(settings)
    settings["performance"]["quic_max_idle_timeout_ms"] = 120_000


def test_an_idle_connection_costs_no_more_than_36_kib(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, 1, lasting) as proxy:
            plan = LoadPlan(
                host="127.0.0.1",
                port=proxy.port,
                server_name="localhost",
                authority="localhost",
                kind=Kind.IDLE,
                connections=CONNECTIONS,
                streams=1,
                requests=(RequestPlan("/size/1024"),),
                seconds=3,
                watched=tuple(proxy.workers),
            )
            result = await asyncio.to_thread(Load(plan).run)
            assert (result.connections, result.errors) == (CONNECTIONS, {})
            assert result.watched_growth_bytes / CONNECTIONS <= BYTES_PER_CONNECTION_MAX

    run(scenario)
