"""A link that misbehaves, from a seed: a relay of datagrams between clients and a server.

It needs no privileges and no help of the kernel: whoever connects to the relay reaches the server,
with loss, delay, duplicates or damage, and from wherever the relay now sends. ECN marks end here.

``python -m spooky.bench.relay`` is the link of a benchmark, a process of its own: it reads its plan
from stdin, writes its port to stdout, and goes on until it is ended.
"""

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, cast

import msgspec
import uvloop

from spooky.bench.plan import Link
from spooky.bench.programs import LOOPBACK

LOOPBACK_HOSTS: Final = 250
"""Source addresses to rebind to: 127.0.0.2 and up, which Linux has without being told."""

BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Asked of the kernel for each socket, so that nothing is lost but what the seed says."""


@dataclass
class Faults:
    """What happens to datagrams one way; may be changed at any time.

    Attributes:
        loss: Share of them that is lost.
        duplicates: Share that arrives twice.
        damage: Share of which a byte is changed.
        delay: Time that each takes; seconds.
        jitter: At most so much more, so that later ones overtake; seconds.
    """

    loss: float = 0.0
    duplicates: float = 0.0
    damage: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0


class UdpRelay(asyncio.DatagramProtocol):
    """Relays datagrams; each client has a socket of its own towards the server.

    Arguments:
        server: The server's address.
        seed: Of all that is left to chance.

    Attributes:
        port: Where clients connect, on 127.0.0.1.
        to_server: Faults on the way there.
        to_client: Faults on the way back.
        passed: Datagrams that came in, both ways together.
        lost: How many of them were lost.
    """

    def __init__(self, server: tuple[str, int], seed: int) -> None:
        self.port = 0
        self.to_server = Faults()
        self.to_client = Faults()
        self.passed = 0
        self.lost = 0
        self._server = server
        self._random = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport
        self._ways: dict[tuple[str, int], Way] = {}
        self._rebindings = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn the port."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        widen(transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a datagram from a client to the server."""
        way = self._ways.get(addr)
        if way is None:
            way = self._ways[addr] = Way(self, addr, self._host)
        self.carry(data, self.to_server, way.send)

    def rebind(self) -> None:
        """Go on from another address and another port, as behind a translator that forgot."""
        self._rebindings += 1
        for client, way in list(self._ways.items()):
            way.close()
            self._ways[client] = Way(self, client, self._host)

    def answer(self, data: bytes, client: tuple[str, int]) -> None:
        """Take a datagram from the server to a client."""
        self.carry(data, self.to_client, lambda late: self._transport.sendto(late, client))

    def carry(self, data: bytes, faults: Faults, deliver: Callable[[bytes], None]) -> None:
        """Deliver a datagram as the faults say."""
        self.passed += 1
        if self._random.random() < faults.loss:
            self.lost += 1
            return
        copies = 2 if self._random.random() < faults.duplicates else 1
        if self._random.random() < faults.damage:
            position = self._random.randrange(len(data))
            data = data[:position] + bytes((data[position] ^ 0x55,)) + data[position + 1 :]
        for _ in range(copies):
            delay = faults.delay + self._random.random() * faults.jitter
            if delay:
                self._loop.call_later(delay, self._deliver, deliver, data)
            else:
                deliver(data)

    def close(self) -> None:
        """Close every socket."""
        self._transport.close()
        for way in self._ways.values():
            way.close()

    def _deliver(self, deliver: Callable[[bytes], None], data: bytes) -> None:
        if not self._transport.is_closing():
            deliver(data)

    @property
    def server(self) -> tuple[str, int]:
        """The server's address."""
        return self._server

    @property
    def _host(self) -> str | None:
        return f"127.0.0.{1 + self._rebindings % LOOPBACK_HOSTS}" if self._rebindings else None


class Way(asyncio.DatagramProtocol):
    """A client's way to the server; it buffers until its socket is there.

    Arguments:
        relay: What it is part of.
        client: The client's address.
        host: Where it sends from; ``None`` leaves that to the kernel.
    """

    def __init__(self, relay: UdpRelay, client: tuple[str, int], host: str | None) -> None:
        self._relay = relay
        self._client = client
        self._transport: asyncio.DatagramTransport | None = None
        self._early: list[bytes] = []
        loop = asyncio.get_running_loop()
        self._opening = loop.create_task(
            loop.create_datagram_endpoint(
                lambda: self, local_addr=(host, 0) if host else None, remote_addr=relay.server
            )
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what came before there was a socket."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        widen(transport)
        for data in self._early:
            self.send(data)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a datagram from the server."""
        self._relay.answer(data, self._client)

    def send(self, data: bytes) -> None:
        """Send a datagram to the server."""
        if self._transport is None:
            self._early.append(data)
        elif not self._transport.is_closing():
            self._transport.sendto(data)

    def close(self) -> None:
        """Close the socket."""
        self._opening.cancel()
        if self._transport is not None:
            self._transport.close()


@contextlib.asynccontextmanager
async def udp_relay(port: int, seed: int, host: str = LOOPBACK) -> AsyncIterator[UdpRelay]:
    """Relay datagrams to a server, without faults until there are some."""
    loop = asyncio.get_running_loop()
    _, relay = await loop.create_datagram_endpoint(
        lambda: UdpRelay((host, port), seed), local_addr=(LOOPBACK, 0)
    )
    try:
        yield relay
    finally:
        relay.close()


def widen(transport: asyncio.BaseTransport) -> None:
    """Give a socket room for bursts."""
    made = transport.get_extra_info("socket")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)


class RelayPlan(msgspec.Struct, frozen=True):
    """The link of a benchmark.

    Attributes:
        host: IP address of the server.
        port: UDP port of the server.
        link: What the link does, each way.
        seed: Of what is lost.
    """

    host: str
    port: int
    link: Link
    seed: int


async def serve(plan: RelayPlan) -> None:
    """Relay as a plan says, until the process is ended."""
    async with udp_relay(plan.port, plan.seed, plan.host) as relay:
        for faults in (relay.to_server, relay.to_client):
            faults.loss, faults.delay = plan.link.loss, plan.link.delay_ms / 1000
        print(relay.port, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Do what the plan on stdin says."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=RelayPlan)
    uvloop.run(serve(plan))


if __name__ == "__main__":
    main()
