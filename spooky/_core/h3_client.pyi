"""The client role of HTTP/3; the twin is the source, and says the rest."""

from spooky._core.pure.h3_client import TLS_CERTIFICATE_ERRORS, ClientSession, ClientStream

__all__ = ["TLS_CERTIFICATE_ERRORS", "ClientSession", "ClientStream"]
