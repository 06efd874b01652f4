"""What a stream sends, until the peer has it (RFC 9000 section 3.1).

The application's bytes objects are kept as they are, and let go as the peer acknowledges them from
the front. Of the rest it is known what was sent, what of that was lost, and what was acknowledged
out of order.
"""

class SendBuffer:
    """The bytes that a stream was given to send.

    Attributes:
        base: The offset below which the peer has everything.
        next: The lowest offset that was never sent.
        end: The offset after the last byte given.
        ended: Whether the stream ends there.
        chunk_count: How many bytes objects are kept.
    """

    @property
    def base(self) -> int: ...
    @property
    def next(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def ended(self) -> bool: ...
    @property
    def chunk_count(self) -> int: ...
    def append(self, data: bytes, end: bool) -> int:
        """Take bytes, and note whether they are the last; always returns 0."""

    def take(self, most: int, limit: int) -> tuple[int, bytes, bool]:
        """Count up to ``most`` bytes below ``limit`` as sent.

        Returns:
            Their offset, the bytes, and whether the end goes with them.
        """

    def acked(self, start: int, stop: int, end: bool) -> int:
        """Learn that a range was acknowledged; return by how many bytes less is held."""

    def lost(self, start: int, stop: int, end: bool) -> None:
        """Learn that a range was lost."""

    def state(self) -> tuple[bool, bool]:
        """Return whether there is something to repeat, and whether the peer has everything."""
