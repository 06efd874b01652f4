"""What clients notice as memory runs out, and that it is over when that is."""

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aioquic.quic.packet import QuicErrorCode

from spooky._core import reasons
from spooky.edge import overload
from spooky.overload.largest import SIZE_MIN
from spooky.overload.manager import Action, Measures
from spooky.overload.memory import MemoryReader, Usage
from spooky.overload.trim import TRIM_SECONDS
from tests.edge.test_ingress import counted, run_with
from tests.edge.test_stateless import RawClient, configuration, refused, wire
from tests.support.client import Http3Client
from tests.support.proxy import INGRESSES, Setup
from tests.support.waiting import until

MIB = 1024 * 1024


class Memory:
    """What the proxy reads of memory."""

    def __init__(self) -> None:
        self.pressure = 0.0
        self.limit = 1000

    def read(self, *_: object) -> Usage:
        return Usage(int(self.pressure * self.limit), self.limit, "the test")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    fake = Memory()
    monkeypatch.setattr(MemoryReader, "read", fake.read)
    return fake


def only(*actions: Action) -> Callable[[dict[str, Any]], None]:
    """Have these actions begin at half of the memory, and no others."""

    def change(settings: dict[str, Any]) -> None:
        settings["resilience"] = {
            "overload": {
                "refresh_interval_ms": 50,
                "actions": {
                    action.value: {"memory": 0.5} if action in actions else {} for action in Action
                },
            }
        }

    return change


def measures(setup: Setup) -> Measures:
    return setup.proxy.worker._overload.measures


def acted(setup: Setup, action: Action) -> int:
    return counted(setup.proxy, "overload_actions_total", action=action.value)


def taken(setup: Setup, action: Action) -> int:
    return counted(setup.proxy, "overload_actions_active", action=action.value)


@pytest.mark.parametrize("ingress", INGRESSES)
def test_a_connection_that_brings_a_request_ends_after_it(
    tmp_path: Path, memory: Memory, ingress: str
) -> None:
    async def scenario(setup: Setup) -> None:
        before = await setup.client()
        assert (await before.fetch("GET", "/size/5")).status == 200
        memory.pressure = 0.6
        await until(lambda: measures(setup).stops_keep_alive)
        assert not before.ending
        waiting = await before.open("GET", "/wait")
        await setup.origin.gate.reached.wait()
        setup.origin.gate.opened.set()
        response = await waiting.whole()
        assert (response.status, response.cut) == (200, None)
        await until(lambda: before.ending)
        if ingress == "h1":
            assert response.header(b"connection") == b"close"
        assert acted(setup, Action.STOP_KEEP_ALIVE) == 1
        memory.pressure = 0.1
        await until(lambda: not measures(setup).stops_keep_alive)
        after = await setup.client()
        assert (await after.fetch("GET", "/size/5")).status == 200
        await asyncio.sleep(0.1)
        assert not after.ending

    run_with(tmp_path, scenario, ingress, only(Action.STOP_KEEP_ALIVE))


@pytest.mark.parametrize("ingress", INGRESSES)
def test_idle_connections_are_closed_sooner_and_busy_ones_stay(
    tmp_path: Path, memory: Memory, ingress: str
) -> None:
    async def scenario(setup: Setup) -> None:
        busy, idle = await setup.client(), await setup.client()
        waiting = await busy.open("GET", "/wait")
        assert (await idle.fetch("GET", "/size/5")).status == 200
        await asyncio.sleep(0.3)
        memory.pressure = 1.0
        await until(lambda: acted(setup, Action.SHORTEN_IDLE_TIMEOUTS) > 0)
        assert acted(setup, Action.SHORTEN_IDLE_TIMEOUTS) == 1
        assert taken(setup, Action.SHORTEN_IDLE_TIMEOUTS) == 1
        if ingress == "h3":
            assert isinstance(idle, Http3Client)
            await idle.protocol.wait_closed()
        else:
            await until(lambda: idle.ending)
        setup.origin.gate.opened.set()
        assert (await waiting.whole()).status == 200
        memory.pressure = 0.1
        await until(lambda: taken(setup, Action.SHORTEN_IDLE_TIMEOUTS) == 0)

    # A tenth of this is the least that is left.
    timeouts = {"quic_max_idle_timeout_ms": 20_000, "backend_timeout_ms": 30_000}
    run_with(tmp_path, scenario, ingress, only(Action.SHORTEN_IDLE_TIMEOUTS), **timeouts)


