"""Request body bytes that are held: by all workers, now and at most so far."""

from typing import Final

from spooky._core.gate import PeakPlaces, Places
from spooky._core.shared import Segment
from spooky.observe.counters import Counters
from spooky.overload.places import shared_limit, shared_words

HELD: Final = ("request body bytes",)
"""What the places are of."""

PEAK: Final = 1
"""The word beside how many are held that says how many were at most."""


def held_places(counters: Counters) -> Places:
    """Return a worker's places, which note how many were taken at most."""
    return PeakPlaces(shared_limit(counters, *HELD), shared_words(counters.segment, *HELD), PEAK)


def held_at_most(segment: Segment) -> int:
    """Return how many bytes were held at a time, at most."""
    words = shared_words(segment, *HELD)
    return words.load(PEAK) if words is not None else 0
