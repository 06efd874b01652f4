"""Whole frames only, and not too many of the cheap ones.

The engines are given whole frames. nghttp2 takes parts as well, but forgets to credit the part of
a DATA frame that came before its stream was reset, which starves the connection one cancelled
body at a time, and counts each part of a CONTINUATION frame as one more of them.

Reading the frame headers here also tells what every kind of frame comes to, for both engines in
the same way, before the engine works on it (attacks.md, rows 1, 3, 6 and 7).
"""

from struct import Struct
from typing import Final

from spooky.protocol.h2.limits import MAX_FRAME_BYTES, Limits, Rate

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 section 3.4)."""

FRAME_HEADER_BYTES: Final = 9
SETTING_BYTES: Final = 6

# Frame types, RFC 9113 section 6.
DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
CONTINUATION: Final = 0x9

CONTROL_FRAMES_PER_HEAD: Final = 2
"""Control frames that a head earns: browsers send PRIORITY_UPDATE or WINDOW_UPDATE with it."""

CONTROL_FRAMES_PER_DATA_SENT: Final = 10
"""Control frames that a piece of a body we send earns, as in Envoy: readers send WINDOW_UPDATE,
and gRPC measures the path with a PING for nearly every message."""

# Length and type in one word, then flags and stream identifier.
_FRAME_HEADER: Final = Struct(">IBI")
_STREAM_ID_MASK: Final = 0x7FFFFFFF


class TokenBucket:
    """So many at once, and so many more each second."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: Rate) -> None:
        self._burst, self._rate = rate
        self._tokens = float(self._burst)
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

    def refill(self, tokens: float) -> None:
        """Put some back, at most until it is full."""
        self._tokens = min(self._burst, self._tokens + tokens)


class FrameFloodError(Exception):
    """The peer sent more frames of some kind than anybody needs."""


class FrameGate:
    """Cuts what is received into whole frames and counts them.

    Arguments:
        limits: How many frames of which kind may come.
        preface_bytes: Length of what comes before the first frame.

    Attributes:
        resets: The streams that were reset by the bytes last admitted.
        data_sent: Pieces of bodies sent since the last control frame; counted up by the session.
    """

    __slots__ = (
        "_continuations", "_control", "_max_continuations", "_max_settings_bytes", "_preface_bytes",
        "_resets", "_settings", "_tail", "data_sent", "resets",
    )  # fmt: skip

    def __init__(self, limits: Limits, preface_bytes: int) -> None:
        self.resets: set[int] = set()
        self.data_sent = 0
        self._preface_bytes = preface_bytes
        self._tail = b""
        self._continuations = 0
        self._max_continuations = limits.max_continuations
        self._max_settings_bytes = limits.max_settings * SETTING_BYTES
        self._resets = TokenBucket(limits.peer_resets)
        self._settings = TokenBucket(limits.settings_frames)
        self._control = TokenBucket(limits.control_frames)

    def admit(self, data: bytes, now: float) -> bytes:
        """Take received bytes and return the whole frames there are; the rest is kept.

        A frame that is too large is returned as it is, for the engine to refuse.

        Raises:
            FrameFloodError: There were too many frames of some kind.
        """
        if self._tail:
            data = self._tail + data
        if self.resets:
            self.resets.clear()
        size = len(data)
        position = self._preface_bytes
        while position + FRAME_HEADER_BYTES <= size:
            word, _, stream_id = _FRAME_HEADER.unpack_from(data, position)
            length = word >> 8
            end = position + FRAME_HEADER_BYTES + length
            if length > MAX_FRAME_BYTES:
                position = size
                break
            if end > size:
                break
            kind = word & 0xFF
            if kind:
                self._count(kind, length, stream_id, now)
            position = end
        # Beyond the end only when part of the preface is still to come.
        self._preface_bytes = max(0, position - size)
        if position >= size:
            self._tail = b""
            return data
        self._tail = data[position:]
        return data[:position]

    def _count(self, kind: int, length: int, stream_id: int, now: float) -> None:
        """Count a frame that is not DATA."""
        if kind == HEADERS:
            self._continuations = 0
            self._control.refill(CONTROL_FRAMES_PER_HEAD)
        elif kind == CONTINUATION:
            self._continuations += 1
            if self._continuations > self._max_continuations:
                raise FrameFloodError("CONTINUATION")
        elif kind == RST_STREAM:
            self.resets.add(stream_id & _STREAM_ID_MASK)
            if not self._resets.take(now):
                raise FrameFloodError("RST_STREAM")
        elif kind == SETTINGS:
            if length > self._max_settings_bytes or not self._settings.take(now):
                raise FrameFloodError("SETTINGS")
        else:
            self._control.refill(CONTROL_FRAMES_PER_DATA_SENT * self.data_sent)
            self.data_sent = 0
            if not self._control.take(now):
                raise FrameFloodError("control frames")
