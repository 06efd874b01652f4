# cython: annotation_typing=False
"""What an HTTP/3 connection has used of its limits.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from typing import Any, Final

from spooky._core.h3_errors import H3_EXCESSIVE_LOAD, ProtocolError

USELESS_FRAMES_PER_REQUEST: Final = 10
"""How a request raises the allowance of frames without effect: greasing and priorities go along
with requests, and browsers update the priorities of all streams when the user turns to a tab."""

USELESS_BYTES_PER_REQUEST: Final = 1024
"""How a request raises the allowance of discarded bytes."""

# C numbers, where those above are objects.
_USELESS_FRAMES_PER_REQUEST = USELESS_FRAMES_PER_REQUEST
_USELESS_BYTES_PER_REQUEST = USELESS_BYTES_PER_REQUEST


class Budget:
    """What a connection has used of its limits.

    Arguments:
        limits: See ``protocol/h3/limits.py``.

    Attributes:
        requests: Requests so far.
        glitches: How odd the peer was so far: requests given up or broken, and what is beyond half
            of a budget.
    """

    def __init__(self, limits: Any) -> None:
        self._max_frames = limits.max_useless_frames
        self._max_octets = limits.max_useless_bytes
        self._max_unidirectional = limits.max_unidirectional_streams
        self._max_aborted = limits.max_aborted_requests
        self._aborted = 0
        self._frames = 0
        self._octets = 0
        self._unidirectional = 0
        self.glitches = 0
        self.requests = 0

    def spend_frames(self, count: int) -> None:
        """Account frames or instructions without effect.

        Raises:
            ProtocolError: There were too many.
        """
        self._frames += count
        allowed = self._max_frames + _USELESS_FRAMES_PER_REQUEST * self.requests
        if self._frames > allowed:
            raise ProtocolError(H3_EXCESSIVE_LOAD, "too many frames without effect")
        if 2 * self._frames > allowed:
            self.glitches += count

    def spend_bytes(self, count: int) -> None:
        """Account discarded payload bytes.

        Raises:
            ProtocolError: There were too many.
        """
        self._octets += count
        allowed = self._max_octets + _USELESS_BYTES_PER_REQUEST * self.requests
        if self._octets > allowed:
            raise ProtocolError(H3_EXCESSIVE_LOAD, "too many bytes in unknown frames")
        if 2 * self._octets > allowed:
            self.glitches += 1

    def spend_unidirectional(self) -> None:
        """Account a unidirectional stream of the peer.

        Raises:
            ProtocolError: There were too many.
        """
        self._unidirectional += 1
        if self._unidirectional > self._max_unidirectional:
            raise ProtocolError(H3_EXCESSIVE_LOAD, "too many unidirectional streams")
        if 2 * self._unidirectional > self._max_unidirectional:
            self.glitches += 1

    def spend_abort(self) -> None:
        """Account a request that the client gave up or broke.

        Raises:
            ProtocolError: There were too many.
        """
        self._aborted += 1
        self.glitches += 1
        if self._aborted > max(self._max_aborted, self.requests // 2):
            raise ProtocolError(H3_EXCESSIVE_LOAD, "too many requests were aborted")
