"""Whole HTTP/2 frames and their number; the twin is the source, and says the rest."""

from spooky._core.pure.h2_gate import PREFACE, FrameFloodError, FrameGate, TokenBucket

__all__ = ["PREFACE", "FrameFloodError", "FrameGate", "TokenBucket"]
