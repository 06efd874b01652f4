"""Holding a response of undeclared length back, where the configuration asks for it."""

from spooky.protocol.stream import Field


class Prebuffer:
    """A response head and what came of its body.

    Arguments:
        head: The response head for the client.
        limit: Most bytes to hold.

    Attributes:
        size: How many are held.
    """

    def __init__(self, head: list[Field], limit: int) -> None:
        self._head = head
        self._limit = limit
        self.size = 0
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> bool:
        """Keep a piece.

        Returns:
            Whether there was room for it.
        """
        if self.size + len(data) > self._limit:
            return False
        self.size += len(data)
        self._pieces.append(data)
        return True

    def body(self) -> bytes:
        """Return what was kept."""
        return b"".join(self._pieces)

    def head(self, complete: bool) -> list[Field]:
        """Return the head, with the length where the body is complete."""
        if not complete:
            return self._head
        return [*self._head, (b"content-length", b"%d" % self.size)]
