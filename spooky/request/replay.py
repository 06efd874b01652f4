"""The part of a request body that was sent, kept to be sent again to another backend."""

from spooky._core.gate import Places


class Replay:
    """A copy of what was sent of one body, as long as it is small and there is room.

    Arguments:
        limit: Largest body kept; bytes.
        room: Where its bytes are accounted.
        room_max: How many there may be of all such bodies.

    Attributes:
        pieces: What was sent, in order.
        size: How much is kept; bytes.
        is_complete: Whether that is all of it; once it is not, nothing is kept any more.
    """

    __slots__ = ("_limit", "_room", "_room_max", "is_complete", "pieces", "size")

    def __init__(self, limit: int, room: Places, room_max: int) -> None:
        self._limit = limit
        self._room = room
        self._room_max = room_max
        self.size = 0
        self.pieces: list[bytes] = []
        self.is_complete = True

    def add(self, data: bytes) -> bool:
        """Keep a piece that is sent, or let go of everything if that is too much.

        Returns:
            Whether everything so far is kept; if not, nothing need be added any more.
        """
        size = len(data)
        if not size:
            return self.is_complete
        if (
            not self.is_complete
            or self.size + size > self._limit
            or not self._room.take(self._room_max, size)
        ):
            self.drop()
            return False
        self.size += size
        self.pieces.append(data)
        return True

    def drop(self) -> None:
        """Keep nothing any more; idempotent."""
        self.is_complete = False
        self.pieces.clear()
        size, self.size = self.size, 0
        if size:
            self._room.give(size)
