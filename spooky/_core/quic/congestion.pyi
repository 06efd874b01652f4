"""Congestion control: NewReno (RFC 9002 section 7) and CUBIC (RFC 9438), with HyStart++ (RFC 9406).

Windows are in bytes, times in seconds.
"""

class CongestionController:
    """What both algorithms share: slow start, and when a reaction is due.

    Arguments:
        max_datagram_size: Bytes.

    Attributes:
        window: Bytes that may be in flight.
        slow_start_threshold: Bytes; 2**64 - 1 until the first reduction.
        recovery_start: When the last recovery period began; -infinite for none.
        max_datagram_size: Bytes.
    """

    @property
    def window(self) -> int: ...
    @property
    def slow_start_threshold(self) -> int: ...
    @property
    def recovery_start(self) -> float: ...
    @property
    def max_datagram_size(self) -> int: ...
    def __init__(self, max_datagram_size: int) -> None: ...
    def in_slow_start(self) -> bool:
        """Return whether the window still grows exponentially."""

    def set_max_datagram_size(self, size: int) -> None:
        """Note that the path carries datagrams of another size, bytes."""

    def on_rtt_sample(self, rtt: float, time_sent: float, now: float) -> None:
        """Look for the growing delay that ends slow start (RFC 9406); before ``on_acked``.

        Arguments:
            rtt: The sample, seconds.
            time_sent: When the packet was sent that gave it.
            now: Seconds.
        """

    def on_acked(self, size: int, smoothed_rtt: float, now: float) -> None:
        """Grow the window.

        Arguments:
            size: Bytes acknowledged that were sent after ``recovery_start`` while the window was
                in use.
            smoothed_rtt: Seconds.
            now: Seconds.
        """

    def on_underutilized(self, now: float) -> None:
        """Note that what was acknowledged had not filled the window (RFC 9002 section 7.8)."""

    def on_congestion(self, time_sent: float, now: float) -> None:
        """React to a loss or ECN-CE mark, once a round trip.

        Arguments:
            time_sent: When the packet was sent that was lost or marked.
            now: Seconds.
        """

    def on_spurious_congestion(self) -> None:
        """Take the last reduction back: nothing was lost (RFC 9438 section 4.9.2)."""

    def on_persistent_congestion(self) -> None:
        """Start again from the smallest window (RFC 9002 section 7.6.2)."""

class NewReno(CongestionController):
    """RFC 9002 section 7: a datagram a window, half after a loss."""

    def on_persistent_congestion(self) -> None:
        """Start again from the smallest window (RFC 9002 section 7.6.2)."""

class Cubic(CongestionController):
    """RFC 9438: growth by the time since the last reduction."""

    def __init__(self, max_datagram_size: int) -> None: ...
    def on_underutilized(self, now: float) -> None:
        """Stop the clock of the cubic function (RFC 9438 section 5.8)."""

    def on_persistent_congestion(self) -> None:
        """Start again from the smallest window, forgetting the last one (RFC 9438 section 4.8)."""

def make_controller(name: str, max_datagram_size: int) -> CongestionController:
    """Return a controller by name.

    Arguments:
        name: ``cubic`` or ``reno``.
        max_datagram_size: Bytes.

    Raises:
        ValueError: There is no such algorithm.
    """
