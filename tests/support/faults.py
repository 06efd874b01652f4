"""A TCP network that misbehaves, from a seed: a relay between a client and a server on loopback.

That of datagrams is :mod:`spooky.bench.relay`.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass
class Faults:
    """What happens to what passes one way; may be changed at any time.

    Attributes:
        delay: Time that each piece takes; seconds.
        jitter: At most so much more; seconds.
        rate: Bytes that pass in a second; 0 for all there are.
        cut_after: Bytes after which the connection is reset; 0 for never.
    """

    delay: float = 0.0
    jitter: float = 0.0
    rate: int = 0
    cut_after: int = 0


class TcpRelay:
    """Relays TCP connections.

    Attributes:
        port: Where clients connect, on 127.0.0.1.
        to_server: Faults on the way there.
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
