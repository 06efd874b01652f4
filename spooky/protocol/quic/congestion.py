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


class UsedWindowGrows(_Controller):
    """Mixed into a controller: no growth while the application is what limits sending.

    Attributes:
        in_use: Whether something else limits it; set after every flush.
    """

    in_use = False

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        """Count a packet as delivered, and let the window grow if it was needed."""
        if self.in_use:
            super().on_packet_acked(now=now, packet=packet)
        else:
            self.bytes_in_flight -= packet.sent_bytes


class Reno(UsedWindowGrows, RenoCongestionControl):
    """NewReno (RFC 9002 section 7)."""


class Cubic(UsedWindowGrows, CubicCongestionControl):
    """CUBIC (RFC 9438)."""

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        """Count a packet as delivered; the path is not idle, whoever limits sending."""
        self.last_ack = now
        super().on_packet_acked(now=now, packet=packet)


ALGORITHMS: Final = {"cubic": "spooky-cubic", "reno": "spooky-reno"}
"""What the configuration calls them, and what aioquic does."""

register_congestion_control(ALGORITHMS["reno"], Reno)
register_congestion_control(ALGORITHMS["cubic"], Cubic)
