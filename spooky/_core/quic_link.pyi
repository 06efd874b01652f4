"""A client's HTTP/3 connection and its UDP socket; the twin is the source, and says the rest."""

from spooky._core.pure.quic_link import DATAGRAMS_PER_TURN, LOSSES, Link

__all__ = ["DATAGRAMS_PER_TURN", "LOSSES", "Link"]
