"""Handing out streams of connections; the twin is the source, and says the rest."""

from spooky._core.pure.hand_off import Connection, Pool

__all__ = ["Connection", "Pool"]
