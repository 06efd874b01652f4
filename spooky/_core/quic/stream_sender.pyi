"""The sending parts of a connection's streams (RFC 9000 sections 2.2 and 3.1)."""

from spooky._core.quic.stream_limits import StreamLimits

class StreamSender(StreamLimits):
    """What the application has given to send, and the STREAM frames made of it.

    Streams that have something to send stand in one of two queues, since what was sent before and
    ends without data do not wait for the connection's flow control.
    """

    @property
    def buffered(self) -> int: ...
    @property
    def ends_outstanding(self) -> int: ...
    def send(self, stream_id: int, data: bytes, fin: bool) -> int:
        """Send stream data.

        Data for a stream that is over, unknown, or of which our part has ended counts as accepted.

        Returns:
            How many bytes were accepted; if not all, ``on_stream_writable`` tells when to offer
            the rest. ``fin`` counts only if all were accepted.
        """

    def reset(self, stream_id: int, error_code: int) -> int:
        """Abandon our sending part; what is unsent is dropped. Always returns 0."""

    def set_priority(self, stream_id: int, urgency: int, incremental: bool) -> int:
        """Say in which order streams are served (RFC 9218); always returns 0.

        Arguments:
            urgency: From 0, the most urgent, to 7; -1 goes before these; the nearest is taken.
            incremental: Whether it is of use in parts, and so takes turns with others.
        """
