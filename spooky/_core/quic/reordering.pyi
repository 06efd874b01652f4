"""What a path that reorders is allowed before a packet counts as lost (RFC 9002 section 6.1)."""

class Reordering:
    """The thresholds of one path, and the losses that may yet turn out to be none.

    Attributes:
        packet_threshold: How many numbers later packets are before one is lost.
        time_threshold: How many round trips one may take before it is lost.
    """

    @property
    def packet_threshold(self) -> int: ...
    @property
    def time_threshold(self) -> float: ...
