"""Datagrams of handshakes, which wait until established connections had their turn."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from spooky.protocol.quic.packet import PacketHeader
from spooky.protocol.quic.session import ReceivedDatagram

WAITING_MAX: Final = 1024
"""Datagrams that begin connections, and as many of handshakes under way, kept by one listener: 3
MiB at most. At 1,000 handshakes a second they wait for a second, when clients send them again."""

Opening = tuple[ReceivedDatagram, PacketHeader]
"""A datagram that may begin a connection, and the header of its first packet."""

Connection = TypeVar("Connection", bound=Hashable)


class HandshakeQueue(Generic[Connection]):
    """Waiting datagrams by connection, in the order in which the connections came.

    What is under way goes before what begins: a flood of Initials lets begun handshakes end.

    Arguments:
        capacity: Datagrams kept of either kind.
    """

    def __init__(self, capacity: int = WAITING_MAX) -> None:
        self._capacity = capacity
        self._under_way: dict[Connection, list[ReceivedDatagram]] = {}
        self._under_way_count = 0
        self._beginning: dict[bytes, list[Opening]] = {}
        self._beginning_count = 0

    def __len__(self) -> int:
        return self._under_way_count + self._beginning_count

    def add(self, connection: Connection, datagram: ReceivedDatagram) -> bool:
        """Keep a datagram of a handshake under way; return whether there was room."""
        if self._under_way_count >= self._capacity:
            return False
        self._under_way.setdefault(connection, []).append(datagram)
        self._under_way_count += 1
        return True

    def add_opening(self, opening: Opening) -> bool:
        """Keep a datagram that may begin a connection; return whether there was room."""
        if self._beginning_count >= self._capacity:
            return False
        self._beginning.setdefault(opening[1].destination_connection_id, []).append(opening)
        self._beginning_count += 1
        return True

    def claim(self, connection: Connection) -> list[ReceivedDatagram]:
        """Take what waits of a connection, in order; nothing if nothing does."""
        waiting = self._under_way.pop(connection, None)
        if waiting is None:
            return []
        self._under_way_count -= len(waiting)
        return waiting

    def next_under_way(self) -> tuple[Connection, list[ReceivedDatagram]] | None:
        """Take what waits of the connection that waits longest, if any does."""
        for connection in self._under_way:
            return connection, self.claim(connection)
        return None

    def next_opening(self) -> list[Opening] | None:
        """Take what may begin the connection that waits longest, if any does."""
        for connection_id in self._beginning:
            openings = self._beginning.pop(connection_id)
            self._beginning_count -= len(openings)
            return openings
        return None

    def clear(self) -> None:
        """Forget all."""
        self._under_way.clear()
        self._beginning.clear()
        self._under_way_count = self._beginning_count = 0
