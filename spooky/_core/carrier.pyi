"""The bytes of a TCP connection; the twin is the source, and says the rest."""

from spooky._core.pure.carrier import CLOSE_SECONDS, LOW_SHARE, Carrier, SocketTransport

__all__ = ["CLOSE_SECONDS", "LOW_SHARE", "Carrier", "SocketTransport"]
