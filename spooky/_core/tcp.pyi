"""Reading and writing a connected TCP socket; the twin says the rest."""

from spooky._core.pure.tcp import RECEIVE_BYTES_MAX, receive, send

__all__ = ["RECEIVE_BYTES_MAX", "receive", "send"]
