"""Limits on how many are in flight; the twin is the source, and says the rest."""

from spooky._core.pure.gate import Gate, PeakPlaces, Places

__all__ = ["Gate", "PeakPlaces", "Places"]
