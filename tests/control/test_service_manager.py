"""What systemd is told: sd_notify(3), sd_watchdog_enabled(3), on a socket as it makes them."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooky.control import service_manager as module
from spooky.control.service_manager import ServiceManager
from tests.control.serve import served
from tests.support.proxy import run

ABSTRACT = f"@spooky-notify-test-{os.getpid()}"


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(10)
        yield receiver


def manager(receiver: socket.socket, **variables: str) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": receiver.getsockname(), **variables})


def test_each_state_is_said_as_sd_notify_has_it(listening: socket.socket) -> None:
    one = manager(listening)
    one.ready("serving generation 1\nREADY=0")
    # A status is one line: no text of ours becomes an assignment of its own.
    assert listening.recv(4096) == b"READY=1\nSTATUS=serving generation 1 READY=0"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    one.reloading()
    said, _, monotonic = listening.recv(4096).partition(b"\nMONOTONIC_USEC=")
    assert said == b"RELOADING=1"
    assert before <= int(monotonic) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    one.show("probation")
    assert listening.recv(4096) == b"STATUS=probation"
    one.main_process(4711)
    assert listening.recv(4096) == b"MAINPID=4711"
    one.stopping("draining")
    assert listening.recv(4096) == b"STOPPING=1\nSTATUS=draining"


def test_an_abstract_name_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + ABSTRACT[1:])
        receiver.settimeout(10)
        ServiceManager({"NOTIFY_SOCKET": ABSTRACT}).ready("serving")
        assert receiver.recv(4096) == b"READY=1\nSTATUS=serving"


@pytest.mark.parametrize("name", ["", "relative/path", "/there/is/no/such/socket"])
def test_without_a_service_manager_that_listens_nothing_breaks(name: str) -> None:
    ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "10"}).ready("serving")


def test_a_service_manager_that_reads_nothing_keeps_nobody_waiting(
    listening: socket.socket,
) -> None:
    one = manager(listening)
    for _ in range(1000):
        one.show("x" * 100)


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_told_in_half_of_its_time_by_the_process_that_it_watches(
    listening: socket.socket, variables: dict[str, str], seconds: float | None
) -> None:
    assert manager(listening, **variables).watchdog_seconds == seconds


def test_the_watchdog_is_told_soon_after_workers_live_again(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in another half of its time: by then it may have given the service up."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)

    async def scenario() -> None:
        alive = False
        one = manager(listening, WATCHDOG_USEC="3600000000")
        one.watch(lambda: alive)
        alive = True
        await asyncio.sleep(0.2)
        assert listening.recv(4096) == b"WATCHDOG=1"
        one.close()

    run(scenario)


def test_the_watchdog_is_told_only_while_workers_live(listening: socket.socket) -> None:
    async def scenario() -> None:
        alive, asked = True, 0

        def is_alive() -> bool:
            nonlocal asked
            asked += 1
            return alive

        one = manager(listening, WATCHDOG_USEC="20000")
        one.watch(is_alive)
        assert listening.recv(4096) == b"WATCHDOG=1"
        await asyncio.sleep(0.1)
        assert listening.recv(4096) == b"WATCHDOG=1"
        alive = False
        listening.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                listening.recv(4096)
        asked = 0
        await asyncio.sleep(0.1)
        assert asked > 0
        with pytest.raises(BlockingIOError):
            listening.recv(4096)
        one.close()
        asked = 0
        await asyncio.sleep(0.05)
        assert asked == 0

    asyncio.run(scenario())


def test_a_service_tells_its_start_its_reloads_its_life_and_its_end(
    tmp_path: Path, listening: socket.socket
) -> None:
    variables = {"NOTIFY_SOCKET": listening.getsockname(), "WATCHDOG_USEC": "1000000"}

    async def said(first: str) -> str:
        """Return the next message that is no sign of life."""
        while (message := (await asyncio.to_thread(listening.recv, 4096)).decode()) == "WATCHDOG=1":
            pass
        assert message.startswith(first)
        return message

    async def scenario() -> None:
        async with served(tmp_path, 1, environment=variables) as proxy:
            assert "serving generation 1 with 1 workers" in await said("READY=1")
            assert await asyncio.to_thread(listening.recv, 4096) == b"WATCHDOG=1"
            assert await asyncio.to_thread(listening.recv, 4096) == b"WATCHDOG=1"
            (worker,) = proxy.workers
            inherited = Path(f"/proc/{worker}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in inherited
            proxy.write(lambda settings: settings.update(control={"history": 7}))
            proxy.signal(signal.SIGHUP)
            await said("RELOADING=1")
            assert "generation 2" in await said("STATUS=")
            assert "generation 2" in await said("READY=1")
            # A reload that comes to nothing is over as well.
            proxy.path.write_text("version: [")
            proxy.signal(signal.SIGHUP)
            await said("RELOADING=1")
            assert "generation 2" in await said("READY=1")
            proxy.signal(signal.SIGTERM)
            await said("STOPPING=1")
            assert await proxy.exited() == 0

    run(scenario)
