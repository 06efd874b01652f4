"""``spooky serve`` as its own process, as operators run it."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.certificates import ca, leaf, write
from tests.interop.conftest import START_SECONDS, running_program
from tests.support.ports import free_port

NAMES = ["localhost", "127.0.0.1", "spooky.test"]


@dataclass
class Serving:
    """A running proxy.

    Attributes:
        port: UDP and TCP.
        authority: PEM file of the authority of its certificate.
        process: Its process.
        directory: Where its files are.
    """

    port: int
    authority: Path
    certificate: Path
    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def worker_pids(self) -> list[int]:
        """The processes that do the work: one for each worker."""
        return children(self.process.pid)

    def log_lines(self, count: int) -> list[dict[str, Any]]:
        """Return the access log once it has so many lines; they follow the responses."""
        deadline = time.monotonic() + 30
        while True:
            text = (self.directory / "access.log").read_text()
            lines = [json.loads(line) for line in text.splitlines()]
            if len(lines) >= count or time.monotonic() > deadline:
                assert len(lines) == count
                return lines
            time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Return the processes that a process started, the oldest first."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, _, rest = status.read_text().partition(" (")
            fields = rest.rpartition(") ")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append((int(fields[19]), int(number)))
    return [number for _, number in sorted(found)]


@contextlib.contextmanager
def serving(
    directory: Path, backend: str, *, upstream: dict[str, Any] | None = None, **sections: Any
) -> Iterator[Serving]:
    """Run ``spooky serve`` in front of one backend."""
    authority = ca()
    certificate, key = write(leaf(NAMES, authority), directory)
    authority_file = directory / "ca.pem"
    authority_file.write_bytes(authority.certificate_pem)
    port = free_port()
    configuration = {
        "version": 1,
        "listen": {
            "address": "127.0.0.1",
            "port": port,
            "tls": {"cert": str(certificate), "key": str(key)},
        },
        "access_log": {"format": "json", "path": str(directory / "access.log")},
        "upstream": {
            "backend": {
                "route": {"path_prefix": "/"},
                "backends": [{"id": "one", "address": backend}],
                "tls": {"verify_certificates": False},
                **(upstream or {}),
            }
        },
        **sections,
    }
    path = directory / "spooky.yaml"
    path.write_text(yaml.safe_dump(configuration))
    arguments = [sys.executable, "-m", "spooky.cli.main", "serve", "--config", str(path)]
    with running_program(arguments, port, directory / "spooky.log") as process:
        _wait_until_ready(directory / "spooky.log")
        yield Serving(port, authority_file, Path(certificate), process, directory)


def _wait_until_ready(log: Path) -> None:
    """Wait until the workers serve; their sockets take connections before."""
    deadline = time.monotonic() + START_SECONDS
    while "serving HTTP/3" not in log.read_text(errors="replace"):
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.02)
