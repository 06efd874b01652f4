"""HTTP/2 streams; the twin is the source, and says the rest."""

from spooky._core.pure.h2_stream import Owner, Stream

__all__ = ["Owner", "Stream"]
