"""Pacing Python's garbage collector, which looks for cycles among all that is new.

What a request makes is freed without it: an exchange that ended leaves no cycle, and a connection
of the native engine none. Only other connections do, and defects.
"""

import gc
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""So many more objects made than freed before the young are looked at: more than a turn's requests
are made of, so that they are gone by then. At the default of 700 it took a sixth of the time of
small requests."""


def pace() -> None:
    """Leave out what is there now, which stays, and look seldom at what comes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
