"""The NEW_TOKEN frame of a server on aioquic, which gives none by itself."""

from collections.abc import Callable
from typing import Final

from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder

from spooky.protocol.quic.session import Address
from spooky.protocol.quic.tokens import TOKEN_MAX_BYTES

CAPACITY: Final = 3 + TOKEN_MAX_BYTES
"""Room that the frame needs: its type, a length of one or two bytes, and the token."""


class NewTokenFrame:
    """One token for the client's next connection, given until it arrives.

    Arguments:
        make: Makes the token for an address and a version of QUIC; ``None`` gives none.

    Attributes:
        pending: Whether the frame is to be written.
    """

    __slots__ = ("_make", "pending")

    def __init__(self, make: Callable[[Address, int], bytes] | None) -> None:
        self._make = make
        self.pending = make is not None

    def write(self, builder: QuicPacketBuilder, peer: Address, version: int) -> None:
        """Write the frame, if one is to be given, into a 1-RTT packet to a validated address."""
        if self._make is None:
            return
        token = self._make(peer, version)
        frame = builder.start_frame(
            QuicFrameType.NEW_TOKEN, capacity=CAPACITY, handler=self._on_delivery
        )
        frame.push_uint_var(len(token))
        frame.push_bytes(token)
        self.pending = False

    def _on_delivery(self, delivery: QuicDeliveryState) -> None:
        self.pending = delivery is QuicDeliveryState.LOST
