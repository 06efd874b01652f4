"""The memory behind a shared segment."""

import fcntl
import mmap
import os
from typing import Final

from spooky._core.shared import Segment, segment_size

# So that nobody who was passed the descriptor can make the others' mappings fault.
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def private_segment() -> Segment:
    """Make a segment of one slot that only this process has."""
    return Segment(mmap.mmap(-1, segment_size(1)), 1)


def create_segment(slots: int) -> tuple[Segment, int]:
    """Make a segment for several processes.

    Returns:
        The segment, and the descriptor to pass on to :func:`open_segment`; the caller closes it.
    """
    descriptor = os.memfd_create("spooky-shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, segment_size(slots))
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return Segment(mmap.mmap(descriptor, segment_size(slots)), slots), descriptor


def open_segment(descriptor: int) -> Segment:
    """Map the segment of a descriptor, which stays the caller's.

    Raises:
        ValueError: It holds no segment of this version.
    """
    return Segment(mmap.mmap(descriptor, os.fstat(descriptor).st_size))
