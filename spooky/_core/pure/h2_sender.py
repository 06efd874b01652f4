# cython: annotation_typing=False
"""Which stream may send how much now: queues, turns and back-pressure.

The engines would send the body of the oldest stream for as long as there is more of it (nghttp2
goes strictly by stream identifier among streams of one urgency) and the others never. So bodies
wait here, and each stream in its turn gives the engine at most a quantum, and never more than the
windows of stream and connection allow: what an engine has is sent by its next ``data_to_send``.

Where a client told what is urgent, that goes first (RFC 9218 section 10). nghttp2 reads the same
signals, but orders only what it was given for one output.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections import deque
from typing import Any

from spooky._core.h2_gate import FrameGate
from spooky._core.h2_limits import (
    BACKLOG_FLOOR_BYTES,
    CONNECTION_BACKLOG_BYTES,
    QUANTUM_BYTES,
    STREAM_BACKLOG_BYTES,
    TRANSMIT_BYTES,
    URGENCY_RESERVE_BYTES,
)
from spooky._core.h2_stream import Stream

# C numbers.
_TRANSMIT = TRANSMIT_BYTES
_QUANTUM = QUANTUM_BYTES
_STREAM_BACKLOG = STREAM_BACKLOG_BYTES
_CONNECTION_BACKLOG = CONNECTION_BACKLOG_BYTES
_BACKLOG_FLOOR = BACKLOG_FLOOR_BYTES
_URGENCY_RESERVE = URGENCY_RESERVE_BYTES


def rank(stream: Stream) -> tuple[int, bool, int]:
    """Return a stream's place among others; those of the same place take turns."""
    return stream.urgency, stream.incremental, 0 if stream.incremental else stream.id


