"""Threads that give way to whoever serves clients on the same processors."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final

NICE: Final = 5
"""How much nicer they are: a processor that others want too is theirs for a quarter of the time. So
a request hardly waits for them, and on a machine that is busy throughout they get on still."""

THREADS_MAX: Final = 8
"""Most of what they do reads files, one thing after the other."""


def gentle_threads() -> ThreadPoolExecutor:
    """Return an executor whose threads, and they alone, are nicer than the process."""
    # Linux has a nice value for each thread.
    return ThreadPoolExecutor(THREADS_MAX, "gentle", lambda: os.nice(NICE))
