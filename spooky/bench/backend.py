"""The backend of every proxy: nghttpd, which is compiled and speaks HTTP/2 in clear text.

It serves a file for each size, and answers an upload once it has all of it.
"""

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from spooky.bench.programs import LOOPBACK, BenchError, Program, find_program, free_port, running

START_SECONDS: Final = 10.0
"""Time to listen; seconds."""

MAX_STREAMS: Final = 4096
"""Requests in flight on one connection of a proxy, so that the backend is not what limits it."""

WINDOW_BITS: Final = 26
"""Windows of 64 MiB, for the same reason."""

REMEDY: Final = "on Debian: apt-get install nghttp2-server"


@contextlib.contextmanager
def backend(directory: Path, sizes: Iterable[int], core: int) -> Iterator[int]:
    """Serve bodies of these sizes (bytes), each at a path of its number; give the port.

    Raises:
        BenchError: nghttpd is missing or does not start.
    """
    program = find_program("nghttpd", REMEDY)
    root = directory / "files"
    root.mkdir()
    for size in sizes:
        (root / str(size)).write_bytes(bytes(size))
    port = free_port()
    arguments = [program, "--no-tls", "--address", LOOPBACK, "--htdocs", str(root)]
    arguments += ["--max-concurrent-streams", str(MAX_STREAMS)]
    arguments += ["--window-bits", str(WINDOW_BITS), "--connection-window-bits", str(WINDOW_BITS)]
    with running("nghttpd", [*arguments, str(port)], directory, [core]) as server:
        wait_for_port(server, port)
        yield port


def wait_for_port(server: Program, port: int) -> None:
    """Wait until a TCP port accepts.

    Raises:
        BenchError: It does not.
    """
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        server.check()
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 0.2):
            return
        time.sleep(0.02)
    raise BenchError(f"{server.name} does not listen on port {port}", server.last_words())
