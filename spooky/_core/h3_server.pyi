"""Requests of clients on HTTP/3 streams; the twin is the source, and says the rest."""

from spooky._core.pure.h3_server import FIRST_REQUEST_ID, ServerConnection, ServerStream

__all__ = ["FIRST_REQUEST_ID", "ServerConnection", "ServerStream"]
