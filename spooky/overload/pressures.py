"""Pressures that processes tell each other through the shared segment.

The supervisor measures what workers must not look at themselves, who open no file: the memory of
the machine, and how many descriptors each worker has. Each worker measures its own event loop.
"""

from typing import Final

from spooky._core.balance import hash_key
from spooky._core.shared import Segment, Words

SCALE: Final = 1_000_000
"""What a pressure of 1 is in a word."""

# Positions of the words of the machine.
_MEMORY: Final = 0
_MEMORY_LIMIT: Final = 1

# Positions of the words of a worker.
_DESCRIPTORS: Final = 0
_EVENT_LOOP: Final = 1


class MachinePressure:
    """The pressure that is the same for all workers.

    Arguments:
        segment: What they share.
    """

    def __init__(self, segment: Segment) -> None:
        self._words = _words(segment, "machine")

    @property
    def memory(self) -> float:
        """On memory."""
        return _load(self._words, _MEMORY)

    @memory.setter
    def memory(self, pressure: float) -> None:
        _store(self._words, _MEMORY, pressure)

    @property
    def memory_limit(self) -> int:
        """How much a memory pressure of 1 is; bytes, 0 if that is not known."""
        return 0 if self._words is None else self._words.load(_MEMORY_LIMIT)

    @memory_limit.setter
    def memory_limit(self, size: int) -> None:
        if self._words is not None:
            self._words.store(_MEMORY_LIMIT, size)


class WorkerPressure:
    """The pressures that are one worker's.

    Arguments:
        segment: What all share.
        slot: The worker's.
    """

    def __init__(self, segment: Segment, slot: int) -> None:
        self._words = _words(segment, f"worker {slot}")

    @property
    def descriptors(self) -> float:
        """On its file descriptors."""
        return _load(self._words, _DESCRIPTORS)

    @descriptors.setter
    def descriptors(self, pressure: float) -> None:
        _store(self._words, _DESCRIPTORS, pressure)

    @property
    def event_loop(self) -> float:
        """On its event loop."""
        return _load(self._words, _EVENT_LOOP)

    @event_loop.setter
    def event_loop(self, pressure: float) -> None:
        _store(self._words, _EVENT_LOOP, pressure)


def _words(segment: Segment, name: str) -> Words | None:
    # Of more keys than the segment has room for, the last are not shared: no pressure then.
    return segment.words(hash_key(f"overload pressure\0{name}".encode()))


def _load(words: Words | None, position: int) -> float:
    return 0.0 if words is None else words.load(position) / SCALE


def _store(words: Words | None, position: int, pressure: float) -> None:
    if words is not None:
        words.store(position, int(max(pressure, 0.0) * SCALE))
