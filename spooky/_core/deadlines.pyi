"""The timeouts of one exchange; the twin is the source, and says the rest."""

from spooky._core.pure.deadlines import Deadlines

__all__ = ["Deadlines"]
