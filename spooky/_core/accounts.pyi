"""Counting requests; the twin is the source, and says the rest."""

from spooky._core.pure.accounts import Accounts, Lots, Timings

__all__ = ["Accounts", "Lots", "Timings"]
