"""0-RTT packets that overtook the hello they belong to (RFC 9000 section 5.2.2)."""

from collections import OrderedDict
from typing import Final

from spooky.protocol.quic.session import ReceivedDatagram

EARLY_MAX: Final = 256
"""Datagrams kept by one listener, 380 KiB; anybody can send them."""

EARLY_MAX_PER_CONNECTION: Final = 10
"""What a client sends before it hears anything: its first window (RFC 9002 section 7.2)."""

EARLY_SECONDS: Final = 2.0
"""How long they are kept: a hello that was lost is sent again after one second."""


class EarlyPackets:
    """Datagrams by the connection ID that their client chose, until its hello comes.

    Arguments:
        capacity: Datagrams kept in all.
    """

    def __init__(self, capacity: int = EARLY_MAX) -> None:
        self._capacity = capacity
        self._waiting: OrderedDict[bytes, tuple[float, list[ReceivedDatagram]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def keep(self, connection_id: bytes, datagram: ReceivedDatagram, now: float) -> bool:
        """Keep a datagram; return whether there was room."""
        self._forget_old(now)
        if self._count >= self._capacity:
            return False
        _, waiting = self._waiting.setdefault(connection_id, (now + EARLY_SECONDS, []))
        if len(waiting) >= EARLY_MAX_PER_CONNECTION:
            return False
        waiting.append(datagram)
        self._count += 1
        return True

    def claim(self, connection_id: bytes) -> list[ReceivedDatagram]:
        """Take what waits for a hello that came."""
        if not self._waiting:
            return []
        _, waiting = self._waiting.pop(connection_id, (0.0, []))
        self._count -= len(waiting)
        return waiting

    def _forget_old(self, now: float) -> None:
        while self._waiting:
            connection_id, (until, waiting) = next(iter(self._waiting.items()))
            if now < until:
                return
            del self._waiting[connection_id]
            self._count -= len(waiting)
