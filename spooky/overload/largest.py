"""Which streams to reset, so that enough memory is free again and the fewest requests fail."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

SIZE_MIN: Final = 64 * 1024
"""A stream that holds less is not reset; bytes. Thousands would have to go to be felt, and who
holds the memory is somebody else then."""


class Held(NamedTuple):
    """What one stream holds.

    Attributes:
        size: Bytes.
        reset: Resets it.
    """

    size: int
    reset: Callable[[], None]


def fewest(streams: Iterable[Held], size: int) -> list[Held]:
    """Return the fewest streams that hold so many bytes together; all if they hold less.

    Arguments:
        streams: Those there are.
        size: Bytes that should be free.
    """
    chosen = []
    for stream in sorted(streams, key=lambda each: -each.size):
        if size <= 0 or stream.size < SIZE_MIN:
            break
        chosen.append(stream)
        size -= stream.size
    return chosen
