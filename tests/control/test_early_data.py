"""0-RTT data at several workers: a ticket serves once, whichever of them gets it (RFC 8446)."""

import os
from pathlib import Path
from typing import Any

import pytest

from spooky import _core
from tests.control.serve import Served, served
from tests.support.early import EarlyClient, early_field, ticket_from
from tests.support.proxy import run

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

WORKERS = 3
ROUNDS = 10


def allow(settings: dict[str, Any]) -> None:
    settings["resilience"] = {"protocol": {"allow_0rtt": True}}


def id_for(worker: int) -> bytes:
    """Return a connection ID that is steered to a worker."""
    return bytes([worker]) + os.urandom(7)


async def at_once(proxy: Served, ticket: Any) -> list[bool | None]:
    """Use a ticket at every worker before any has answered; return who took it."""
    clients = [EarlyClient(proxy.port, ticket, id_for(worker)) for worker in range(WORKERS)]
    flights = []
    for client in clients:
        client.request("GET", "/inspect")
        flights.append(client.pending())
    for client, flight in zip(clients, flights, strict=True):
        client.send(*flight)
    for client in clients:
        while client.taken is None:
            await client.listen()
        client.quic.close()
        client.send(*client.pending())
        client.__exit__()
    return [client.taken for client in clients]


def test_a_ticket_serves_at_one_worker_of_all(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS, allow) as proxy:
            # One after the other: given by one worker, used at the next, and then at all.
            ticket = await ticket_from(proxy.port, id_for(0))
            found = []
            for worker in (1, 2, 0, 1):
                with EarlyClient(proxy.port, ticket, id_for(worker)) as client:
                    _, inspected = await client.fetch("GET", "/inspect")
                    found.append((client.taken, early_field(inspected)))
            assert found == [(True, ["1"]), *[(False, [])] * 3]
            # At the same instant, often enough for them to meet.
            taken = []
            for number in range(ROUNDS):
                ticket = await ticket_from(proxy.port, id_for(number % WORKERS))
                taken.append(sum(map(bool, await at_once(proxy, ticket))))
            assert max(taken) == 1
            # Forbidden live, it is refused with the tickets there are; allowed again, it is taken.
            ticket = await ticket_from(proxy.port, id_for(0))
            found = []
            for allowed in (False, True):
                proxy.write(
                    lambda settings, allowed=allowed: settings["resilience"]["protocol"].update(
                        allow_0rtt=allowed
                    )
                )
                code, output = await proxy.command("reload")
                assert code == 0, output
                for worker in range(WORKERS):
                    if allowed:
                        ticket = await ticket_from(proxy.port, id_for(worker))
                    with EarlyClient(proxy.port, ticket, id_for(worker)) as client:
                        _, inspected = await client.fetch("GET", "/inspect")
                        found.append((client.taken, early_field(inspected)))
            assert found == [(False, [])] * WORKERS + [(True, ["1"])] * WORKERS

    run(scenario)
