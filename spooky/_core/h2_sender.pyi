"""Turns and back-pressure of HTTP/2 bodies; the twin is the source, and says the rest."""

from spooky._core.pure.h2_sender import Sender, rank

__all__ = ["Sender", "rank"]
