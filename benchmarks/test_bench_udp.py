"""What a batch of datagrams costs over the loopback, compiled and as the twin does it.

The kernel's part is in the figures: the twin makes the same system calls.
"""

import socket
from collections.abc import Iterator
from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY
from spooky._core import udp as compiled
from spooky._core.pure import udp as pure

SEGMENT = 1200
RUN = bytes(SEGMENT * 40)

KERNELS = pytest.mark.parametrize(
    "kernel",
    [pytest.param(compiled, id="compiled", marks=COMPILED_ONLY), pytest.param(pure, id="pure")],
)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sender,
        socket.socket(type=socket.SOCK_DGRAM) as receiver,
    ):
        for end in (sender, receiver):
            end.bind(("127.0.0.1", 0))
        yield sender, receiver


Sockets = tuple[socket.socket, socket.socket]


@KERNELS
@pytest.mark.benchmark(group="udp send: a run of 40 datagrams, nobody listening")
def test_send(benchmark: BenchmarkFixture, kernel: ModuleType, sockets: Sockets) -> None:
    sender, receiver = sockets
    udp = kernel.UdpSocket(sender.fileno(), sender.family)
    address = receiver.getsockname()
    receiver.close()
    assert benchmark(udp.send, RUN, SEGMENT, address, 2) == len(RUN)
    udp.release()


@KERNELS
@pytest.mark.parametrize("coalesced", [True, False], ids=["coalesced", "single"])
@pytest.mark.benchmark(group="udp receive: 40 datagrams")
def test_receive(
    benchmark: BenchmarkFixture, kernel: ModuleType, sockets: Sockets, coalesced: bool
) -> None:
    benchmark.group += ", coalesced" if coalesced else ", single"
    sender, receiver = sockets
    ours = kernel.UdpSocket(receiver.fileno(), receiver.family)
    theirs = kernel.UdpSocket(sender.fileno(), sender.family)
    if not coalesced:
        receiver.setsockopt(socket.IPPROTO_UDP, pure.UDP_GRO, 0)
    address = receiver.getsockname()

    def fill() -> tuple[tuple[int], dict[str, object]]:
        assert theirs.send(RUN, SEGMENT, address, 2) == len(RUN)
        return (64,), {}

    got = benchmark.pedantic(ours.receive, setup=fill, rounds=500)
    assert len(got) == 40
    ours.release()
    theirs.release()
