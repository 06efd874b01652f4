"""Pacing (RFC 9002 section 7.7): a window spread over a round trip, in short bursts."""

class Pacer:
    """A token bucket, full at first, that fills at the rate of the window."""

    def set_rate(
        self, window: int, smoothed_rtt: float, slow_start: bool, size: int, now: float
    ) -> None:
        """Follow the window.

        Arguments:
            window: Bytes.
            smoothed_rtt: Seconds.
            slow_start: Whether the window is growing exponentially.
            size: Of the largest datagram, bytes.
            now: Seconds.
        """

    def on_sent(self, size: int, now: float) -> None:
        """Take what was sent, bytes, out of the bucket."""

    def room(self, now: float) -> int:
        """Return how many bytes may be sent now."""

    def deadline(self, size: int, now: float) -> float:
        """Return when a datagram of ``size`` bytes may be sent, at least a timer's tick from now.

        0 if it may be sent now.
        """
