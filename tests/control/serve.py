"""``spooky serve`` with a backend of the test's own loop, for tests of the processes."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.interop.serving import children
from tests.support.client import Client, Http3Client
from tests.support.origin import Origin
from tests.support.proxy import configuration, connect

START_SECONDS = 60
ANNOUNCED = re.compile(rb"serving HTTP/3, .* port (\d+)\n")


@dataclass
class Served:
    """A running ``spooky serve``.

    Attributes:
        process: The supervisor.
        port: UDP and TCP.
        origin: The backend.
        directory: Where its files are.
    """

    process: asyncio.subprocess.Process
    port: int
    origin: Origin
    directory: Path

    @property
    def workers(self) -> list[int]:
        """The workers' process numbers, the oldest first."""
        return children(self.process.pid)

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.directory / "stderr").read_text()

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self.directory / "spooky.yaml"

    def write(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the configuration file."""
        settings = yaml.load(self.path.read_text(), yaml.CSafeLoader)
        change(settings)
        self.path.write_text(written(settings))

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run a command of ours beside it; return the exit code and all that it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "spooky.cli.main", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def client(self, ingress: str) -> Client:
        """Connect a client."""
        return await connect(ingress, self.port)

    def signal(self, number: signal.Signals) -> None:
        """Signal the supervisor."""
        self.process.send_signal(number)

    async def exited(self) -> int:
        """Return the supervisor's exit code."""
        return await self.process.wait()


def written(settings: dict[str, Any]) -> str:
    """Return settings as YAML; of large ones Python alone takes ten seconds."""
    text: str = yaml.dump(settings, Dumper=yaml.CSafeDumper)
    return text


def generous(settings: dict[str, Any]) -> None:
    """Let one address have as many connections as it likes, as fast as it likes."""
    plenty = 100_000
    settings["performance"] |= {
        "new_connections_per_sec": plenty,
        "new_connections_burst": plenty,
        "new_connections_per_source_per_sec": plenty,
        "new_connections_per_source_burst": plenty,
    }


def patient(settings: dict[str, Any]) -> None:
    """Let what is under way go on for longer than a test takes, however busy the machine is."""
    times = ("shutdown_drain_timeout_ms", "backend_timeout_ms", "backend_body_idle_timeout_ms")
    settings["performance"] |= dict.fromkeys(times, 120_000)


async def connected_at(proxy: Served, slots: int) -> list[Client]:
    """Return connections over HTTP/3 whose first packets the kernel gives to each of the slots."""
    return [
        await Http3Client.connect(proxy.port, destination=bytes((slot,)) + os.urandom(7))
        for slot in range(slots)
    ]


@contextlib.asynccontextmanager
async def served(
    directory: Path,
    workers: int,
    change: Callable[[dict[str, Any]], None] | None = None,
    environment: dict[str, str] | None = None,
) -> AsyncIterator[Served]:
    """Run ``spooky serve`` until the block ends.

    Arguments:
        change: Changes the configuration before it is used.
        environment: Variables set besides ours.
    """
    async with Origin("h1", None) as origin:
        settings = configuration(directory, origin.address)
        settings["performance"]["worker_threads"] = workers
        if change is not None:
            change(settings)
        path = directory / "spooky.yaml"
        path.write_text(written(settings))
        with (directory / "stderr").open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "spooky.cli.main", "serve", "--config", str(path),
                stderr=stderr,
                env={
                    **os.environ,
                    "STATE_DIRECTORY": str(directory / "state"),
                    **(environment or {}),
                },
            )  # fmt: skip
        try:
            port = await _announced(process, directory / "stderr")
            yield Served(process, port, origin, directory)
        finally:
            orphans = children(process.pid)
            if process.returncode is None:
                process.kill()
                await process.wait()
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def _announced(process: asyncio.subprocess.Process, stderr: Path) -> int:
    async with asyncio.timeout(START_SECONDS):
        while (found := ANNOUNCED.search(stderr.read_bytes())) is None:
            assert process.returncode is None, stderr.read_text()
            await asyncio.sleep(0.02)
    return int(found[1])
