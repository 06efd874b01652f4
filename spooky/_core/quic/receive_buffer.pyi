"""Stream data that waits for what comes before it.

The bytes lie in pages that are made where data falls, so that one byte far ahead costs a page and
not all that is between (RFC 9000 section 21.7), and many small pieces cost no more than their
pages. What is held is kept as ranges, whose number the caller bounds.
"""

from spooky._core.quic.ranges import RangeSet

class ReceiveBuffer:
    """The bytes of a stream that came ahead of their turn.

    Arguments:
        start: The offset that is waited for; nothing below it is ever added.

    Attributes:
        ranges: Their offsets.
        page_count: The number of pages that hold something.
    """

    @property
    def ranges(self) -> RangeSet: ...
    @property
    def page_count(self) -> int: ...
    def __init__(self, start: int) -> None: ...
    def put(self, offset: int, data: bytes) -> None:
        """Keep bytes, at least one, that came at an offset."""

    def take(self, offset: int) -> bytes:
        """Drop what is below an offset, and return what follows it without a gap."""
