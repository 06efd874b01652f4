"""HTTP/3 request streams; the twin is the source, and says the rest."""

from spooky._core.pure.h3 import (
    NO_HANDLER,
    STREAM_ID_STEP,
    Connection,
    RequestStream,
    Role,
    SeenStreams,
)

__all__ = ["NO_HANDLER", "STREAM_ID_STEP", "Connection", "RequestStream", "Role", "SeenStreams"]
