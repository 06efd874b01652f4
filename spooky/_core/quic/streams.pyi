"""The streams of a QUIC connection (RFC 9000 sections 2 to 4), without packets, clock and I/O.

``Streams`` is made of one class for each subject, each on top of the one before: the table of
streams and the limits on it, the sending parts, the control frames, and the receiving parts.
"""

from spooky._core.quic.sent_packet import SentPacket
from spooky._core.quic.stream_receiver import StreamReceiver

class Streams(StreamReceiver):
    """The streams of a connection.

    Frames are given to it as they arrive, and it writes the frames to send. What it tells the
    application by upcalls it tells when the connection asks it to; everything else may be called
    from within those.

    Arguments:
        is_client: Which side this is.
        parameters: The attributes of ``EndpointParameters`` that are about streams.

    Attributes:
        handler: A ``QuicHandler``, to which the upcalls about streams go.
        now: Seconds; set before calls that measure time.
        smoothed_rtt: The round-trip time, seconds.
        congestion_window: Of which more than one is held to send; bytes.
        closed: Whether everything was dropped, and is ignored.
        received: What the peer has used of the connection's limit; bytes.
        sent: What we have used of the peer's; bytes.
        buffered: What is held until the peer acknowledges it; bytes.
        acknowledged: How much of what was held the peer has; bytes.
        gaps: Ranges of data that wait for what comes before them.
        control_count: Streams with control frames to write.
        ends_outstanding: Ends and resets of streams that the peer has not acknowledged.
    """

    def held(self) -> list[tuple[int, int]]:
        """Return the streams that hold data, with how much; bytes.

        That is what the peer has not acknowledged, and what it sent ahead of its turn.
        """

    def receive_frame(self, frame: bytes) -> int:
        """Take one frame, its type included; return how many bytes it has."""

    def end_batch(self) -> None:
        """Make the upcalls that a connection has made at the end of a batch."""

    def wants_to_write(self) -> bool:
        """Return whether there is something to write."""

    def written(self, size: int, packet: SentPacket) -> bytes:
        """Return what ``write`` writes into so many bytes."""

    def acked(self, packet: SentPacket) -> None:
        """Learn that a packet was acknowledged."""

    def lost(self, packet: SentPacket) -> None:
        """Learn that a packet was lost."""

    def has_all_acknowledged(self) -> bool:
        """Return whether the peer has everything that was sent."""

    def shut(self) -> None:
        """Drop everything."""
