"""What a session holds in memory for one stream, so that the largest can be found."""

from collections.abc import Callable
from typing import NamedTuple

from spooky._core.reasons import Reason
from spooky.protocol.stream import StreamHandler


class Holding(NamedTuple):
    """Bytes that a session holds for one stream.

    Attributes:
        size: How many: what was to be sent and the peer has not taken, what came ahead of its turn.
        handler: Who takes the stream's upcalls; ``None`` if it is over but for what is held.
        reset: Resets the stream with a reason, without telling the handler.
    """

    size: int
    handler: StreamHandler | None
    reset: Callable[[Reason], None]
