"""Changes of every kind under load: no request fails, and no connection is broken."""

import asyncio
import itertools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from spooky._core import COMPILED
from spooky.cli.control_client import post
from tests.certificates import ca, leaf, write
from tests.control.serve import Served, served
from tests.support.client import ClientStream, Response
from tests.support.origin import pattern
from tests.support.proxy import INGRESSES

WORKERS = 2 if COMPILED else 1
DOWNLOAD_BYTES = 4_000_000
UPLOAD_BYTES = 300_000

Change = Callable[[dict[str, Any]], None]


def kinds_of_change(directory: Path, port: int) -> list[Change]:
    """Return changes to what clients of the test do not use, each with one that takes it back."""
    (directory / "other").mkdir()
    chain, key = write(leaf(["localhost", "127.0.0.1"], ca()), directory / "other")
    old: dict[str, str] = {}

    def another_certificate(settings: dict[str, Any]) -> None:
        tls = settings["listeners"][0]["tls"]
        old.update(tls)
        tls.update(cert=str(chain), key=str(key))

    def another_listener(settings: dict[str, Any]) -> None:
        first = settings["listeners"][0]
        settings["listeners"].append({**first, "port": port})

    def another_upstream(settings: dict[str, Any]) -> None:
        settings["upstream"]["other"] = {
            "route": {"host": "other.example"},
            "backends": [{"id": "two", "address": "http://127.0.0.1:9"}],
        }

    return [
        lambda settings: settings["resilience"]["protocol"].update(denied_path_prefixes=["/other"]),
        lambda settings: settings["resilience"]["protocol"].update(denied_path_prefixes=[]),
        another_certificate,
        lambda settings: settings["listeners"][0]["tls"].update(old),
        another_upstream,
        lambda settings: settings["upstream"]["other"]["backends"][0].update(weight=7),
        lambda settings: settings["upstream"].pop("other"),
        another_listener,
        lambda settings: settings["listeners"].pop(),
        lambda settings: settings["performance"].update(backend_timeout_ms=3_500_000),
        lambda settings: settings["performance"].update(backend_timeout_ms=3_600_000),
        lambda settings: settings["upstream"]["backend"]["backends"][0].update(weight=7),
        lambda settings: settings["upstream"]["backend"]["backends"][0].update(weight=100),
        lambda settings: settings["upstream"]["backend"].update(
            load_balancing={"type": "least-request"}
        ),
        lambda settings: settings["upstream"]["backend"].pop("load_balancing"),
    ]


def kinds_of_rolling_change(directory: Path) -> list[Change]:
    """Return changes that take new workers, and back; and of logs, which every process has."""
    logs = directory / "spooky.log", directory / "access.log"

    def workers_and_engine(count: int, engine: str) -> Change:
        return lambda settings: settings["performance"].update(
            worker_threads=count, quic_engine=engine
        )

    def to_files(settings: dict[str, Any]) -> None:
        settings["log"] = {"format": "json", "file": {"enabled": True, "path": str(logs[0])}}
        settings["access_log"] = {"format": "json", "path": str(logs[1])}

    def to_standard_error(settings: dict[str, Any]) -> None:
        del settings["log"], settings["access_log"]

    return [
        workers_and_engine(3, "auto"),
        to_files,
        workers_and_engine(3, "aioquic"),
        workers_and_engine(2, "auto"),
        to_standard_error,
    ]


def with_patience(settings: dict[str, Any]) -> None:
    """Have what workers leave behind outlive all that follows, on the way back too."""
    settings["performance"]["shutdown_drain_timeout_ms"] = 1_200_000


async def keep_asking(
    proxy: Served, ingress: str, stop: asyncio.Event, failed: list[Response]
) -> int:
    """Make requests one after the other; return how many, and keep those that failed.

    A connection that ends, as it was told, is followed by another.
    """
    client = await proxy.client(ingress)
    count = 0
    while not stop.is_set():
        # One that is accepted just before its worker leaves is told so before its first request.
        while client.ending:
            await client.close()
            client = await proxy.client(ingress)
        response = await client.fetch("GET", "/echo")
        if response.status != 200 or response.cut is not None:
            failed.append(response)
            return count
        count += 1
    return count


