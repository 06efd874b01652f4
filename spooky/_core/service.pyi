"""Where requests begin and end; the twin is the source, and says the rest."""

from spooky._core.pure.service import SEQUENCE_MAX, Service

__all__ = ["SEQUENCE_MAX", "Service"]
