"""Backends of a stated capacity, each a process of its own, and clients that load them.

``python -m tests.support.fleet CONCURRENCY SERVICE_MS FAIL_SHARE [PORT]`` is one backend: it works
at so many requests at once, each for so long, and answers such a share of them with 500. It prints
its port, and when it is told to end, when requests came.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support.tls import plain_context

REQUEST_END = b"\r\n\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Backend:
    """One backend, as the process has it."""

    def __init__(self, concurrency: int, service_seconds: float, fail_share: float) -> None:
        self._room = asyncio.Semaphore(concurrency)
        self._service_seconds = service_seconds
        self._fail_share = fail_share
        self._random = random.Random(1)
        self.arrivals: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection, whose bodies say how long they are."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(REQUEST_END)
                if length := CONTENT_LENGTH.search(head):
                    await reader.readexactly(int(length[1]))
                self.arrivals.append(time.monotonic())
                async with self._room:
                    await asyncio.sleep(self._service_seconds)
                failed = self._random.random() < self._fail_share
                status = b"500 Internal Server Error" if failed else b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\nok")
        writer.close()


async def main(concurrency: int, service_ms: float, fail_share: float, port: int) -> None:
    """Serve until killed, or told to end."""
    backend = Backend(concurrency, service_ms / 1000, fail_share)
    server = await asyncio.start_server(backend.serve, "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    print(json.dumps(backend.arrivals), flush=True)
    os._exit(0)


@dataclass
class Member:
    """A backend of a fleet, seen from the test."""

    process: asyncio.subprocess.Process
    port: int
    kind: "Kind"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def kill(self) -> None:
        """Kill it as a machine dies: it closes nothing in good order."""
        self.process.kill()
        await self.process.wait()

    async def return_(self) -> None:
        """Have another take its place."""
        self.process, self.port = await start(self.kind, self.port)

    async def arrivals(self) -> list[float]:
        """End it, and return when requests came; monotonic, as all processes have it."""
        assert self.process.stdout is not None
        self.process.terminate()
        return json.loads(await self.process.stdout.read())


class Kind(NamedTuple):
    """What a backend can do: so many at once, each for so long, failing such a share."""

    concurrency: int = 64
    service_ms: float = 5.0
    fail_share: float = 0.0


async def start(kind: Kind, port: int = 0) -> tuple[asyncio.subprocess.Process, int]:
    """Run one backend."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.fleet", *map(str, kind), str(port),
        stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    assert process.stdout is not None
    return process, int(await process.stdout.readline())


@contextlib.asynccontextmanager
async def fleet(*kinds: Kind) -> AsyncIterator[list[Member]]:
    """Run backends until the block ends."""
    members: list[Member] = []
    try:
        for kind in kinds:
            members.append(Member(*await start(kind), kind))
        yield members
    finally:
        for member in members:
            if member.process.returncode is None:
                await member.kill()


class Sample(NamedTuple):
    """One request: when it ended, with which status (0 for none), and how long it took; seconds."""

    at: float
    status: int
    seconds: float


@dataclass
class Load:
    """Clients that ask one after the other, each on a connection that it keeps.

    Attributes:
        samples: What became of each request.
    """

    port: int
    clients: int
    rate: float
    samples: list[Sample] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(self.clients)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def since(self, start: float, end: float = float("inf")) -> list[Sample]:
        """Return what ended in a time."""
        return [sample for sample in self.samples if start <= sample.at < end]

    def count(self, status: int) -> int:
        """Return how many requests ended with this status."""
        return sum(sample.status == status for sample in self.samples)

    def failures(self, start: float, end: float = float("inf")) -> list[Sample]:
        """Return the requests of a time that were not answered with 200."""
        return [sample for sample in self.since(start, end) if sample.status != 200]

    async def _run(self, number: int) -> None:
        context = plain_context("http/1.1")
        pause = self.clients / self.rate
        await asyncio.sleep(pause * number / self.clients)
        due = time.monotonic()
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    # Open loop, as far as one request at a time is.
                    due = max(due + pause, time.monotonic() - 10 * pause)
                    await asyncio.sleep(due - time.monotonic())
                    await self._ask(reader, writer)
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = time.monotonic()
        try:
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            head = await reader.readuntil(REQUEST_END)
            length = CONTENT_LENGTH.search(head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            self._note(start, int(head.split(b" ", 2)[1]))
        except (ConnectionError, asyncio.IncompleteReadError):
            self._note(start, 0)
            raise

    def _note(self, start: float, status: int) -> None:
        now = time.monotonic()
        self.samples.append(Sample(now, status, now - start))


def quantile(samples: list[Sample], share: float) -> float:
    """Return a quantile of how long requests took; seconds."""
    ordered = sorted(sample.seconds for sample in samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *map(float, sys.argv[2:4]), int([*sys.argv, 0][4])))
