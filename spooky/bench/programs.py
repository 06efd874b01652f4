"""Programs that a benchmark runs: where they are, on which core, and that they end with it."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

STOP_SECONDS: Final = 10.0
"""Time to end after SIGTERM; seconds."""

LOG_SHOWN: Final = 2000
"""Bytes of a program's log that an error shows."""

LOOPBACK: Final = "127.0.0.1"


class BenchError(Exception):
    """There can be no benchmark like this.

    Attributes:
        message: What is wrong.
        remedy: What to do about it.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class Cores:
    """Who runs where: the proxy's workers on cores of their own, load and backend on the last.

    Arguments:
        workers: Of the proxy; 0 if there is none of ours.

    Attributes:
        proxy: The proxy's cores.
        load: The core of the load generator and of the backend.
        shared: Whether a worker shares a core with the load.

    Raises:
        BenchError: There is but one core.
    """

    def __init__(self, workers: int) -> None:
        usable = sorted(os.sched_getaffinity(0))
        if workers and len(usable) < 2:
            raise BenchError(
                "there is one core, and a proxy that shares it with its load measures neither",
                "run it where it may use two cores or more",
            )
        self.load = usable[-1]
        others = usable[:-1]
        self.shared = workers > len(others)
        self.proxy = tuple(usable if self.shared else others[:workers])


def find_program(name: str, remedy: str) -> str:
    """Return the path of a program, from this Python's environment or from the system.

    Raises:
        BenchError: There is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise BenchError(f"the program {name} is missing", remedy)
    return found


def free_port() -> int:
    """Return a port that is free for TCP and UDP now."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((LOOPBACK, 0))
            port = int(tcp.getsockname()[1])
            with contextlib.suppress(OSError):
                udp.bind((LOOPBACK, port))
                return port


class Program:
    """A running program.

    Attributes:
        name: For messages.
        pid: Its process.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            BenchError: It has ended.
        """
        if self._process.poll() is not None:
            raise BenchError(f"{self.name} ended", self.last_words())

    def last_words(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-LOG_SHOWN:].strip()


@contextlib.contextmanager
def running(
    name: str,
    arguments: Sequence[str],
    directory: Path,
    cores: Sequence[int],
    environment: dict[str, str] | None = None,
) -> Iterator[Program]:
    """Run a program on some cores until the block ends."""
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    try:
        yield Program(name, process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def pinned(
    arguments: Sequence[str], core: int, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of our own on one core, joined to us by pipes, until the block ends."""
    process = subprocess.Popen(
        list(arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        preexec_fn=lambda: os.sched_setaffinity(0, [core]),
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def tell(process: subprocess.Popen[bytes], plan: bytes) -> None:
    """Give a program of our own its plan."""
    assert process.stdin is not None
    process.stdin.write(plan)
    process.stdin.close()


@contextlib.contextmanager
def working_directory() -> Iterator[Path]:
    """Make a directory for configurations and logs, and remove it."""
    with tempfile.TemporaryDirectory(prefix="spooky-bench-") as name:
        yield Path(name)
