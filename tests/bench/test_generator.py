"""What the load generator measures, without a server."""

from types import SimpleNamespace
from typing import Any

import pytest

from spooky.bench import generator, processes
from spooky.bench.generator import Load
from spooky.bench.plan import Kind, LoadPlan, RequestPlan

CONNECTIONS = 100

START_BYTES = 30_000_000
"""What a server takes to start, and with its first connection."""

BYTES_PER_CONNECTION = 12_000


def test_memory_of_idle_connections_has_no_part_of_a_servers_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = Load(
        LoadPlan(
            host="127.0.0.1",
            port=1,
            server_name="localhost",
            authority="localhost",
            kind=Kind.IDLE,
            connections=CONNECTIONS,
            streams=1,
            requests=(RequestPlan("/"),),
            seconds=0.0,
        )
    )
    opened: list[int] = []

    def connect(connections: int, closed_loop: bool) -> tuple[list[Any], list[Any]]:
        opened.append(connections)
        return [None] * connections, [SimpleNamespace(first=b"")] * connections

    def resident(pids: list[int]) -> int:
        return START_BYTES * bool(opened) + BYTES_PER_CONNECTION * sum(opened)

    monkeypatch.setattr(load, "_connect", connect)
    monkeypatch.setattr(load, "_settle", lambda seconds: None)
    monkeypatch.setattr(generator, "part", lambda clients, wires: opened.append(-len(clients)))
    monkeypatch.setattr(processes, "resident_bytes", resident)
    result = load.run()
    assert result.connections == CONNECTIONS
    assert result.watched_growth_bytes == CONNECTIONS * BYTES_PER_CONNECTION
    assert sum(opened) == 0, "all are closed in the end, the first too"
