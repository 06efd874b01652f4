"""Workers that hang, with real processes: found, shown, replaced; what they held is given back."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from spooky._core import COMPILED
from spooky.control.worker_watch import is_traced, process_state
from tests.control.serve import Served, generous, served
from tests.control.test_processes import is_alive
from tests.support.client import Client, Http3Client
from tests.support.proxy import run
from tests.support.waiting import until

WORKERS = 2 if COMPILED else 1

PLACES = 4


def impatient(settings: dict[str, Any]) -> None:
    """Find stalls as fast as that may be, and let few requests be in flight."""
    settings["performance"]["global_inflight_limit"] = PLACES
    settings["resilience"] = {
        "watchdog": {
            "check_interval_ms": 200,
            "poll_stall_timeout_ms": 5000,
            "unhealthy_consecutive_windows": 4,
        }
    }


def slot_of(client: Client) -> int:
    """Return the slot of a connection's worker: it is in the IDs that the worker gave it."""
    assert isinstance(client, Http3Client)
    return client.protocol._quic._peer_cid.cid[0]


async def clients_by_slot(proxy: Served) -> dict[int, Client]:
    """Return a client of each worker."""
    clients: dict[int, Client] = {}
    while len(clients) < WORKERS:
        client = await proxy.client("h3")
        assert await is_alive(client)
        clients.setdefault(slot_of(client) if WORKERS > 1 else 0, client)
    return clients


async def keep_asking(client: Client, statuses: list[int]) -> None:
    """Ask again and again, and note how it was answered."""
    while True:
        async with asyncio.timeout(30):
            statuses.append((await client.fetch("GET", "/echo")).status)
        await asyncio.sleep(0.01)


def test_a_stopped_worker_is_replaced_and_gives_back_its_places_and_others_notice_nothing(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS, impatient) as proxy:
            clients = await clients_by_slot(proxy)
            victim = proxy.workers[0]
            unlucky = clients.pop(0)
            # It has every place that there is.
            for _ in range(PLACES):
                await unlucky.open("GET", "/wait")
            await until(lambda: proxy.origin.gate.requests["/wait"] == PLACES)
            fresh = await proxy.client("h2")
            refused = await fresh.fetch("GET", "/echo")
            assert refused.status == 503
            answers: list[list[int]] = [[] for _ in clients]
            async with asyncio.TaskGroup() as group:
                asking = [
                    group.create_task(keep_asking(client, statuses))
                    for client, statuses in zip(clients.values(), answers, strict=True)
                ]
                await until(lambda: all(answers))
                os.kill(victim, signal.SIGSTOP)
                await until(lambda: victim not in proxy.workers and len(proxy.workers) == WORKERS)
                # Answered all the time: for seconds, in which each asks hundreds of times.
                assert all(len(statuses) >= 10 for statuses in answers)
                again = await proxy.client("h3")
                await until(lambda: "replaces worker 0 (stalled)" in proxy.log)
                assert await is_alive(again)
                # Refused while the places were taken.
                await until(lambda: all({*statuses} == {200, 503} for statuses in answers))
                for task in asking:
                    task.cancel()
            # Who cannot run cannot write, and the log says why.
            assert "writes no stack: it is in state T" in proxy.log
            # The successor is not replaced in turn.
            await asyncio.sleep(1)
            assert proxy.log.count("the watchdog replaces worker 0") == 1

    run(scenario)


async def time_out(client: Client, after: float) -> None:
    """Ask for what never comes, again and again."""
    await asyncio.sleep(after)
    while True:
        stream = await client.open("GET", "/wait")
        await stream.whole()


HANG = """
import signal, sys, time

if "spooky.edge.process" in sys.orig_argv:
    def hang_in_here(*_):
        time.sleep(60)

    signal.signal(signal.SIGWINCH, hang_in_here)
"""


def test_the_stack_of_a_worker_that_hangs_is_in_the_log_under_its_name(tmp_path: Path) -> None:
    place = tmp_path / "hang"
    place.mkdir()
    (place / "sitecustomize.py").write_text(HANG)

    async def scenario() -> None:
        path = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
        async with served(tmp_path, 1, impatient, {"PYTHONPATH": path}) as proxy:
            (victim,) = proxy.workers
            os.kill(victim, signal.SIGWINCH)
            # Whatever wakes the loop up has Python call the handler.
            connecting = asyncio.ensure_future(proxy.client("h2"))
            await until(lambda: "hang_in_here" in proxy.log)
            assert f"worker 0 (process {victim}) is at:" in proxy.log
            assert await is_alive(await connecting)
            assert victim not in proxy.workers

    run(scenario)


def test_a_worker_that_crashes_leaves_its_stack_in_the_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, 1) as proxy:
            (victim,) = proxy.workers
            os.kill(victim, signal.SIGSEGV)
            await until(lambda: "Segmentation fault" in proxy.log)
            assert f"worker 0 (process {victim}) ended at:" in proxy.log

    run(scenario)


def test_a_watchdog_that_is_switched_off_kills_nobody_until_it_is_on_again(tmp_path: Path) -> None:
    def off(settings: dict[str, Any]) -> None:
        impatient(settings)
        settings["resilience"]["watchdog"]["enabled"] = False

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, off) as proxy:
            victim = proxy.workers[0]
            os.kill(victim, signal.SIGSTOP)
            await asyncio.sleep(3.5)
            assert victim in proxy.workers
            assert "the watchdog" not in proxy.log
            os.kill(victim, signal.SIGCONT)
            proxy.write(impatient)
            code, output = await proxy.command("reload")
            assert code == 0, output
            os.kill(victim, signal.SIGSTOP)
            await until(lambda: victim not in proxy.workers)

    run(scenario)


def test_a_process_that_nobody_debugs_is_not_taken_for_one() -> None:
    assert not is_traced(os.getpid())
    assert process_state(os.getpid()) == "R"
    assert process_state(2**30) == "gone"


@pytest.mark.skipif(not COMPILED, reason="one worker has nobody to give clients to")
def test_a_worker_whose_backends_time_out_for_it_alone_finishes_and_no_new_client_is_lost(
    tmp_path: Path,
) -> None:
    def change(settings: dict[str, Any]) -> None:
        generous(settings)
        # Long enough that a busy machine answers in time, where there is an answer.
        settings["performance"] |= {
            "backend_timeout_ms": 1_000,
            "backend_connect_timeout_ms": 1_000,
        }
        settings["resilience"] = {
            "watchdog": {
                "check_interval_ms": 300,
                "unhealthy_consecutive_windows": 2,
                "timeout_error_rate_percent": 50,
                "min_requests_per_window": 2,
                "drain_grace_ms": 20_000,
            }
        }

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, change) as proxy:
            clients = await clients_by_slot(proxy)
            # Keeps its worker from being done.
            lasting = await clients[0].open("GET", "/events")
            await lasting.head_arrived.wait()
            async with asyncio.TaskGroup() as group:
                # So many that some time out in each window, and some are answered elsewhere.
                tasks = [group.create_task(time_out(clients[0], n / 20)) for n in range(20)]
                tasks.append(group.create_task(keep_asking(clients[1], [])))
                await until(lambda: "replaces worker 0 (timeouts)" in proxy.log)
                for task in tasks:
                    task.cancel()
            for _ in range(20):
                new = await proxy.client("h3")
                assert await is_alive(new)
                assert slot_of(new) == 1
            proxy.origin.gate.opened.set()
            assert (await lasting.whole()).cut is None

    run(scenario)