async def begin_long_streams(
    proxy: Served,
) -> tuple[list[ClientStream], list[ClientStream], list[ClientStream]]:
    """Return event streams after their first event, downloads, and uploads that nobody reads."""
    events, downloads, uploads = [], [], []
    for ingress in INGRESSES:
        client = await proxy.client(ingress)
        stream = await client.open("GET", "/events")
        await anext(stream.pieces())
        events.append(stream)
        client = await proxy.client(ingress)
        downloads.append(await client.open("GET", f"/download/{DOWNLOAD_BYTES}"))
        client = await proxy.client(ingress)
        length = [(b"content-length", b"%d" % UPLOAD_BYTES)]
        stream = await client.open("POST", "/no-read", length, end=False)
        uploads.append(stream)
    return events, downloads, uploads


@pytest.mark.parametrize(
    ("rounds", "rolls", "rollbacks"),
    [
        pytest.param(3, 1, 5, marks=pytest.mark.timeout(300)),
        pytest.param(31, 10, 50, marks=(pytest.mark.soak, pytest.mark.timeout(1800))),
    ],
)
def test_no_request_fails_and_no_connection_breaks(
    tmp_path: Path, rounds: int, rolls: int, rollbacks: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def prepare(settings: dict[str, Any]) -> None:
        settings["listeners"] = [settings.pop("listen")]
        settings["resilience"] = {"protocol": {"denied_path_prefixes": []}}
        settings["performance"]["shutdown_drain_timeout_ms"] = 200
        # The long streams are silent throughout.
        settings["performance"]["backend_timeout_ms"] = 3_600_000
        for which in ("backend", "client"):
            settings["performance"][f"{which}_body_idle_timeout_ms"] = 3_600_000
        settings["control"] = {"history": 1000}

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, prepare) as proxy:
            path = Path(os.environ["XDG_RUNTIME_DIR"]) / "spooky" / "control.sock"
            events, downloads, uploads = await begin_long_streams(proxy)
            sending = [
                asyncio.ensure_future(stream.send(bytes(UPLOAD_BYTES), end=True))
                for stream in uploads
            ]
            stop, failed = asyncio.Event(), list[Response]()
            load = [
                asyncio.ensure_future(keep_asking(proxy, ingress, stop, failed))
                for ingress in INGRESSES
                for _ in range(2)
            ]
            changes = [kinds_of_change(tmp_path, port)] * rounds
            if COMPILED:
                changes += [[with_patience], *[kinds_of_rolling_change(tmp_path)] * rolls]
            made = 0
            for change in itertools.chain.from_iterable(changes):
                proxy.write(change)
                answer = await asyncio.to_thread(post, path, "/admin/runtime/reload", {})
                assert answer["changed"]
                made += 1
                # A new client is served by the generation that was answered.
                fresh = await proxy.client(INGRESSES[made % len(INGRESSES)])
                assert (await fresh.fetch("GET", "/echo")).status == 200
                await fresh.close()
            for _ in range(rollbacks):
                answer = await asyncio.to_thread(post, path, "/admin/runtime/rollback", {})
                assert answer["changed"]
            stop.set()
            counts = await asyncio.gather(*load)
            assert failed == []
            assert min(counts) >= made
            assert answer["generation"]["number"] == 1 + made + rollbacks
            proxy.origin.gate.opened.set()
            for stream in events:
                response = await stream.whole()
                assert (response.status, response.cut) == (200, None)
                assert response.body == b"data: first\n\ndata: second\n\n"
            for stream in downloads:
                response = await stream.whole()
                assert (response.status, response.cut) == (200, None)
                assert response.body == pattern(DOWNLOAD_BYTES)
            await asyncio.gather(*sending)
            for stream in uploads:
                response = await stream.whole()
                assert (response.status, response.cut) == (200, None)
                assert b"%d" % UPLOAD_BYTES in response.body
            assert "died" not in proxy.log

    uvloop.run(scenario())