def test_new_clients_have_to_prove_their_address(tmp_path: Path, memory: Memory) -> None:
    async def scenario(setup: Setup) -> None:
        memory.pressure = 0.6
        await until(lambda: measures(setup).proves_addresses)
        client = await Http3Client.connect(setup.proxy.port, configuration())
        assert (await client.fetch("GET", "/size/5")).status == 200
        assert client.protocol._quic._retry_count == 1
        await client.close()
        assert refused(setup, reasons.OVERLOAD_UNPROVEN) == 1
        assert acted(setup, Action.PROVE_ADDRESSES) == 1
        memory.pressure = 0.1
        await until(lambda: not measures(setup).proves_addresses)
        later = await Http3Client.connect(setup.proxy.port, configuration())
        assert later.protocol._quic._retry_count == 0
        await later.close()

    run_with(tmp_path, scenario, "h3", only(Action.PROVE_ADDRESSES))


def test_new_quic_clients_hear_of_a_refusal_only_if_they_proved_their_address(
    tmp_path: Path, memory: Memory
) -> None:
    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port) as on:
            known = RawClient()
            await known.handshake(on, known.begin(on))
            while not known.tokens:
                on.send(*known.take(await on.receive(), on))
        memory.pressure = 0.6
        await until(lambda: measures(setup).refuses_connections)
        with wire(setup.proxy.port) as on:
            unknown = RawClient()
            on.send(*unknown.begin(on))
            assert await on.is_silent()
            again = RawClient(token=known.tokens[-1])
            on.send(*again.begin(on))
            again.take(await on.receive(), on)
            event = again.quic._close_event
            assert event is not None
            assert event.error_code == QuicErrorCode.CONNECTION_REFUSED
        assert refused(setup, reasons.OVERLOAD_REFUSED) >= 2

    run_with(tmp_path, scenario, "h3", only(Action.REFUSE_CONNECTIONS))


@pytest.mark.parametrize("ingress", INGRESSES)
def test_connections_that_are_there_are_served_while_new_ones_are_refused(
    tmp_path: Path, memory: Memory, ingress: str
) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        memory.pressure = 0.6
        await until(lambda: measures(setup).refuses_connections)
        for _ in range(3):
            assert (await client.fetch("GET", "/size/5")).status == 200
        if ingress != "h3":
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await setup.client()
            assert acted(setup, Action.REFUSE_CONNECTIONS) >= 1
        memory.pressure = 0.1
        await until(lambda: not measures(setup).refuses_connections)
        assert (await (await setup.client()).fetch("GET", "/size/5")).status == 200

    run_with(tmp_path, scenario, ingress, only(Action.REFUSE_CONNECTIONS))


def test_requests_are_shed_with_a_reason_and_told_when_to_come_again(
    tmp_path: Path, memory: Memory
) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        memory.pressure = 1.0
        await until(lambda: taken(setup, Action.SHED_LOW_PRIORITY) == 1)
        shed = await client.fetch("GET", "/size/5")
        assert (shed.status, shed.header(b"retry-after")) == (503, b"1")
        assert bytes(shed.body).strip() == reasons.OVERLOAD_SHED.text.encode()
        assert counted(setup.proxy, "requests_total", reason="overload_shed") == 1
        memory.pressure = 0.1
        await until(lambda: taken(setup, Action.SHED_LOW_PRIORITY) == 0)
        assert (await client.fetch("GET", "/size/5")).status == 200

    run_with(tmp_path, scenario, "h2", only(Action.SHED_LOW_PRIORITY))


