"""Ports for what is told its port: nobody else takes them before it does."""

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

FIRST = 20_000
SHARES = 16
"""Of the processes that tests run in side by side, each has some ports for itself."""


def _candidates() -> Iterator[int]:
    """Yield ports that the system gives to nobody who leaves the choice to it."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    size = (int(given.split()[0]) - FIRST) // SHARES
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    first = FIRST + int(worker.removeprefix("gw")) % SHARES * size
    ports = range(first, first + size)
    # Another run of the suite may be under way.
    at = random.Random(os.getpid()).randrange(size)
    return itertools.cycle((*ports[at:], *ports[:at]))


_ports = _candidates()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free for TCP and UDP."""
    while True:
        port = next(_ports)
        with (
            contextlib.suppress(OSError),
            socket.socket() as tcp,
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            return port
