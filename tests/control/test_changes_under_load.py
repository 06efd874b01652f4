"""Changes of every kind under load: no request fails, and no connection is broken."""

import asyncio
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop
import yaml

from spooky._core import COMPILED
from spooky.cli.control_client import post
from tests.certificates import ca, leaf, write
from tests.control.serve import Served, served
from tests.support.client import ClientStream, Response
from tests.support.origin import Origin, pattern
from tests.support.ports import free_port
from tests.support.proxy import INGRESSES

WORKERS = 2 if COMPILED else 1
DOWNLOAD_BYTES = 4_000_000
UPLOAD_BYTES = 300_000

Change = Callable[[dict[str, Any]], None]


def kinds_of_change(directory: Path, port: int, second: str) -> list[Change]:
    """Return changes, each with one that takes it back.

    Arguments:
        directory: For files.
        port: For another listener.
        second: The address of a backend that answers as the first does.
    """
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

    def route_elsewhere(settings: dict[str, Any]) -> None:
        """Take the route of what is asked all the time to an upstream of its own."""
        settings["upstream"]["elsewhere"] = {
            "route": {"path_prefix": "/echo"},
            "backends": [{"id": "second", "address": second}],
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
        lambda settings: settings["upstream"]["backend"]["backends"].append(
            {"id": "second", "address": second}
        ),
        lambda settings: settings["upstream"]["backend"]["backends"].pop(),
        route_elsewhere,
        lambda settings: settings["upstream"].pop("elsewhere"),
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


def let_streams_be_silent(settings: dict[str, Any]) -> None:
    """Cut no stream that nobody writes or reads for as long as the test takes."""
    performance = settings["performance"]
    performance["backend_timeout_ms"] = 3_600_000
    for which in ("backend", "client"):
        performance[f"{which}_body_idle_timeout_ms"] = 3_600_000
    performance["client_rate_grace_ms"] = 3_600_000


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


@dataclass
class LongStreams:
    """Event streams after their first event, downloads, and uploads that nobody reads."""

    events: list[ClientStream] = field(default_factory=list)
    downloads: list[ClientStream] = field(default_factory=list)
    uploads: list[ClientStream] = field(default_factory=list)
    sending: list[asyncio.Future[None]] = field(default_factory=list)


async def begin_long_streams(proxy: Served) -> LongStreams:
    """Open one of each over every protocol."""
    streams = LongStreams()
    for ingress in INGRESSES:
        client = await proxy.client(ingress)
        stream = await client.open("GET", "/events")
        await anext(stream.pieces())
        streams.events.append(stream)
        client = await proxy.client(ingress)
        streams.downloads.append(await client.open("GET", f"/download/{DOWNLOAD_BYTES}"))
        client = await proxy.client(ingress)
        length = [(b"content-length", b"%d" % UPLOAD_BYTES)]
        stream = await client.open("POST", "/no-read", length, end=False)
        streams.uploads.append(stream)
        streams.sending.append(asyncio.ensure_future(stream.send(bytes(UPLOAD_BYTES), end=True)))
    return streams


async def finish_long_streams(streams: LongStreams) -> None:
    """Make sure that all of them are whole; the origin's gate is open."""
    for stream in streams.events:
        response = await stream.whole()
        assert (response.status, response.cut) == (200, None)
        assert response.body == b"data: first\n\ndata: second\n\n"
    for stream in streams.downloads:
        response = await stream.whole()
        assert (response.status, response.cut) == (200, None)
        assert response.body == pattern(DOWNLOAD_BYTES)
    await asyncio.gather(*streams.sending)
    for stream in streams.uploads:
        response = await stream.whole()
        assert (response.status, response.cut) == (200, None)
        assert b"%d" % UPLOAD_BYTES in response.body


async def assert_in_force(proxy: Served, made: int, text: str) -> None:
    """Make sure that a new client, over another protocol each time, is served as a text says."""
    settings = yaml.load(text, yaml.CSafeLoader)
    denied = settings["resilience"]["protocol"]["denied_path_prefixes"]
    client = await proxy.client(INGRESSES[made % len(INGRESSES)])
    assert (await client.fetch("GET", "/echo")).status == 200
    assert ((await client.fetch("GET", "/other")).status == 403) == ("/other" in denied)
    await client.close()


@pytest.mark.parametrize(
    ("rounds", "rolls", "rollbacks"),
    [
        pytest.param(3, 1, 8, marks=pytest.mark.timeout(300)),
        pytest.param(27, 10, 50, marks=(pytest.mark.soak, pytest.mark.timeout(1800))),
    ],
)
def test_no_request_fails_and_no_connection_breaks(
    tmp_path: Path, rounds: int, rolls: int, rollbacks: int
) -> None:
    port = free_port()

    def prepare(settings: dict[str, Any]) -> None:
        settings["listeners"] = [settings.pop("listen")]
        settings["resilience"] = {"protocol": {"denied_path_prefixes": []}}
        # Of what a plan announces as drained: no request takes so long.
        settings["performance"]["shutdown_drain_timeout_ms"] = 10_000
        let_streams_be_silent(settings)
        settings["control"] = {"history": 1000}

    async def scenario() -> None:
        async with Origin("h1", None) as second, served(tmp_path, WORKERS, prepare) as proxy:
            path = Path(os.environ["XDG_RUNTIME_DIR"]) / "spooky" / "control.sock"
            long_streams = await begin_long_streams(proxy)
            stop, failed = asyncio.Event(), list[Response]()
            load = [
                asyncio.ensure_future(keep_asking(proxy, ingress, stop, failed))
                for ingress in INGRESSES
                for _ in range(2)
            ]
            numbers: list[int] = []

            async def commit(act: str) -> None:
                answer = await asyncio.to_thread(post, path, f"/admin/runtime/{act}", {})
                assert answer["changed"]
                numbers.append(answer["generation"]["number"])

            kinds = kinds_of_change(tmp_path, port, second.address)
            in_place = kinds * rounds
            # Half of the rollbacks take back what was changed just now, of ever another kind.
            back_every = len(in_place) // (rollbacks // 2)
            assert math.gcd(back_every, len(kinds)) == 1
            for made, change in enumerate(in_place):
                before = proxy.path.read_text()
                proxy.write(change)
                await commit("reload")
                await assert_in_force(proxy, made, proxy.path.read_text())
                if made % back_every == 0:
                    await commit("rollback")
                    await assert_in_force(proxy, made, before)
                    await commit("reload")
            if COMPILED:
                rolling = [with_patience, *kinds_of_rolling_change(tmp_path) * rolls]
                for made, change in enumerate(rolling):
                    proxy.write(change)
                    await commit("reload")
                    await assert_in_force(proxy, made, proxy.path.read_text())
            for _ in range(rollbacks - rollbacks // 2):
                await commit("rollback")
            stop.set()
            counts = await asyncio.gather(*load)
            assert failed == []
            assert min(counts) >= len(in_place)
            assert numbers == list(range(2, 2 + len(numbers)))
            proxy.origin.gate.opened.set()
            await finish_long_streams(long_streams)
            assert "died" not in proxy.log

    uvloop.run(scenario())