RESET = {"h3": "RESET_STREAM 0x10c", "h2": "RST_STREAM 8", "h1": "connection closed"}
"""H3_REQUEST_CANCELLED and CANCEL."""


@pytest.mark.parametrize("ingress", INGRESSES)
def test_the_stream_that_holds_most_is_reset_and_others_stay(
    tmp_path: Path, memory: Memory, ingress: str
) -> None:
    async def scenario(setup: Setup) -> None:
        slow, other = await setup.client(), await setup.client()
        if isinstance(slow, Http3Client):
            slow.give_no_credit()
        unread = await slow.open("GET", f"/size/{32 * MIB}")
        await unread.head_arrived.wait()
        waiting = await other.open("GET", "/wait")
        await setup.origin.gate.reached.wait()
        await until(lambda: largest(setup) >= 4 * SIZE_MIN)
        memory.limit = 10 * MIB
        memory.pressure = 0.5
        await until(lambda: acted(setup, Action.RESET_LARGEST_STREAMS) > 0)
        memory.pressure = 0.1
        await until(lambda: taken(setup, Action.RESET_LARGEST_STREAMS) == 0)
        response = await unread.whole()
        assert (response.cut or "").startswith(RESET[ingress])
        setup.origin.gate.opened.set()
        assert (await waiting.whole()).status == 200
        assert acted(setup, Action.RESET_LARGEST_STREAMS) == 1
        assert counted(setup.proxy, "requests_total", reason="overload_reset") == 1
        assert largest(setup) < SIZE_MIN

    run_with(tmp_path, scenario, ingress, only(Action.RESET_LARGEST_STREAMS))


@pytest.mark.parametrize("ingress", INGRESSES)
def test_an_upload_that_holds_most_is_answered_where_no_response_began(
    tmp_path: Path, memory: Memory, ingress: str
) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        upload = await client.open("POST", "/no-read", end=False)
        sending = asyncio.ensure_future(upload.send(b"x" * 32 * MIB, end=True))
        await setup.origin.gate.reached.wait()
        await until(lambda: largest(setup) >= 2 * SIZE_MIN)
        memory.limit = 10 * MIB
        memory.pressure = 0.5
        await until(lambda: acted(setup, Action.RESET_LARGEST_STREAMS) > 0)
        memory.pressure = 0.1
        await upload.head_arrived.wait()
        assert upload.response.status == 503
        assert upload.response.header(b"retry-after") == b"1"
        sending.cancel()
        assert counted(setup.proxy, "requests_total", reason="overload_reset") == 1

    run_with(tmp_path, scenario, ingress, only(Action.RESET_LARGEST_STREAMS))


def largest(setup: Setup) -> int:
    """Return what the stream holds that holds most."""
    listeners = setup.proxy.worker.listeners.values()
    return max((each.size for listener in listeners for each in listener.held()), default=0)


def test_freed_memory_is_given_back_while_it_is_short_and_not_all_the_time(
    tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    trims: list[float] = []
    monkeypatch.setattr(overload, "find_trim", lambda: lambda: trims.append(time.monotonic()))

    async def scenario(setup: Setup) -> None:
        await asyncio.sleep(0.2)
        assert trims == []
        memory.pressure = 0.6
        await until(lambda: len(trims) == 1)
        await asyncio.sleep(0.3)
        assert len(trims) == 1 or trims[1] - trims[0] >= TRIM_SECONDS / 2

    run_with(tmp_path, scenario, "h2", only(Action.STOP_KEEP_ALIVE))


def test_freed_memory_is_given_back_now_and_then_without_need(
    tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    trims: list[float] = []
    monkeypatch.setattr(overload, "find_trim", lambda: lambda: trims.append(time.monotonic()))
    monkeypatch.setattr(overload, "RELEASE_SECONDS", 0.1)

    async def scenario(setup: Setup) -> None:
        await until(lambda: len(trims) >= 2)

    run_with(tmp_path, scenario, "h2", only())
