"""TCP clients that come while a listener is rebound or removed: whoever is let in is served."""

import asyncio
import functools
import os
import socket
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import spooky
from spooky._core import COMPILED
from spooky.cli.control_client import post
from spooky.edge.turning_away import turn_away
from spooky.edge.worker import DRAIN_POLL_SECONDS
from tests.control.serve import generous, patient, served
from tests.support.half_open import hold_back, let_through
from tests.support.origin import Origin
from tests.support.ports import free_port
from tests.support.proxy import configuration, run
from tests.support.tls import plain_context
from tests.support.waiting import PATIENCE_SECONDS, refuses

WORKERS = 2 if COMPILED else 1

CONNECT_SECONDS = 0.005
"""From one client to the next: closer than workers look whether a change is in force."""

CLIENTS = 80
"""How many are kept, the last: on a busy machine a change takes its time to come in force."""

AFTER_SECONDS = 0.1
"""How long clients go on to come after a change: for longer than workers take to see it."""

REQUEST = b"GET /echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
CONTEXT = plain_context("http/1.1")


def unhurried(settings: dict[str, Any]) -> None:
    """Let clients ask for something long after they have come."""
    generous(settings)
    patient(settings)
    settings["performance"]["client_head_timeout_ms"] = 120_000


def listen_on(settings: dict[str, Any], *ports: int) -> None:
    first = settings.pop("listen")
    settings["listeners"] = [{**first, "port": port} for port in ports]


def answer(client: socket.socket) -> str:
    """Make a request; return the status, or what became of the connection."""
    client.settimeout(PATIENCE_SECONDS)
    try:
        with CONTEXT.wrap_socket(client) as secured:
            secured.sendall(REQUEST)
            return secured.recv(4096)[9:12].decode()
    except OSError as error:
        return type(error).__name__


async def answers_during(act: Callable[[], Any], port: int) -> set[str]:
    """Return what became of those who came from before an act, in a thread of its own, till after.

    They ask for something only then.
    """
    clients: deque[socket.socket] = deque(maxlen=CLIENTS)
    outcomes: Counter[str] = Counter()
    over = asyncio.Event()

    async def come() -> None:
        while not over.is_set():
            try:
                clients.append(socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS))
            except ConnectionRefusedError:
                outcomes["refused"] += 1
            await asyncio.sleep(CONNECT_SECONDS)

    coming = asyncio.ensure_future(come())
    await asyncio.sleep(AFTER_SECONDS)
    await asyncio.to_thread(act)
    await asyncio.sleep(AFTER_SECONDS)
    over.set()
    await coming
    outcomes.update(await asyncio.to_thread(lambda: [*map(answer, clients)]))
    return set(outcomes)


def test_whoever_is_let_in_while_a_listener_is_rebound_or_removed_is_served(
    tmp_path: Path,
) -> None:
    stays, goes = free_port(), free_port()

    def prepare(settings: dict[str, Any]) -> None:
        unhurried(settings)
        listen_on(settings, stays, goes)

    def rebound(settings: dict[str, Any]) -> None:
        settings["listeners"][0]["address"] = "0.0.0.0"

    def removed(settings: dict[str, Any]) -> None:
        settings["listeners"].pop()

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, prepare) as proxy:
            path = Path(os.environ["XDG_RUNTIME_DIR"]) / "spooky" / "control.sock"
            reload = functools.partial(post, path, "/admin/runtime/reload", {})
            proxy.write(rebound)
            assert await answers_during(reload, stays) == {"200"}
            proxy.write(removed)
            assert await answers_during(reload, goes) == {"200", "refused"}

    run(scenario)


def test_who_is_on_the_way_to_a_removed_listener_is_served(tmp_path: Path) -> None:
    """One whose end of the handshake comes after the commit, also if the listener is back then."""
    stays, goes = free_port(), free_port()

    async def scenario() -> None:
        async with Origin("h1", None) as origin:
            settings = configuration(tmp_path, origin.address)
            unhurried(settings)
            listen_on(settings, stays, goes)
            without = {**settings, "listeners": settings["listeners"][:1]}
            async with spooky.Proxy(settings) as proxy:
                for last in (without, settings):
                    listening = proxy._sockets[list(proxy._numbers.values())[1]].tcp
                    hold_back(listening)
                    client = socket.create_connection(("127.0.0.1", goes))
                    await proxy.apply(without)
                    assert refuses(goes)
                    if last is settings:
                        await proxy.apply(settings)
                        assert not refuses(goes)
                    let_through(listening)
                    assert await asyncio.to_thread(answer, client) == "200"
                    await proxy.apply(settings)

    run(scenario)


def test_who_is_on_the_way_to_what_new_workers_do_not_have_is_served_by_those_who_leave(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with Origin("h1", None) as origin:
            settings = configuration(tmp_path, origin.address)
            unhurried(settings)
            async with spooky.Proxy(settings) as proxy:
                listening = next(iter(proxy._sockets.values())).tcp
                hold_back(listening)
                client = socket.create_connection(("127.0.0.1", proxy.port))
                # As the supervisor does before it tells its workers to leave.
                assert turn_away(listening)
                leaving = asyncio.ensure_future(proxy.worker.drain(60, replaced=True))
                await asyncio.sleep(2 * DRAIN_POLL_SECONDS)
                let_through(listening)
                assert await asyncio.to_thread(answer, client) == "200"
                # Not for who may come yet.
                leaving.cancel()

    run(scenario)