class Sender:
    """The unsent bodies of a connection.

    Arguments:
        engine: Where bodies go, see ``protocol/h2/engine.py``.
        gate: Told of what is sent, for what it allows the peer to answer.

    Attributes:
        turn: Number of the current turn; a turn ends when the engine's output is taken.
        backlog_bytes: Unsent body bytes of all streams.
        body_bytes: Body bytes given to the engine so far.
        ordered: Whether streams have priorities; else all take turns.
        writable: Whether the transport takes more.
    """

    def __init__(self, engine: Any, gate: FrameGate) -> None:
        self._engine = engine
        self._errors = engine.ERRORS
        self._gate = gate
        # Body bytes given to the engine in this turn.
        self._given = 0
        # In the order of their turns; dictionaries because they keep it and delete in O(1).
        self._backlogged: dict[Stream, None] = {}
        self._waiting: dict[Stream, None] = {}
        self.turn = 1
        self.backlog_bytes = 0
        self.body_bytes = 0
        self.ordered = False
        self.writable = True

    @property
    def backlogged(self) -> bool:
        """Whether any stream has unsent data."""
        return bool(self._backlogged)

    def send(self, stream: Stream, data: bytes, end: bool) -> bool:
        """Send a piece of a body now or later; return whether more is welcome."""
        if end:
            stream.local_ended = True
        if not stream.backlog and self._fits_now(stream, len(data)):
            self._give(stream, data, end)
        elif data:
            self._keep(stream, data)
        return self._welcomes_more(stream)

    def send_trailers(self, stream: Stream) -> bool:
        """Send trailers now or after the backlog; return whether all is accepted."""
        stream.local_ended = True
        if not stream.backlog:
            self._give_trailers(stream)
        return self._welcomes_more(stream)

    def feed(self) -> None:
        """Let streams with a backlog have their turns."""
        if not self._backlogged:
            return
        room = min(_TRANSMIT, self._engine.remote_window_size) - self._given
        if self.ordered:
            self._feed_in_order(room)
            return
        for stream in list(self._backlogged):
            if room <= 0:
                return
            if stream.turn != self.turn:
                room -= self._feed_stream(stream, min(room, _QUANTUM))

    def _feed_in_order(self, room: int) -> None:
        """Let the first streams have their turns, and the next only if those can send no more."""
        last = None
        for stream in sorted(self._backlogged, key=rank):
            if room <= 0 or (last is not None and rank(stream) > last):
                return
            if stream.turn != self.turn:
                limit = min(room, _QUANTUM) if stream.incremental else room
                room -= self._feed_stream(stream, limit)
            if stream.backlog and self._window(stream) > 0:
                last = rank(stream)

    def end_turn(self) -> None:
        """Learn that the engine's output was taken."""
        self.turn += 1
        self._given = 0

    def resume(self) -> None:
        """Tell the streams that may send again, if any."""
        if not (self.writable and self._waiting):
            return
        waiting = sorted(self._waiting, key=rank) if self.ordered else list(self._waiting)
        for stream in waiting:
            if stream.local_ended and stream.backlog:
                continue
            if stream in self._waiting and self._accepts(stream, _STREAM_BACKLOG // 2):
                del self._waiting[stream]
                stream.handler.on_writable()

    def is_waiting(self, stream: Stream) -> bool:
        """Return whether a stream was told that no more is welcome, and not yet otherwise."""
        return stream in self._waiting

    def drop(self, stream: Stream) -> None:
        """Forget what a stream has not sent."""
        self.backlog_bytes -= stream.backlog_bytes
        stream.backlog_bytes = 0
        stream.backlog = None
        self._backlogged.pop(stream, None)
        self._waiting.pop(stream, None)

    def has_sent(self, stream: Stream) -> bool:
        """Return whether the end of a stream is in the output taken so far.

        An empty last DATA frame waits for the window to open, in nghttp2.
        """
        if not stream.local_ended or stream.backlog or stream.turn == self.turn:
            return False
        try:
            window = self._engine.stream_remote_window_size(stream.id)
            return bool(window > 0 and self._engine.remote_window_size > 0)
        except self._errors:
            return True

    def is_held_up(self, stream: Stream) -> bool:
        """Return whether a stream has something to send that its own window does not allow."""
        if not stream.backlog:
            return False
        try:
            return bool(self._engine.stream_remote_window_size(stream.id) <= 0)
        except self._errors:
            return False

    def _welcomes_more(self, stream: Stream) -> bool:
        """Return whether what was sent is accepted; if not, the stream is told when it is."""
        # Whoever sent all of a body thinks no more of it once that is accepted, and nobody else
        # asks how long the peer takes to let it go.
        if self._accepts(stream, _STREAM_BACKLOG) and not (stream.local_ended and stream.backlog):
            return True
        self._waiting[stream] = None
        return False

    def _accepts(self, stream: Stream, mark: int) -> bool:
        """Return whether a stream may add to its backlog, given its high or low mark."""
        held = stream.backlog_bytes
        of_connection = _CONNECTION_BACKLOG - stream.urgency * _URGENCY_RESERVE
        return (
            self.writable
            and held < mark
            and (self.backlog_bytes < of_connection or held < _BACKLOG_FLOOR)
        )

    def _window(self, stream: Stream) -> int:
        """Return what the windows allow a stream to send in this turn, bytes."""
        try:
            of_connection: int = self._engine.remote_window_size - self._given
            of_stream: int = self._engine.stream_remote_window_size(stream.id)
            return min(of_connection, of_stream)
        except self._errors:
            # Not open before its head is in the output, or held back by the engine because the
            # peer takes no more streams now; or closed, which is still to be delivered.
            return 0

    def _fits_now(self, stream: Stream, size: int) -> bool:
        """Return whether a piece without backlog before it may go to the engine in this turn."""
        if not size:
            return True
        return (
            stream.turn != self.turn
            and not (self.ordered and self._backlogged)
            and size <= _QUANTUM
            and self._given + size <= _TRANSMIT
            and size <= self._window(stream)
        )

    def _keep(self, stream: Stream, data: bytes) -> None:
        """Add to the backlog of a stream."""
        if stream.backlog is None:
            stream.backlog = deque()
        stream.backlog.append(data)
        stream.backlog_bytes += len(data)
        self.backlog_bytes += len(data)
        self._backlogged[stream] = None

    def _give(self, stream: Stream, data: bytes, end: bool) -> None:
        """Give a piece to the engine."""
        stream.turn = self.turn
        self._given += len(data)
        self._gate.data_sent += 1
        try:
            self._engine.send_data(stream.id, data, end_stream=end)
        except self._errors:
            return  # The stream is closed; the event that says so is on its way.
        self.body_bytes += len(data)

    def _give_trailers(self, stream: Stream) -> None:
        """Give the trailers to the engine."""
        stream.turn = self.turn
        try:
            self._engine.send_trailers(stream.id, stream.trailers or ())
        except self._errors:
            return

    def _feed_stream(self, stream: Stream, room: int) -> int:
        """Give the engine so much of a stream's backlog; return how much that was, bytes."""
        backlog = stream.backlog
        room = min(room, self._window(stream))
        fed = 0
        while backlog and fed < room:
            size = min(room - fed, _QUANTUM)
            piece = backlog[0][stream.offset : stream.offset + size]
            fed += len(piece)
            stream.offset += len(piece)
            if stream.offset == len(backlog[0]):
                backlog.popleft()
                stream.offset = 0
            ends = stream.local_ended and not backlog
            self._give(stream, piece, ends and stream.trailers is None)
            if ends and stream.trailers is not None:
                self._give_trailers(stream)
        stream.backlog_bytes -= fed
        self.backlog_bytes -= fed
        if fed:
            # Behind the others that wait, if there is more.
            del self._backlogged[stream]
            if backlog:
                self._backlogged[stream] = None
        return fed
