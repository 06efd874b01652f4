"""The supervisor and its workers: what happens when processes die, and at signals."""

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from spooky._core import COMPILED
from tests.control.serve import Served, served
from tests.support.client import Client, Http2Client, Http3Client
from tests.support.proxy import INGRESSES, run
from tests.support.waiting import PATIENCE_SECONDS, until

WORKERS = 3 if COMPILED else 1
needs_workers = pytest.mark.skipif(not COMPILED, reason="the twin serves one worker")


async def clients_of_many_workers(proxy: Served) -> list[Client]:
    """Return enough connections that every worker surely has some."""
    return [await proxy.client(INGRESSES[n % 2]) for n in range(8 * WORKERS)]


async def worker_of_each(proxy: Served, clients: list[Client]) -> list[int]:
    """Return which process serves each connection."""
    code, output = await proxy.command("workers", "--json")
    assert code == 0, output
    of_slot = {worker["slot"]: worker["pid"] for worker in json.loads(output)}
    sockets = {
        os.readlink(link): pid
        for pid in proxy.workers
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if link.is_symlink()
    }
    owners = []
    for client in clients:
        if isinstance(client, Http3Client):
            owners.append(of_slot[client.protocol._quic._peer_cid.cid[0]])
        else:
            assert isinstance(client, Http2Client)
            port = client.writer.get_extra_info("sockname")[1]
            owners.append(sockets[socket_from(port, proxy.port)])
    return owners


def socket_from(client_port: int, server_port: int) -> str:
    """Return the server's end of a TCP connection, as descriptors of processes show it."""
    ends = f":{server_port:04X}", f":{client_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (fields[1][-5:], fields[2][-5:]) == ends:
            return f"socket:[{fields[9]}]"
    raise AssertionError(f"no connection from port {client_port}")


async def is_alive(client: Client, seconds: float = 30) -> bool:
    """Return whether a connection still answers."""
    with contextlib.suppress(TimeoutError, ConnectionError, OSError, AssertionError):
        async with asyncio.timeout(seconds):
            response = await client.fetch("GET", "/echo")
            return response.status == 200 and response.cut is None
    return False


@needs_workers
def test_a_killed_worker_is_replaced_and_only_its_own_connections_notice(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            clients = await clients_of_many_workers(proxy)
            assert all([await is_alive(client) for client in clients])
            victim, *others = proxy.workers
            owners = await worker_of_each(proxy, clients)
            assert set(owners) == set(proxy.workers)
            stop = asyncio.Event()
            # Clients on aioquic heed no stateless reset: those of the victim are missed so late.
            load = [
                asyncio.ensure_future(
                    keep_asking(client, stop, 5 if owner == victim else PATIENCE_SECONDS)
                )
                for client, owner in zip(clients, owners, strict=True)
            ]
            await asyncio.sleep(0.3)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: len(proxy.workers) == WORKERS)
            await asyncio.sleep(0.5)
            stop.set()
            survived = await asyncio.gather(*load)
            assert survived == [owner != victim for owner in owners]
            assert set(others) < set(proxy.workers)
            # Sockets were kept: a client sent there meanwhile was served by the successor.
            fresh = [await proxy.client(INGRESSES[n % 2]) for n in range(8 * WORKERS)]
            assert all([await is_alive(client) for client in fresh])
            assert "signal 9" in proxy.log

    run(scenario)


async def keep_asking(client: Client, stop: asyncio.Event, seconds: float) -> bool:
    """Ask again and again; return whether every request was answered, each within its time."""
    while not stop.is_set():
        if not await is_alive(client, seconds):
            return False
    return True


@needs_workers
def test_a_connection_begun_while_its_worker_is_dead_is_served_by_the_successor(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            for pid in proxy.workers:
                os.kill(pid, signal.SIGKILL)
            clients = await asyncio.gather(*(proxy.client(ingress) for ingress in INGRESSES))
            assert all([await is_alive(client) for client in clients])

    run(scenario)


def test_workers_of_a_dead_supervisor_finish_what_is_in_flight_and_exit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            client = await proxy.client("h2")
            stream = await client.open("GET", "/wait")
            await proxy.origin.gate.reached.wait()
            workers = proxy.workers
            proxy.signal(signal.SIGKILL)
            await proxy.exited()
            await asyncio.sleep(0.3)
            proxy.origin.gate.opened.set()
            response = await stream.whole()
            assert (response.status, response.cut) == (200, None)
            await until(lambda: not any(map(is_running, workers)))

    run(scenario)


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text()
        return status.rpartition(") ")[2][0] != "Z"
    return False


async def connect_again_and_again(proxy: Served) -> None:
    """Connect for ten seconds."""
    for _ in range(500):
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.close()
        await asyncio.sleep(0.02)


def test_a_signal_drains_all_workers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            streams = []
            for ingress in INGRESSES:
                client = await proxy.client(ingress)
                streams.append(await client.open("GET", "/wait"))
            await until(lambda: proxy.origin.gate.requests["/wait"] == len(INGRESSES))
            proxy.signal(signal.SIGTERM)
            await until(lambda: "draining" in proxy.log)
            # As soon as every worker has heard of it.
            with pytest.raises(OSError, match=r"refused|failed"):
                await connect_again_and_again(proxy)
            proxy.origin.gate.opened.set()
            responses = [await stream.whole() for stream in streams]
            assert [(r.status, r.cut) for r in responses] == [(200, None)] * len(INGRESSES)
            assert await proxy.exited() == 0

    run(scenario)


def test_requests_that_outlast_the_drain_are_cut_and_the_exit_code_says_so(tmp_path: Path) -> None:
    def short(settings: dict[str, Any]) -> None:
        settings["performance"]["shutdown_drain_timeout_ms"] = 300

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, short) as proxy:
            client = await proxy.client("h3")
            stream = await client.open("GET", "/wait")
            await proxy.origin.gate.reached.wait()
            proxy.signal(signal.SIGTERM)
            assert await proxy.exited() == 1
            assert (await stream.whole()).cut is not None
            assert "1 requests did not finish" in proxy.log

    run(scenario)


