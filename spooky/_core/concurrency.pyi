"""How many requests an upstream can take at once; the twin is the source, and says the rest."""

from spooky._core.pure.concurrency import AdaptiveLimit, Aimd, Gradient

__all__ = ["AdaptiveLimit", "Aimd", "Gradient"]
