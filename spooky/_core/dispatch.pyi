"""Datagrams of a listener and the connections they are for; the twin is the source."""

from spooky._core.pure.dispatch import (
    DATAGRAMS_PER_TURN,
    HANDSHAKES_PER_TURN,
    LATE_MAX,
    READS_PER_TURN,
    UNSENT_MAX,
    WAITING_MAX,
    Connection,
    HandshakeQueue,
    Listener,
    Opening,
    ReceivedDatagram,
)

__all__ = [
    "DATAGRAMS_PER_TURN",
    "HANDSHAKES_PER_TURN",
    "LATE_MAX",
    "READS_PER_TURN",
    "UNSENT_MAX",
    "WAITING_MAX",
    "Connection",
    "HandshakeQueue",
    "Listener",
    "Opening",
    "ReceivedDatagram",
]
