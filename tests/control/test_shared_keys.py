"""What one worker gave to a client, another takes: tickets, address tokens, connections it lost."""

import asyncio
import os
import signal
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration

from spooky._core import COMPILED
from spooky.bench.connecting import slot_of
from spooky.bench.wire import Loop, Wire
from spooky.protocol.quic.engines import ENGINES, Feature
from spooky.protocol.quic.parameters import ClientParameters
from tests.control.serve import Served, served
from tests.edge.test_stateless import RawClient, retried, wire
from tests.protocol.quic.support import Recorder
from tests.support.client import Http3Client
from tests.support.ports import free_port
from tests.support.proxy import run
from tests.support.scraping import scrape, sums
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not COMPILED, reason="the twin serves one worker")

TRIES = 40
"""Connections begun until one reaches the other of two workers: all miss it once in 2^40 times."""

WAIT_SECONDS = 60


def settings_for(metrics_port: int, **performance: Any) -> Any:
    def change(settings: dict[str, Any]) -> None:
        settings["performance"] |= performance
        settings["observability"] = {"metrics": {"enabled": True, "port": metrics_port}}

    return change


def slot_of_worker(client: Http3Client) -> int:
    """Return the slot of the worker that serves a client."""
    return client.protocol._quic._peer_cid.cid[0]


async def connect(port: int, **changes: Any) -> Http3Client:
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name="localhost", **changes
    )
    client = await Http3Client.connect(port, configuration)
    assert (await client.fetch("GET", "/echo")).status == 200
    return client


async def connect_elsewhere(port: int, slot: int, **changes: Any) -> Http3Client:
    """Connect until it is another worker that serves."""
    for _ in range(TRIES):
        client = await connect(port, **changes)
        if slot_of_worker(client) != slot:
            return client
        await client.close()
    raise AssertionError(f"{TRIES} connections went to the same worker")


async def replace_workers(proxy: Served) -> None:
    """Kill every worker and wait for the successors."""
    before = proxy.workers
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: len(proxy.workers) == len(before) and not set(before) & set(proxy.workers))


async def accepted_tokens(metrics_port: int, frame: str) -> float:
    """Return how many tokens of a kind proved an address."""
    page = await scrape(metrics_port)
    return sums(page, "spooky_address_tokens_accepted_total", **{"from": frame})


@pytest.mark.parametrize("engine", ENGINES)
def test_a_session_is_resumed_at_another_worker_than_the_one_that_gave_the_ticket(
    tmp_path: Path, engine: str
) -> None:
    """RFC 8446 section 2.2; where an engine's tickets stay in one worker, all is done anew."""

    async def scenario() -> None:
        async with served(tmp_path, 2, settings_for(free_port(), quic_engine=engine)) as proxy:
            first = await connect(proxy.port)
            await first.close()
            ticket = first.tickets[0]
            second = await connect_elsewhere(
                proxy.port, slot_of_worker(first), session_ticket=ticket
            )
            shared = Feature.WORKERS not in ENGINES[engine].lacks
            assert second.protocol._quic.tls.session_resumed is shared
            await second.close()

    run(scenario)


def test_a_session_is_resumed_at_the_successor_of_a_killed_worker(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, 1) as proxy:
            first = await connect(proxy.port)
            await first.close()
            await replace_workers(proxy)
            second = await connect(proxy.port, session_ticket=first.tickets[0])
            assert second.protocol._quic.tls.session_resumed
            await second.close()

    run(scenario)


def test_the_token_of_an_earlier_connection_saves_the_retry_at_another_worker(
    tmp_path: Path,
) -> None:
    """RFC 9000 section 8.1.3."""
    metrics = free_port()

    async def scenario() -> None:
        async with served(tmp_path, 2, settings_for(metrics, quic_retry="always")) as proxy:
            first = await connect(proxy.port)
            assert first.protocol._quic._retry_count == 1
            await first.close()
            (token,) = first.tokens
            second = await connect_elsewhere(proxy.port, slot_of_worker(first), token=token)
            assert second.protocol._quic._retry_count == 0
            await second.close()
            # Perhaps one more, by connections that reached its own worker.
            assert await accepted_tokens(metrics, "new_token") in (1, 2)

    run(scenario)


