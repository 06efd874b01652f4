"""What both roles of an HTTP/3 session share; the twin is the source, and says the rest."""

from spooky._core.pure.h3_session import CONTROL_URGENCY, SERVER_INITIATED, Session

__all__ = ["CONTROL_URGENCY", "SERVER_INITIATED", "Session"]
