"""The client role of HTTP/2; the twin is the source, and says the rest."""

from spooky._core.pure.h2_client import ClientSession

__all__ = ["ClientSession"]
