"""HTTP/3 request streams; the twin is the source, and says the rest."""

from spooky._core.pure.h3 import (
    STREAM_ID_STEP,
    UNIDIRECTIONAL,
    Connection,
    RequestStream,
    Role,
    SeenStreams,
)

__all__ = [
    "STREAM_ID_STEP",
    "UNIDIRECTIONAL",
    "Connection",
    "RequestStream",
    "Role",
    "SeenStreams",
]
