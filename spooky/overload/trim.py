"""Giving memory that was freed back to the system, which the C library else keeps."""

import ctypes
from collections.abc import Callable
from typing import Final

TRIM_SECONDS: Final = 5.0
"""How often it is given back while memory is short: for 200 MB that takes some milliseconds."""

RELEASE_SECONDS: Final = 60.0
"""How often it is given back otherwise. What a crowd of clients held lies between what lives on,
and the C library keeps the pages it lay in for as long: two thirds of its heap, after a crowd."""


def find_trim() -> Callable[[], object] | None:
    """Return what gives freed memory back; ``None`` where the C library knows no such thing.

    It does not hold the interpreter's lock, so that it may run in a thread.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        # musl has none, and needs none.
        return None
    trim.argtypes = [ctypes.c_size_t]
    trim.restype = ctypes.c_int
    return lambda: trim(0)
