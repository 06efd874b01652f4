"""What happens on a connection besides what aioquic tells, and where its log goes."""

import logging
from collections.abc import MutableMapping
from typing import Any

from aioquic.quic import events


class ConnectionIdGenerated(events.QuicEvent):
    """A connection ID exists, and packets may soon carry it.

    aioquic reports an ID when it sends it, and each time it sends it again.
    """

    def __init__(self, connection_id: bytes) -> None:
        self.connection_id = connection_id


class StreamsAvailable(events.QuicEvent):
    """The peer lets us open more streams."""


class PeerLog(logging.LoggerAdapter[logging.Logger]):
    """aioquic's log of a connection: what a peer does wrong is no warning of ours."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the connection's ID in front."""
        return f"[{self.extra['id'] if self.extra else ''}] {msg}", kwargs

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log for debugging."""
        self.debug(msg, *args, **kwargs)

    error = warning
    info = warning
