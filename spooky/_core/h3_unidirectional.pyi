"""The peer's unidirectional streams; the twin is the source, and says the rest."""

from spooky._core.pure.h3_unidirectional import (
    CONTROL_FRAME_MAX_BYTES,
    ControlStream,
    DecoderInstructions,
    EncoderInstructions,
    UnidirectionalStream,
)

__all__ = [
    "CONTROL_FRAME_MAX_BYTES",
    "ControlStream",
    "DecoderInstructions",
    "EncoderInstructions",
    "UnidirectionalStream",
]
