"""aioquic's streams, made to say when they need attention and what they hold.

aioquic looks at every open stream for every packet it sends. These report what changed, so that
the connection looks only at those.
"""

from collections.abc import ValuesView
from typing import Final

from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import QuicStream, QuicStreamReceiver, QuicStreamSender

from spooky.protocol.quic.limits import DEFAULT_LIMITS
from spooky.protocol.quic.reassembly import GapBudget, WaitingRanges
from spooky.protocol.quic.windows import ReceiveWindow

STREAM_BUFFER: Final = 256 * 1024
"""What a stream may hold that the peer has not acknowledged, on a short path; bytes."""

CONNECTION_BUFFER: Final = 1024 * 1024
"""What all streams of a connection may hold, on a short path; bytes."""

BUFFER_WINDOWS: Final = 2
"""On a longer path, this many congestion windows: one in flight, and one to follow it."""

BUFFER_MAX: Final = 4 * 1024 * 1024
"""What a connection may hold on any path; bytes. A peer decides how far the congestion window
opens, and this fills 300 Mbit/s at a round trip of 50 ms."""

STREAM_SHARE: Final = 16 * 1024
"""What a stream may hold when the others hold all the rest; bytes. Streams that their reader
neglects must not stop the others."""


class StreamWork:
    """What the streams of a connection share.

    Arguments:
        pieces_max: How many ranges may wait.

    Attributes:
        changed: IDs of streams that may have something to send or may have ended.
        buffered: Bytes they hold that the peer has not acknowledged.
        acknowledged: Bytes that it has.
        gaps: Their waiting ranges.
    """

    __slots__ = ("acknowledged", "buffered", "changed", "gaps")

    def __init__(self, pieces_max: int = DEFAULT_LIMITS.stream_pieces) -> None:
        self.changed: dict[int, None] = {}
        self.buffered = 0
        self.acknowledged = 0
        self.gaps = GapBudget(pieces_max)


class TrackedSender(QuicStreamSender):
    """The sending part of a stream.

    Attributes:
        stop_reported: Whether the application knows that the peer wants no more.
    """

    _stream_id: int

    def __init__(self, stream_id: int, writable: bool, work: StreamWork) -> None:
        super().__init__(stream_id=stream_id, writable=writable)
        self.stop_reported = False
        self._work = work

    @property
    def buffered(self) -> int:
        """Bytes held that the peer has not acknowledged."""
        return len(self._buffer)

    @property
    def is_open(self) -> bool:
        """Whether more can be written."""
        return not (
            self.is_finished or self._buffer_fin is not None or self._reset_error_code is not None
        )

    def write(self, data: bytes, end_stream: bool = False) -> None:
        """Take data to send."""
        super().write(data, end_stream)
        self._work.buffered += len(data)
        self._work.changed[self._stream_id] = None

    def reset(self, error_code: int) -> None:
        """Abandon what is not acknowledged, and let go of it."""
        super().reset(error_code)
        if self._reset_error_code is not None:
            self.release()
            self._work.changed[self._stream_id] = None

    def release(self) -> None:
        """Let go of all data."""
        self._work.buffered -= len(self._buffer)
        self._buffer.clear()
        self._pending = RangeSet()
        self._acked = RangeSet()

    def on_data_delivery(
        self, delivery: QuicDeliveryState, start: int, stop: int, fin: bool
    ) -> None:
        """Learn that data was acknowledged or lost."""
        held = len(self._buffer)
        super().on_data_delivery(delivery, start, stop, fin)
        self._work.buffered -= held - len(self._buffer)
        self._work.acknowledged += held - len(self._buffer)
        if self.is_finished or delivery is QuicDeliveryState.LOST:
            self._work.changed[self._stream_id] = None

    def on_reset_delivery(self, delivery: QuicDeliveryState) -> None:
        """Learn that a RESET_STREAM was acknowledged or lost."""
        super().on_reset_delivery(delivery)
        self._work.changed[self._stream_id] = None


class TrackedReceiver(QuicStreamReceiver):
    """The receiving part of a stream."""

    _ranges: WaitingRanges
    _stream_id: int

    def __init__(self, stream_id: int, readable: bool, work: StreamWork) -> None:
        super().__init__(stream_id=stream_id, readable=readable)
        self._ranges = WaitingRanges(work.gaps)
        self._work = work

    @property
    def held(self) -> int:
        """Bytes that wait for what comes before them, gaps included."""
        return len(self._buffer)

    def stop(self, error_code: int = 0) -> None:
        """Ask the peer to stop sending, unless it already has."""
        if not self.is_finished:
            super().stop(error_code)
            self._work.changed[self._stream_id] = None

    def on_stop_sending_delivery(self, delivery: QuicDeliveryState) -> None:
        """Learn that a STOP_SENDING was acknowledged or lost."""
        if not self.is_finished:
            super().on_stop_sending_delivery(delivery)
            self._work.changed[self._stream_id] = None

    def release(self) -> None:
        """Let go of data that waits for its turn."""
        self._buffer.clear()
        self._ranges.clear()


class TrackedStream(QuicStream):
    """A stream.

    Attributes:
        queued: Whether aioquic's queue of streams to serve has it.
    """

    receiver: TrackedReceiver
    sender: TrackedSender

    def __init__(
        self,
        stream_id: int,
        work: StreamWork,
        *,
        window: int,
        peer_window: int,
        readable: bool,
        writable: bool,
    ) -> None:
        # As QuicStream does, but with our own parts.
        self.is_blocked = False
        self.max_stream_data_local = window
        self.max_stream_data_local_sent = window
        self.max_stream_data_remote = peer_window
        self.receiver = TrackedReceiver(stream_id, readable, work)
        self.sender = TrackedSender(stream_id, writable, work)
        self.stream_id: int = stream_id
        self.queued = False

    def __hash__(self) -> int:
        # aioquic serves streams in the order of a set: keep it the same in every run.
        return self.stream_id

    @property
    def is_busy(self) -> bool:
        """Whether it has something to send, or ended and is to be discarded."""
        return (
            not self.sender.buffer_is_empty
            or self.sender.reset_pending
            or self.receiver.stop_pending
            or self.is_finished
        )


class StreamTable(dict[int, TrackedStream]):
    """aioquic's table of streams.

    aioquic walks its values in one place only, to announce new stream limits; it gets those of
    which a limit is due.

    Attributes:
        due: Streams with a limit to announce.
    """

    def __init__(self) -> None:
        super().__init__()
        self.due: dict[int, TrackedStream] = {}

    def values(self) -> ValuesView[TrackedStream]:  # type: ignore[override]
        """Return the streams with a limit to announce."""
        return self.due.copy().values()


class InboundStream(ReceiveWindow):
    """What a stream delivered, and what of it was consumed.

    Attributes:
        delivered: Bytes given to the application, or dropped.
        ended: Whether no more comes.
        stopped: Whether what comes is dropped.
    """

    __slots__ = ("delivered", "ended", "stopped")

    def __init__(self, size: int, maximum: int) -> None:
        super().__init__(size, maximum)
        self.delivered = 0
        self.ended = False
        self.stopped = False
