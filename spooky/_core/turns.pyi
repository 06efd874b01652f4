"""The turns of an event loop; the twin is the source, and says the rest."""

from spooky._core.pure.turns import Flushable, Turns

__all__ = ["Flushable", "Turns"]
