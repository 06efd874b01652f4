"""How a QUIC listener receives and sends datagrams: in batches, and with a bounded queue."""

import asyncio
import socket
from pathlib import Path

from spooky._core.dispatch import UNSENT_MAX
from spooky._core.udp import UdpSocket
from spooky.edge.quic import QuicListener
from spooky.protocol.quic.session import Transmit
from tests.edge.test_ingress import counted, run_with
from tests.support.proxy import Setup
from tests.support.waiting import until

SIZE = 1000


class Full:
    """A socket that takes so many datagrams, and then so often none."""

    def __init__(self, udp: UdpSocket, room: int, refusals: int) -> None:
        self.udp = udp
        self.room = room
        self.refusals = refusals

    def __getattr__(self, name: str) -> object:
        return getattr(self.udp, name)

    def send(self, payload: bytes, segment_size: int, address: tuple, ecn: int) -> int:
        if self.room == 0 and self.refusals > 0:
            self.refusals -= 1
            return 0
        if self.refusals > 0:
            payload = payload[: self.room * segment_size]
            self.room -= len(payload) // segment_size
        return self.udp.send(payload, segment_size, address, ecn)


def listener_of(setup: Setup) -> QuicListener:
    return setup.proxy.worker.listeners[0].quic


def runs(address: tuple, *sizes: int) -> list[Transmit]:
    """Return runs of so many datagrams, which are numbered through."""
    numbers = iter(range(sum(sizes)))
    return [
        Transmit(b"".join(b"%0*d" % (SIZE, next(numbers)) for _ in range(size)), SIZE, address)
        for size in sizes
    ]


async def received(udp: socket.socket, count: int) -> list[int]:
    """Return the numbers of so many datagrams."""
    loop = asyncio.get_running_loop()
    return [int(await asyncio.wait_for(loop.sock_recv(udp, SIZE), 30)) for _ in range(count)]


def test_what_the_socket_has_no_room_for_follows_in_order(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        listener = listener_of(setup)
        listener._udp = Full(listener._udp, room=3, refusals=3)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.setblocking(False)
            listener.transmit(runs(peer.getsockname(), 2, 5, 1))
            assert counted(setup.proxy, "datagrams_sent_total") == 3
            listener.transmit(runs(peer.getsockname(), 1))
            assert await received(peer, 9) == [*range(8), 0]
        assert counted(setup.proxy, "datagrams_sent_total") == 9
        assert counted(setup.proxy, "datagrams_unsendable_total") == 0
        assert counted(setup.proxy, "datagram_batches_sent_total") >= 2

    run_with(tmp_path, scenario)


def test_datagrams_that_wait_for_room_are_bounded_and_the_rest_dropped(tmp_path: Path) -> None:
    """Memory does not depend on a socket that takes nothing; to QUIC, they are lost packets."""

    async def scenario(setup: Setup) -> None:
        listener = listener_of(setup)
        full = listener._udp = Full(listener._udp, room=0, refusals=1_000_000)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            peer.bind(("127.0.0.1", 0))
            peer.setblocking(False)
            listener.transmit(runs(peer.getsockname(), *[60] * 20))
            kept = UNSENT_MAX // 60 * 60
            assert counted(setup.proxy, "datagrams_unsendable_total") == 1200 - kept
            full.refusals = 0
            await until(lambda: counted(setup.proxy, "datagrams_sent_total") == kept)
            assert await received(peer, 60) == list(range(60))
            # Nothing is left that would count against what comes next.
            full.refusals = 2
            listener.transmit(runs(peer.getsockname(), *[60] * (UNSENT_MAX // 60)))
            await asyncio.sleep(0.1)
        assert counted(setup.proxy, "datagrams_unsendable_total") == 1200 - kept

    run_with(tmp_path, scenario)


def test_what_cannot_be_sent_is_counted(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        listener_of(setup).transmit(runs(("255.255.255.255", 9), 3))
        assert counted(setup.proxy, "datagrams_unsendable_total") == 3
        assert counted(setup.proxy, "datagrams_sent_total") == 0

    run_with(tmp_path, scenario)


def test_coalesced_datagrams_are_told_apart_and_batches_counted(tmp_path: Path) -> None:
    """Each datagram of a buffer goes to the connection that its own ID names."""

    async def scenario(setup: Setup) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            udp = UdpSocket(peer.fileno(), peer.family)
            stray = b"\x40" + b"12345678" + bytes(91)
            address = ("127.0.0.1", setup.proxy.port)
            assert udp.send(stray * 5 + b"\x40", len(stray), address, 0) == 501
            async with asyncio.timeout(30):
                while not counted(setup.proxy, "datagram_batches_received_total"):
                    await asyncio.sleep(0.01)
            udp.release()
        refused = counted(setup.proxy, "connections_refused_total", reason="unknown_connection")
        short = counted(setup.proxy, "connections_refused_total", reason="bad_packet")
        assert (refused, short) == (5, 1)
        assert counted(setup.proxy, "datagrams_truncated_total") == 0
        assert (await (await setup.client()).fetch("GET", "/size/100000")).status == 200
        assert counted(setup.proxy, "datagram_batches_sent_total") > 0

    run_with(tmp_path, scenario)
