"""The link of a scenario is a process that loses and delays what its seed and its plan say."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from spooky.bench.plan import Link
from spooky.bench.relay import RelayPlan

DATAGRAMS = 300
LAST = b"last"


@contextmanager
def relayed(loss: float, delay_ms: float, seed: int) -> Iterator[tuple[socket.socket, ...]]:
    """A client's socket, connected to the relay, and the server's behind it."""
    with (
        socket.socket(type=socket.SOCK_DGRAM) as client,
        socket.socket(type=socket.SOCK_DGRAM) as server,
    ):
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        plan = RelayPlan("127.0.0.1", server.getsockname()[1], Link(loss, delay_ms), seed)
        relay = subprocess.Popen(
            [sys.executable, "-m", "spooky.bench.relay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert relay.stdin is not None
            assert relay.stdout is not None
            relay.stdin.write(msgspec.json.encode(plan))
            relay.stdin.close()
            client.connect(("127.0.0.1", int(relay.stdout.readline())))
            yield client, server
        finally:
            relay.kill()
            relay.wait()
            if relay.stdout is not None:
                relay.stdout.close()


def passed(seed: int) -> list[int]:
    """Return which of many datagrams come through a link that loses a third."""
    with relayed(1 / 3, 0.0, seed) as (client, server):
        for number in range(DATAGRAMS):
            client.send(b"%d" % number)
        found: list[int] = []
        # The end is told until it comes through; what comes through comes in order.
        server.settimeout(0.05)
        while True:
            client.send(LAST)
            try:
                while (data := server.recv(100)) != LAST:
                    found.append(int(data))
            except TimeoutError:
                continue
            return found


def test_a_seed_decides_which_datagrams_are_lost() -> None:
    first = passed(seed=5)
    assert 0.5 < len(first) / DATAGRAMS < 0.8
    assert passed(seed=5) == first
    assert passed(seed=6) != first


def test_each_way_takes_its_time() -> None:
    with relayed(0.0, 30.0, seed=1) as (client, server):
        client.settimeout(20)
        begun = time.monotonic()
        client.send(b"ping")
        _, address = server.recvfrom(100)
        there = time.monotonic()
        server.sendto(b"pong", address)
        assert client.recv(100) == b"pong"
        back = time.monotonic()
    # Timers of the loop are good to a millisecond.
    assert there - begun > 0.028
    assert back - there > 0.028
