"""Connections are spread over the workers, and stay with theirs whatever the client's address."""

import asyncio
import os
import typing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from spooky._core import COMPILED
from spooky.bench.generator import Load
from spooky.bench.plan import Kind, LoadPlan
from spooky.bench.relay import udp_relay
from spooky.config.performance import Performance
from spooky.protocol.quic.packet import parse_header
from tests.control.serve import Served, generous, served
from tests.edge.test_stateless import RawClient, wire
from tests.support.client import Client, Http3Client
from tests.support.origin import pattern
from tests.support.ports import free_port
from tests.support.proxy import run
from tests.support.scraping import scrape, sums
from tests.support.waiting import until

pytestmark = [
    pytest.mark.skipif(not COMPILED, reason="the twin serves one worker"),
    pytest.mark.timeout(120),
]

WORKERS = 4
CLIENTS = 8
REBINDINGS = 4
BODY_BYTES = 1_500_000

ENGINES = typing.get_args(
    typing.get_args(typing.get_type_hints(Performance, include_extras=True)["quic_engine"])[0]
)

# For the supervisor: as on a kernel that does not take the program.
NO_STEERING = """
import sys
if "serve" in sys.orig_argv:
    from spooky.control.sockets import ListenerSockets
    ListenerSockets.steer = lambda self, table: False
"""


def settings_for(engine: str, metrics_port: int) -> Any:
    def change(settings: dict[str, Any]) -> None:
        settings["performance"]["quic_engine"] = engine
        settings["observability"] = {"metrics": {"enabled": True, "port": metrics_port}}

    return change


async def transfer(client: Client, number: int) -> None:
    """Download and upload at once; every byte has to arrive."""
    body = pattern(BODY_BYTES)
    download, upload = await asyncio.gather(
        client.fetch("GET", f"/size/{BODY_BYTES}?{number}"),
        client.fetch("POST", "/count", body=body),
    )
    assert (download.status, download.cut) == (200, None)
    assert download.body == body
    assert (upload.status, upload.cut) == (200, None)
    assert b"%d" % BODY_BYTES in upload.body


async def show_address(clients: list[Http3Client]) -> None:
    """Send something now and then, as clients behind a translator do.

    Else one that only receives would be silent, and the server could not know where it is now.
    """
    while True:
        await asyncio.sleep(0.1)
        for client in clients:
            client.protocol._quic.send_ping(1)
            client.protocol.transmit()


async def transfers_while_rebinding(proxy: Served) -> None:
    """Move all clients to another address and port again and again, while they transfer."""
    async with udp_relay(proxy.port, seed=11) as relay:
        relay.to_server.delay = relay.to_client.delay = 0.002
        clients = [await Http3Client.connect(relay.port) for _ in range(CLIENTS)]
        showing = asyncio.ensure_future(show_address(clients))
        load = [
            asyncio.ensure_future(transfer(client, number)) for number, client in enumerate(clients)
        ]
        rebound = 0
        while rebound < REBINDINGS:
            await asyncio.sleep(0.25)
            if all(one.done() for one in load):
                break
            relay.rebind()
            rebound += 1
        assert rebound >= 2, "the transfers were over before they could be disturbed"
        await asyncio.gather(*load)
        showing.cancel()
        for client in clients:
            # The same connections still, at whatever address.
            assert (await client.fetch("GET", "/echo")).status == 200
            await client.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_clients_that_change_port_and_address_in_mid_transfer_lose_nothing(
    tmp_path: Path, engine: str
) -> None:
    port = free_port()

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, settings_for(engine, port)) as proxy:
            await transfers_while_rebinding(proxy)
            page = await scrape(port)
            assert sums(page, "spooky_datagrams_handed_over_total") == 0
            assert sums(page, "spooky_connections_total", transport="quic") == CLIENTS
            assert sums(page, "spooky_worker_restarts_total") == 0

    run(scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_where_the_kernel_does_not_steer_workers_hand_over_and_nothing_is_lost(
    tmp_path: Path, engine: str
) -> None:
    port = free_port()
    (tmp_path / "unsteered").mkdir()
    (tmp_path / "unsteered" / "sitecustomize.py").write_text(NO_STEERING)
    path = f"{tmp_path / 'unsteered'}:{Path.cwd()}"

    async def scenario() -> None:
        change = settings_for(engine, port)
        async with served(tmp_path, WORKERS, change, {"PYTHONPATH": path}) as proxy:
            await transfers_while_rebinding(proxy)
            page = await scrape(port)
            assert sums(page, "spooky_datagrams_handed_over_total") > 100
            assert sums(page, "spooky_connections_total", transport="quic") == CLIENTS

    run(scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_new_connections_reach_all_workers(tmp_path: Path, engine: str) -> None:
    async def scenario() -> None:
        log = tmp_path / "access.log"

        def logged(settings: dict[str, Any]) -> None:
            settings["performance"]["quic_engine"] = engine
            settings["access_log"] = {"path": str(log), "format": "json"}

        async with served(tmp_path, WORKERS, logged) as proxy:
            for _ in range(10 * WORKERS):
                client = await proxy.client("h3")
                assert (await client.fetch("GET", "/echo")).status == 200
                await client.close()
            await until(lambda: log.read_text().count("\n") == 10 * WORKERS)
            # A request's id begins with the worker's slot.
            slots = [line.split('"request_id":"')[1][:2] for line in log.read_text().splitlines()]
            assert {slots.count(f"{slot:02x}") > 2 for slot in range(WORKERS)} == {True}

    run(scenario)


@pytest.mark.parametrize("workers", [2, 4])
def test_new_connections_are_spread_evenly(tmp_path: Path, workers: int) -> None:
    """Within 20 % of even, if each first byte of a client's connection ID comes as often."""
    bytes_each = 256

    async def scenario() -> None:
        async with served(tmp_path, workers) as proxy:
            slots: Counter[int] = Counter()
            with wire(proxy.port) as on:
                for first in range(bytes_each):
                    client = RawClient()
                    client.choose_destination(bytes((first,)) + os.urandom(7))
                    on.send(*client.begin(on))
                    header = parse_header(await on.receive())
                    assert header is not None
                    slots[header.source_connection_id[0]] += 1
        even = bytes_each / workers
        assert set(slots) == set(range(workers))
        assert all(0.8 * even <= count <= 1.2 * even for count in slots.values()), slots

    run(scenario)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [2, 4])
def test_connections_of_clients_as_they_are_spread_evenly(tmp_path: Path, workers: int) -> None:
    """Within 20 % of even: whole handshakes, whose connection IDs are random."""

    async def scenario() -> None:
        async with served(tmp_path, workers, generous) as proxy:
            plan = LoadPlan(
                host="127.0.0.1",
                port=proxy.port,
                server_name="localhost",
                authority="localhost",
                kind=Kind.HANDSHAKES,
                connections=8,
                streams=1,
                requests=(),
                seconds=40,
            )
            result = await asyncio.to_thread(Load(plan).run)
            slots, even = result.connections_by_slot, result.connections / workers
            # Of so many, a fifth off is more than four standard deviations.
            assert result.connections > 1_500
            assert result.errors == {}
            assert set(slots) == set(range(workers))
            assert all(0.8 * even <= count <= 1.2 * even for count in slots.values()), slots

    run(scenario)
