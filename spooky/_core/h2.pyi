"""HTTP/2 sessions of both roles; the twin is the source, and says the rest."""

from spooky._core.pure.h2 import Role, Session, list_fields

__all__ = ["Role", "Session", "list_fields"]
