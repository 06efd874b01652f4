"""Bytes that a session holds until its transport takes them."""

from typing import Final

HIGH_WATER_BYTES: Final = 64 * 1024
"""Above this many held bytes whoever sends is told to hold back: one turn's worth of writing."""


class Outbox:
    """Holds what is to be written; pieces are joined once, when they are taken.

    Attributes:
        size: Bytes held.
        writable: Whether the transport takes bytes.
    """

    __slots__ = ("_pieces", "size", "writable")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0
        self.writable = True

    @property
    def has_room(self) -> bool:
        """Whether more may be put in."""
        return self.writable and self.size < HIGH_WATER_BYTES

    def put(self, *pieces: bytes) -> None:
        """Hold these bytes behind those already held."""
        for piece in pieces:
            if piece:
                self.size += len(piece)
                self._pieces.append(piece)

    def take(self) -> bytes:
        """Return the bytes held, and hold none."""
        pieces = self._pieces
        if not pieces:
            return b""
        self._pieces = []
        self.size = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
