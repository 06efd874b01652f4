"""An attacker as a process of its own, for measurements that it must not be part of.

``python -m tests.attacks.flooding KIND NAME PORT SECONDS``: floods, one connection after the other.
"""

import asyncio
import contextlib
import sys

from tests.attacks import floods_h2, floods_h3
from tests.attacks.wires import H2Wire, QuicWire, from_elsewhere
from tests.protocol.quic import forge

HELLO = forge.crypto_frame(0, forge.client_hello())
HELLOS_PER_BREATH = 50


def hello(number: int) -> bytes:
    """Return the first datagram of a client that never goes on."""
    return forge.Initials(b"victim" + number.to_bytes(8, "big"))(HELLO).payload


async def flood_h2(name: str, port: int) -> None:
    """Say one flood of HTTP/2 until the connection is ended."""
    flood = floods_h2.FLOODS[name]
    wire = await H2Wire.open(port)
    await wire.send(flood.first(wire))
    await wire.flood(flood.make, flood.most)
    await wire.close()


async def flood_h3(name: str, port: int) -> None:
    """Say one flood of HTTP/3 until the connection is ended."""
    flood = floods_h3.FLOODS[name]
    with from_elsewhere(port) as on:
        wire = await QuicWire(on).open()
        flood.first(wire)
        await wire.flood(flood.act, flood.most)
        await wire.close()


async def flood_hellos(rate: str, port: int) -> None:
    """Begin so many handshakes a second from ever new addresses, for a second."""
    clock = asyncio.get_running_loop().time
    begun, sent = clock(), 0
    while sent < int(rate):
        with from_elsewhere(port) as on:
            for _ in range(HELLOS_PER_BREATH):
                on.send(hello(int(begun * 1_000) * 10_000 + sent))
                sent += 1
        await asyncio.sleep(max(0.0, begun + sent / int(rate) - clock()))


KINDS = {"h2": flood_h2, "h3": flood_h3, "hellos": flood_hellos}


async def main(kind: str, name: str, port: int, seconds: float) -> None:
    """Attack for some time, and say how often."""
    clock = asyncio.get_running_loop().time
    until, count = clock() + seconds, 0
    while clock() < until:
        with contextlib.suppress(ConnectionError, TimeoutError):
            await KINDS[kind](name, port)
            count += 1
    print(count)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
