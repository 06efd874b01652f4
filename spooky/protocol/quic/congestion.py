"""aioquic's congestion controllers, which here grow only while their window is in use.

aioquic's grow on every acknowledgement, so a client that fetches small things for long, or
acknowledges what it did not receive, opens the window far beyond what the path was seen to carry
(RFC 9002 section 7.8, attack 20).
"""

from typing import TYPE_CHECKING, Final

from aioquic.quic.congestion.base import register_congestion_control
from aioquic.quic.congestion.cubic import CubicCongestionControl
from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.quic.packet_builder import QuicSentPacket

if TYPE_CHECKING:
    _Controller = RenoCongestionControl
else:
    _Controller = object

IN_USE_FRACTION: Final = 2
"""The window counts as used while at least this part of it was in flight after the last packet."""


class UsedWindowGrows(_Controller):
    """Mixed into a controller: no growth while the application is what limits sending."""

    _flight = 0

    def on_packet_sent(self, *, packet: QuicSentPacket) -> None:
        """Count a packet as in flight."""
        super().on_packet_sent(packet=packet)
        self._flight = self.bytes_in_flight

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        """Count a packet as delivered, and let the window grow if it was needed."""
        if self._flight * IN_USE_FRACTION < self.congestion_window:
            self.bytes_in_flight -= packet.sent_bytes
        else:
            super().on_packet_acked(now=now, packet=packet)


class Reno(UsedWindowGrows, RenoCongestionControl):
    """NewReno (RFC 9002 section 7)."""


class Cubic(UsedWindowGrows, CubicCongestionControl):
    """CUBIC (RFC 9438)."""


ALGORITHMS: Final = {"reno": "spooky-reno", "cubic": "spooky-cubic"}
"""What the configuration calls them, and what aioquic does."""

register_congestion_control(ALGORITHMS["reno"], Reno)
register_congestion_control(ALGORITHMS["cubic"], Cubic)