def test_logs_are_reopened_in_every_worker(tmp_path: Path) -> None:
    log, access_log = tmp_path / "spooky.log", tmp_path / "access.log"

    def to_files(settings: dict[str, Any]) -> None:
        settings["log"] = {"file": {"enabled": True, "path": str(log)}}
        settings["access_log"] = {"path": str(access_log)}

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, to_files) as proxy:
            for client in await clients_of_many_workers(proxy):
                assert await is_alive(client)
            before = 8 * WORKERS
            await until(lambda: access_log.read_text().count("\n") == before)
            log.rename(tmp_path / "spooky.log.1")
            access_log.rename(tmp_path / "access.log.1")
            proxy.signal(signal.SIGUSR1)
            await until(log.exists)
            await asyncio.sleep(0.3)
            for client in await clients_of_many_workers(proxy):
                assert await is_alive(client)
            await until(lambda: access_log.read_text().count("\n") == before)
            assert (tmp_path / "access.log.1").read_text().count("\n") == before
            assert access_log.stat().st_mode & 0o777 == 0o640

    run(scenario)


def test_a_log_that_cannot_be_reopened_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    access_log = directory / "access.log"

    def to_file(settings: dict[str, Any]) -> None:
        settings["access_log"] = {"path": str(access_log)}

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, to_file) as proxy:
            directory.rename(tmp_path / "moved")
            proxy.signal(signal.SIGUSR1)
            await until(lambda: "cannot reopen the logs" in proxy.log)
            assert await is_alive(await proxy.client("h2"))
            await until(lambda: (tmp_path / "moved" / "access.log").read_text().count("\n") == 1)

    run(scenario)


WATCH = """
import os, sys

def watch(event, arguments):
    if not armed:
        return
    if event == "open" and isinstance(arguments[0], str):
        if not arguments[0].startswith("/proc/self/fd/"):
            print("WORKER OPENED", arguments[0], file=sys.stderr, flush=True)
    elif event == "import":
        print("WORKER IMPORTED", arguments[0], file=sys.stderr, flush=True)
    elif event in ("socket.bind", "socket.getaddrinfo", "socket.gethostbyname"):
        print("WORKER CALLED", event, arguments, file=sys.stderr, flush=True)

armed = False
if "spooky.edge.process" in sys.orig_argv:
    sys.addaudithook(watch)
    from spooky.runtime import confinement
    confine = confinement.confine

    def arm(*arguments, **options):
        global armed
        confined = confine(*arguments, **options)
        armed = True
        return confined

    confinement.confine = arm
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_worker_opens_no_path_binds_nothing_and_resolves_no_name(
    tmp_path: Path, host: str
) -> None:
    watch = tmp_path / "watch"
    watch.mkdir()
    (watch / "sitecustomize.py").write_text(WATCH)

    def by_name(settings: dict[str, Any]) -> None:
        (backend,) = settings["upstream"]["backend"]["backends"]
        backend["address"] = backend["address"].replace("127.0.0.1", host)

    async def scenario() -> None:
        path = os.pathsep.join([str(watch), os.environ.get("PYTHONPATH", "")])
        async with served(tmp_path, WORKERS, by_name, {"PYTHONPATH": path}) as proxy:
            for ingress in INGRESSES:
                assert await is_alive(await proxy.client(ingress))
            proxy.signal(signal.SIGTERM)
            await proxy.exited()
            assert [line for line in proxy.log.splitlines() if line.startswith("WORKER")] == []

    run(scenario)


def test_a_worker_that_cannot_serve_ends_the_start_and_says_why(tmp_path: Path) -> None:
    """The supervisor does not compile; what only a worker finds out has to come back."""

    def bad_client_key(settings: dict[str, Any]) -> None:
        (tmp_path / "broken.pem").write_text(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        )
        upstream = settings["upstream"]["backend"]
        upstream["backends"][0]["address"] = "https://127.0.0.1:1"
        upstream["tls"] = {"ca_file": str(tmp_path / "broken.pem")}

    async def scenario() -> None:
        with pytest.raises(AssertionError, match="upstream"):
            async with served(tmp_path, WORKERS, bad_client_key):
                pass

    run(scenario)
