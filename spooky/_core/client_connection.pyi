"""A client's QUIC connection from its first packet to its end; the twin is the source."""

from spooky._core.pure.client_connection import (
    BYTES,
    CLIENT_INITIAL_ID_SECONDS,
    KEEP_ALIVES_PER_IDLE_TIMEOUT,
    ClientConnection,
    Measures,
)

__all__ = [
    "BYTES",
    "CLIENT_INITIAL_ID_SECONDS",
    "KEEP_ALIVES_PER_IDLE_TIMEOUT",
    "ClientConnection",
    "Measures",
]
