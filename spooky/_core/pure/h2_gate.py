# cython: annotation_typing=False
"""Whole frames only, and not too many of the cheap ones.

The engines are given whole frames. nghttp2 takes parts as well, but forgets to credit the part of
a DATA frame that came before its stream was reset, which starves the connection one cancelled
body at a time, and counts each part of a CONTINUATION frame as one more of them.

Reading the frame headers here also tells what every kind of frame comes to, for both engines in
the same way, before the engine works on it (attacks.md, rows 1, 3, 6 and 7).

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from typing import Any, Final

from spooky._core.h2_limits import MAX_FRAME_BYTES

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 section 3.4)."""

_FRAME_HEADER_BYTES = 9
_SETTING_BYTES = 6

# Frame types, RFC 9113 section 6.
_DATA = 0x0
_HEADERS = 0x1
_RST_STREAM = 0x3
_SETTINGS = 0x4
_CONTINUATION = 0x9

_MAX_FRAME = MAX_FRAME_BYTES

_CONTROL_FRAMES_PER_HEAD = 2
"""Control frames that a head earns: browsers send PRIORITY_UPDATE or WINDOW_UPDATE with it."""

_CONTROL_FRAMES_PER_DATA_SENT = 10
"""Control frames that a piece of a body we send earns, as in Envoy: readers send WINDOW_UPDATE,
and gRPC measures the path with a PING for nearly every message."""


class TokenBucket:
    """So many at once, and so many more each second."""

    def __init__(self, rate: tuple[int, int]) -> None:
        self._burst = rate[0]
        self._rate = rate[1]
        self._tokens = float(rate[0])
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take one; false if there is none left.

        Arguments:
            now: Seconds, not going backwards.
        """
        tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if tokens < 1:
            return False
        self._tokens = tokens - 1
        return True

    def is_low(self) -> bool:
        """Return whether less than half is left."""
        return 2 * self._tokens < self._burst

    def refill(self, tokens: float) -> None:
        """Put some back, at most until it is full."""
        self._tokens = min(self._burst, self._tokens + tokens)


class FrameFloodError(Exception):
    """The peer sent more frames of some kind than anybody needs."""


class FrameGate:
    """Cuts what is received into whole frames and counts them.

    Arguments:
        limits: How many frames of which kind may come, see ``protocol/h2/limits.py``.
        preface_bytes: Length of what comes before the first frame.

    Attributes:
        resets: The streams that were reset by the bytes last admitted.
        too_large: Whether a frame came that is larger than we allow (RFC 9113 section 4.2).
        data_sent: Pieces of bodies sent since the last control frame; counted up by the session.
        glitches: How odd the peer was: resets, and frames beyond half of a budget. The session
            counts here too.
    """

    def __init__(self, limits: Any, preface_bytes: int) -> None:
        self.resets: set[int] = set()
        self.too_large = False
        self.data_sent = 0
        self.glitches = 0
        self._preface_bytes = preface_bytes
        self._tail = b""
        self._continuations = 0
        self._max_continuations = limits.max_continuations
        self._max_settings_bytes = limits.max_settings * _SETTING_BYTES
        self._resets = TokenBucket(limits.peer_resets)
        self._settings = TokenBucket(limits.settings_frames)
        self._control = TokenBucket(limits.control_frames)

    def admit(self, data: bytes, now: float) -> bytes:
        """Take received bytes and return the whole frames there are; the rest is kept.

        Nothing follows a frame that is too large, and :attr:`too_large` is true then. nghttp2 would
        take it if it was a CONTINUATION.

        Raises:
            FrameFloodError: There were too many frames of some kind.
        """
        if self._tail:
            data = self._tail + data
        if self.resets:
            self.resets.clear()
        size = len(data)
        position = self._preface_bytes
        while position + _FRAME_HEADER_BYTES <= size:
            length = (data[position] << 16) + (data[position + 1] << 8) + data[position + 2]
            end = position + _FRAME_HEADER_BYTES + length
            if length > _MAX_FRAME:
                self.too_large = True
                self._tail = b""
                return data[:position]
            if end > size:
                break
            kind = data[position + 3]
            if kind == _RST_STREAM:
                self.resets.add(_stream_id(data, position))
            if kind != _DATA:
                self._count(kind, length, now)
            position = end
        # Beyond the end only when part of the preface is still to come.
        self._preface_bytes = max(0, position - size)
        if position >= size:
            self._tail = b""
            return data
        self._tail = data[position:]
        return data[:position]

    def _count(self, kind: int, length: int, now: float) -> None:
        """Count a frame that is not DATA."""
        if kind == _HEADERS:
            self._continuations = 0
            self._control.refill(_CONTROL_FRAMES_PER_HEAD)
        elif kind == _CONTINUATION:
            self._continuations += 1
            if self._continuations > self._max_continuations:
                raise FrameFloodError("CONTINUATION")
        elif kind == _RST_STREAM:
            self.glitches += 1
            if not self._resets.take(now):
                raise FrameFloodError("RST_STREAM")
        elif kind == _SETTINGS:
            if length > self._max_settings_bytes or not self._settings.take(now):
                raise FrameFloodError("SETTINGS")
            self.glitches += self._settings.is_low()
        else:
            self._control.refill(_CONTROL_FRAMES_PER_DATA_SENT * self.data_sent)
            self.data_sent = 0
            if not self._control.take(now):
                raise FrameFloodError("control frames")
            self.glitches += self._control.is_low()


def _stream_id(data: bytes, position: int) -> int:
    """Return the stream of the frame at a position (RFC 9113 section 4.1)."""
    return int.from_bytes(data[position + 5 : position + 9], "big") & 0x7FFFFFFF
