"""Networks that misbehave, from a seed: relays between a client and a server on loopback.

They need no privileges and no help of the kernel: whoever connects to the relay reaches the server,
with loss, delay, duplicates or damage, and from wherever the relay now sends.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

LOOPBACK_HOSTS = 250
"""Source addresses to rebind to: 127.0.0.2 and up, which Linux has without being told."""


@dataclass
class Faults:
    """What happens to what passes; may be changed at any time.

    Attributes:
        loss: Share of the datagrams that are lost.
        duplicates: Share that arrives twice.
        damage: Share of which a byte is changed.
        delay: Time that each takes; seconds.
        jitter: At most so much more, so that later ones overtake; seconds.
        rate: Bytes of a TCP direction that pass in a second; 0 for all there are.
        cut_after: Bytes of a TCP direction after which the connection is reset; 0 for never.
    """

    loss: float = 0.0
    duplicates: float = 0.0
    damage: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    rate: int = 0
    cut_after: int = 0


class UdpRelay(asyncio.DatagramProtocol):
    """Relays datagrams; each client has a socket of its own towards the server.

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
        self._ways: dict[tuple[str, int], _Way] = {}
        self._rebindings = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        way = self._ways.get(addr)
        if way is None:
            way = self._ways[addr] = _Way(self, addr, self._host)
        self.carry(data, self.to_server, way.send)

    def rebind(self) -> None:
        """Go on from another address and another port, as behind a translator that forgot."""
        self._rebindings += 1
        for client, way in list(self._ways.items()):
            way.close()
            self._ways[client] = _Way(self, client, self._host)

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
    def _host(self) -> str:
        return f"127.0.0.{1 + self._rebindings % LOOPBACK_HOSTS}"


class _Way(asyncio.DatagramProtocol):
    """A client's way to the server; it buffers until its socket is there."""

    def __init__(self, relay: UdpRelay, client: tuple[str, int], host: str) -> None:
        self._relay = relay
        self._client = client
        self._transport: asyncio.DatagramTransport | None = None
        self._early: list[bytes] = []
        loop = asyncio.get_running_loop()
        self._opening = loop.create_task(
            loop.create_datagram_endpoint(
                lambda: self, local_addr=(host, 0), remote_addr=relay.server
            )
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        for data in self._early:
            self.send(data)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._relay.answer(data, self._client)

    def send(self, data: bytes) -> None:
        if self._transport is None:
            self._early.append(data)
        elif not self._transport.is_closing():
            self._transport.sendto(data)

    def close(self) -> None:
        self._opening.cancel()
        if self._transport is not None:
            self._transport.close()


@contextlib.asynccontextmanager
async def udp_relay(port: int, seed: int) -> AsyncIterator[UdpRelay]:
    """Relay datagrams to a port of 127.0.0.1."""
    loop = asyncio.get_running_loop()
    _, relay = await loop.create_datagram_endpoint(
        lambda: UdpRelay(("127.0.0.1", port), seed), local_addr=("127.0.0.1", 0)
    )
    try:
        yield relay
    finally:
        relay.close()


class TcpRelay:
    """Relays TCP connections.

    Attributes:
        port: Where clients connect, on 127.0.0.1.
        to_server: Faults on the way there; those of datagrams do not apply.
        to_client: Faults on the way back.
        cut: Connections that were reset.
    """

    def __init__(self, server: tuple[str, int], seed: int) -> None:
        self.port = 0
        self.to_server = Faults()
        self.to_client = Faults()
        self.cut = 0
        self._server = server
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection(*self._server)
        except OSError:
            writer.transport.abort()
            return
        pumps = [
            asyncio.ensure_future(self._pump(reader, back, self.to_server)),
            asyncio.ensure_future(self._pump(there, writer, self.to_client)),
        ]
        try:
            await asyncio.gather(*pumps)
        except ConnectionError:
            self.cut += 1
        finally:
            for pump in pumps:
                pump.cancel()
            writer.transport.abort()
            back.transport.abort()

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: Faults
    ) -> None:
        passed = 0
        while data := await reader.read(16 * 1024):
            await asyncio.sleep(faults.delay + self._random.random() * faults.jitter)
            if faults.rate:
                await asyncio.sleep(len(data) / faults.rate)
            if faults.cut_after and passed + len(data) >= faults.cut_after:
                writer.write(data[: faults.cut_after - passed])
                raise ConnectionResetError
            passed += len(data)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@contextlib.asynccontextmanager
async def tcp_relay(port: int, seed: int) -> AsyncIterator[TcpRelay]:
    """Relay TCP connections to a port of 127.0.0.1."""
    relay = TcpRelay(("127.0.0.1", port), seed)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
