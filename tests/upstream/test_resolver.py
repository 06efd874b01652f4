"""Lookups that hang: nobody else waits for them, nor does the end of the process."""

import asyncio
import socket
import subprocess
import sys
import threading

import pytest
import uvloop

from spooky.upstream.resolver import THREADS_MAX, SystemResolver


class Silent:
    """Answers for a name that begins with silent when it is told to, for others at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.speaks = threading.Event()

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host.startswith("silent"):
            self.speaks.wait(60)
        if host == "none":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [f"10.0.0.{port}"]


async def given_up(resolve: SystemResolver, host: str) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await resolve(host, 1)


def test_names_that_hang_are_asked_once_and_others_are_answered() -> None:
    async def scenario() -> None:
        silent = Silent()
        resolve = SystemResolver(asyncio.get_running_loop(), silent)
        hanging = [f"silent{at}" for at in range(THREADS_MAX - 1)]
        await asyncio.gather(*(given_up(resolve, host) for host in 2 * hanging))
        async with asyncio.timeout(30):
            assert await resolve("a.test", 7) == ["10.0.0.7"]
            with pytest.raises(socket.gaierror, match="no such name"):
                await resolve("none", 1)
            assert sorted(silent.asked) == sorted([*hanging, "a.test", "none"])
            # The answer that comes late is for who asks now.
            again = asyncio.ensure_future(resolve(hanging[0], 1))
            silent.speaks.set()
            assert await again == ["10.0.0.1"]

    uvloop.run(scenario())


def test_an_address_needs_no_thread() -> None:
    async def scenario() -> None:
        silent = Silent()
        resolve = SystemResolver(asyncio.get_running_loop(), silent)
        assert await resolve("fe80::1%eth0", 1) == ["fe80::1%eth0"]
        assert silent.asked == []

    asyncio.run(scenario())


HANGING = """
import asyncio, time, uvloop
from spooky.upstream.resolver import SystemResolver

async def ask():
    resolve = SystemResolver(asyncio.get_running_loop(), lambda host, port: time.sleep(600))
    try:
        async with asyncio.timeout(0.01):
            await resolve("silent.test", 1)
    except TimeoutError:
        print("over")

uvloop.run(ask())
"""


def test_the_end_of_the_process_does_not_wait_for_a_lookup() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("over\n", "")
