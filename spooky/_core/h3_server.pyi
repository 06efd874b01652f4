"""Requests of clients on HTTP/3 streams; the twin is the source, and says the rest."""

from spooky._core.pure.h3_server import ServerStream

__all__ = ["ServerStream"]
