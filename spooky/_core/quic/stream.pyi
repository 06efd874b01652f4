"""A stream, and the queue of those that have data to send."""

class Stream:
    """What is known of a stream; those who act on it are the parts of ``Streams``."""

class SendQueue:
    """Streams in the order in which they send: a binary heap, in which each knows its place.

    The more urgent go first (RFC 9218 section 10). Of those equally urgent, the ones that are of
    use only when complete go one after the other, by their IDs; then the incremental ones, which
    take turns.

    Arguments:
        name: What streams in it have in ``queue``.

    Attributes:
        count: How many there are.
    """

    @property
    def count(self) -> int: ...
    def __init__(self, name: int) -> None: ...
