"""Draining: what is in flight finishes, nothing new begins, and the deadline holds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Http2Client, Http3Client
from tests.support.proxy import INGRESSES, Setup, connect, run, running
from tests.support.waiting import LATE_SECONDS, until


@pytest.fixture(params=INGRESSES)
def run_draining(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[Callable[[Setup], Awaitable[None]]], None]:
    """Return a function that runs a scenario whose drain may take a second."""

    def change(settings: dict[str, Any]) -> None:
        settings["performance"] |= {"shutdown_drain_timeout_ms": 1000}

    def run_scenario(scenario: Callable[[Setup], Awaitable[None]]) -> None:
        async def with_proxy() -> None:
            async with running(tmp_path, request.param, "h1", change) as setup:
                await scenario(setup)

        run(with_proxy)

    return run_scenario


def test_a_request_in_flight_finishes_and_the_client_is_told(run_draining: Any) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        stream = await client.open("GET", "/wait")
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        draining = asyncio.ensure_future(setup.proxy.drain())
        await asyncio.sleep(0.2)
        assert not draining.done()
        setup.origin.gate.opened.set()
        response = await stream.whole()
        assert (response.status, response.cut) == (200, None)
        assert await draining is True
        if isinstance(client, Http2Client):
            assert client.goaway is not None
            assert client.goaway.error_code == 0
        if isinstance(client, Http3Client):
            await until(lambda: client.protocol.terminated)
            assert client.protocol.terminated.error_code == 0x100  # H3_NO_ERROR

    run_draining(scenario)


def test_new_connections_are_refused_while_draining(run_draining: Any) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("GET", "/wait")
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        port = setup.proxy.port
        draining = asyncio.ensure_future(setup.proxy.drain())
        await asyncio.sleep(0.05)
        # Of QUIC there is no answer; without one over TCP, somebody is only slow.
        error, seconds = (TimeoutError, 0.4) if setup.ingress == "h3" else (ConnectionError, 30)
        with pytest.raises(error):
            await asyncio.wait_for(connect(setup.ingress, port), seconds)
        setup.origin.gate.opened.set()
        await stream.whole()
        await draining

    run_draining(scenario)


def test_a_new_stream_on_an_old_connection_is_refused_safely(run_draining: Any) -> None:
    """RFC 9114 section 5.2, RFC 9113 section 6.8: it can be sent again elsewhere."""

    async def scenario(setup: Setup) -> None:
        if setup.ingress == "h1":
            return
        client = await setup.client()
        stream = await client.open("GET", "/wait")
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        draining = asyncio.ensure_future(setup.proxy.drain())
        await asyncio.sleep(0.2)
        if isinstance(client, Http3Client):
            late = await client.open("GET", "/size/1")
            assert (await late.whole()).cut == "RESET_STREAM 0x10b"  # H3_REQUEST_REJECTED
        setup.origin.gate.opened.set()
        assert (await stream.whole()).status == 200
        assert await draining is True

    run_draining(scenario)


def test_idle_connections_do_not_hold_a_drain_up(run_draining: Any) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        assert (await client.fetch("GET", "/size/1")).status == 200
        # Else it would have ended by its time, and be false.
        assert await setup.proxy.drain() is True

    run_draining(scenario)


def test_what_outlives_the_drain_is_cut(run_draining: Any) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("GET", "/events")
        assert await anext(stream.pieces()) == b"data: first\n\n"
        started = time.monotonic()
        assert await setup.proxy.drain() is False
        assert 0.9 <= time.monotonic() - started < LATE_SECONDS
        assert (await stream.whole()).cut is not None

    run_draining(scenario)


def test_where_others_serve_an_idle_http1_client_may_still_ask_and_is_told_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a response can tell it, and a request that crosses a close would be lost."""
    monkeypatch.setattr("spooky.edge.tcp_connection.LAST_REQUEST_SECONDS", 0.0)
    monkeypatch.setattr("spooky.edge.tcp_connection.PATIENT_SECONDS", 60.0)

    async def scenario() -> None:
        async with running(tmp_path, "h1", "h1") as setup:
            asking, silent = await setup.client(), await setup.client()
            for client in (asking, silent):
                assert (await client.fetch("GET", "/size/1")).status == 200
            worker = setup.proxy.worker
            draining = asyncio.ensure_future(worker.drain(60.0, replaced=True))
            # Those without patience would be closed in the meantime.
            await asyncio.sleep(0.1)
            response = await asking.fetch("GET", "/size/1")
            assert (response.status, response.header(b"connection")) == (200, b"close")
            assert not draining.done()
            # The service ends after all, and somebody waits for that.
            worker.hasten(60.0)
            assert await draining
            assert silent.ending

    run(scenario)
