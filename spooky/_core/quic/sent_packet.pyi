"""What is remembered of a packet until it is acknowledged or lost."""

class SentPacket:
    """A packet as its sender remembers it.

    Attributes:
        number: Its packet number.
        time_sent: When it was sent, seconds.
        size: Its length on the wire, bytes.
        path: Which of the connection's paths it was sent on, counted by loss recovery.
        ack_eliciting: Whether the peer must acknowledge it.
        in_flight: Whether it counts against the congestion window.
        is_mtu_probe: Whether its loss says nothing about congestion (RFC 9000 section 14.4).
        ecn: The codepoint it was sent with.
    """

    number: int
    time_sent: float
    size: int
    path: int
    ack_eliciting: bool
    in_flight: bool
    is_mtu_probe: bool
    ecn: int
    def record(
        self, kind: int, id: int, offset: int = 0, length: int = 0, fin: bool = False
    ) -> None:
        """Note a frame that the packet carries."""

    def records(self) -> list[tuple[int, int, int, int, bool]]:
        """Return the noted frames as tuples of kind, id, offset, length and fin."""