def test_the_token_of_a_retry_holds_at_the_successor_of_the_worker_that_gave_it(
    tmp_path: Path,
) -> None:
    """RFC 9000 section 8.1.2: the packet after a Retry is steered to where that came from."""
    metrics = free_port()

    async def scenario() -> None:
        async with served(tmp_path, 2, settings_for(metrics, quic_retry="always")) as proxy:
            client = RawClient()
            with wire(proxy.port) as on:
                proven = await retried(client, on)
                await replace_workers(proxy)
                await client.handshake(on, proven)
            assert client.quic._retry_count == 1
            assert await accepted_tokens(metrics, "retry") == 1

    run(scenario)


class Connected:
    """A client of the native engine, which heeds stateless resets, on a socket of its own."""

    def __init__(self, loop: Loop, port: int) -> None:
        address = ("127.0.0.1", port)
        now = time.monotonic()
        parameters = ClientParameters(verify=False)
        self.session = ENGINES["native"].client_session(parameters, address, "localhost", now)
        self.handler = self.session.handler = Recorder()
        self.handler.session = self.session
        self.wire = Wire(loop, self.session, self.handler, address)
        self.wire.settle(now)

    @property
    def slot(self) -> int | None:
        return slot_of(self.wire.first)

    def say_something(self) -> None:
        stream_id = self.session.open_stream(True)
        assert stream_id is not None
        self.session.send(stream_id, b"\x21", False)
        self.wire.settle(time.monotonic())

    @property
    def answered(self) -> bool:
        return bool(self.handler.closes) or self.session.all_acknowledged


def turn_until(loop: Loop, reached: Any) -> None:
    """Let clients run until a state is reached."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not reached():
        assert time.monotonic() < deadline
        loop.turn(time.monotonic() + 0.05)


def test_the_successor_of_a_killed_worker_ends_its_connections_at_once(tmp_path: Path) -> None:
    """RFC 9000 section 10.3: with resets that the clients know, long before they are idle."""

    async def scenario() -> None:
        async with served(tmp_path, 2) as proxy:
            loop = Loop()

            def connect_all() -> list[Connected]:
                clients = [Connected(loop, proxy.port) for _ in range(16)]
                turn_until(loop, lambda: all(client.handler.handshake for client in clients))
                return clients

            def speak(clients: list[Connected]) -> None:
                for client in clients:
                    client.say_something()
                turn_until(loop, lambda: all(client.answered for client in clients))

            clients = await asyncio.to_thread(connect_all)
            os.kill(proxy.workers[0], signal.SIGKILL)
            await asyncio.to_thread(speak, clients)
            closed = [client for client in clients if client.handler.closes]
            assert len({client.slot for client in closed}) == 1
            assert {client.slot for client in closed}.isdisjoint(
                client.slot for client in clients if client not in closed
            )
            for client in closed:
                (close,) = client.handler.closes
                assert close.by_peer
                assert not close.timed_out
            loop.close()

    run(scenario)


def test_a_session_is_resumed_after_changes_and_by_new_workers(tmp_path: Path) -> None:
    def weigh(settings: dict[str, Any]) -> None:
        (upstream,) = settings["upstream"].values()
        upstream["backends"][0]["weight"] = 7
        settings["performance"]["backend_timeout_ms"] = 40_000

    async def scenario() -> None:
        async with served(tmp_path, 2) as proxy:
            client = await connect(proxy.port)
            await client.close()
            proxy.write(weigh)
            for command in (("reload",), ("reload", "--workers")):
                code, output = await proxy.command(*command)
                assert code == 0, output
                client = await connect(proxy.port, session_ticket=client.tickets[0])
                assert client.protocol._quic.tls.session_resumed, command
                await client.close()

    run(scenario)


def test_a_restart_resumes_sessions_and_ends_connections_of_before_at_once(tmp_path: Path) -> None:
    """The supervisor and its workers are killed; their keys are in ``control.state_dir``."""
    port = free_port()

    def at_the_same_port(settings: dict[str, Any]) -> None:
        settings["listen"]["port"] = port

    async def scenario() -> None:
        loop = Loop()
        async with served(tmp_path, 1, at_the_same_port):
            client = Connected(loop, port)
            await asyncio.to_thread(turn_until, loop, lambda: client.handler.handshake)
            earlier = await connect(port)
            await earlier.close()
        async with served(tmp_path, 1, at_the_same_port):
            client.say_something()
            await asyncio.to_thread(turn_until, loop, lambda: client.answered)
            (close,) = client.handler.closes
            assert close.by_peer
            assert not close.timed_out
            later = await connect(port, session_ticket=earlier.tickets[0])
            assert later.protocol._quic.tls.session_resumed
            await later.close()
        loop.close()

    run(scenario)
