"""Signals of ``spooky serve``: an orderly end, an end at once, and rotated logs."""

import asyncio
import contextlib
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.serving import Serving, serving
from tests.support.client import Http2Client
from tests.support.origin import Origin
from tests.support.proxy import INGRESSES, connect

DRAIN_MS = 30_000
"""Longer than a test may take: what ends earlier did not wait for it."""

SILENCE_SECONDS = {"h3": 2, "h2": 60, "h1": 60}
"""How long nobody answers where new connections are refused: over TCP, who is silent is slow."""


@contextlib.asynccontextmanager
async def a_request_in_flight(
    directory: Path, ingress: str
) -> AsyncIterator[tuple[Serving, Origin, Any, Any]]:
    """Give a proxy, its backend, a client and its stream, which waits for the backend."""
    async with Origin("h1") as origin:
        performance = {
            "shutdown_drain_timeout_ms": DRAIN_MS,
            "backend_connect_timeout_ms": 10_000,
            "backend_timeout_ms": DRAIN_MS,
            "backend_body_idle_timeout_ms": DRAIN_MS,
        }
        started = serving(directory, origin.address, performance=performance)
        proxy = await asyncio.to_thread(started.__enter__)
        try:
            client = await connect(ingress, proxy.port)
            stream = await client.open("GET", "/wait")
            await asyncio.wait_for(origin.gate.reached.wait(), 30)
            yield proxy, origin, client, stream
            await client.close()
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


async def logged(proxy: Serving, text: str) -> None:
    """Wait until the proxy's own log says something."""
    async with asyncio.timeout(30):
        while text not in (proxy.directory / "spooky.log").read_text():
            await asyncio.sleep(0.02)


async def refused(ingress: str, port: int) -> None:
    """Wait until no worker takes new connections."""
    async with asyncio.timeout(60):
        while True:
            try:
                client = await asyncio.wait_for(connect(ingress, port), SILENCE_SECONDS[ingress])
            except ConnectionError:
                return
            except TimeoutError:
                assert ingress == "h3"
                return
            await client.close()


async def ended(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a process, and return its exit status."""
    return await asyncio.to_thread(process.wait, 60)


@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_in_flight_finish(
    tmp_path: Path, ingress: str, number: signal.Signals
) -> None:
    async def scenario() -> None:
        async with a_request_in_flight(tmp_path, ingress) as (proxy, origin, client, stream):
            proxy.process.send_signal(number)
            await logged(proxy, "draining")
            await refused(ingress, proxy.port)
            if isinstance(client, Http2Client):
                async with asyncio.timeout(30):
                    while client.goaway is None:
                        await asyncio.sleep(0.02)
            assert proxy.process.poll() is None
            origin.gate.opened.set()
            response = await stream.whole()
            assert (response.status, response.cut) == (200, None)
            assert await ended(proxy.process) == 0
            assert [line["reason"] for line in proxy.log_lines(1)] == ["completed"]

    asyncio.run(scenario())


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_request_in_flight(tmp_path, "h3") as (proxy, _, _, stream):
            proxy.process.terminate()
            await logged(proxy, "draining")
            proxy.process.terminate()
            assert await ended(proxy.process) == 1
            assert (await asyncio.wait_for(stream.whole(), 30)).cut is not None
            assert [line["reason"] for line in proxy.log_lines(1)] == ["drain_timeout"]

    asyncio.run(scenario())


def paths_in(log: Path) -> list[str]:
    """Return the paths of the requests in an access log."""
    return [json.loads(line)["path"] for line in log.read_text().splitlines()]


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something becomes true."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_logs_are_reopened_on_sigusr1(tmp_path: Path) -> None:
    """As log rotation does it: rename the file, then say so."""

    async def fetch(proxy: Serving, path: str) -> None:
        client = await connect("h2", proxy.port)
        assert (await client.fetch("GET", path)).status == 200
        await client.close()

    async def scenario() -> None:
        log = {"level": "error", "file": {"enabled": True, "path": str(tmp_path / "own.log")}}
        async with Origin("h1") as origin:
            started = serving(tmp_path, origin.address, log=log)
            proxy = await asyncio.to_thread(started.__enter__)
            try:
                access, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
                await fetch(proxy, "/size/1")
                await asyncio.to_thread(eventually, lambda: paths_in(access) == ["/size/1"])
                access.rename(rotated)
                proxy.process.send_signal(signal.SIGUSR1)
                await asyncio.to_thread(eventually, access.exists)
                await fetch(proxy, "/size/2")
                await asyncio.to_thread(eventually, lambda: paths_in(access) == ["/size/2"])
                assert paths_in(rotated) == ["/size/1"]
            finally:
                await asyncio.to_thread(started.__exit__, None, None, None)

    asyncio.run(scenario())
