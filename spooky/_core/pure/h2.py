# cython: annotation_typing=False
"""What both roles of an HTTP/2 session share: the streams, the transport's calls, the end.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from spooky._core import h2_stream, reasons
from spooky._core.h2_gate import FrameFloodError, FrameGate, TokenBucket
from spooky._core.h2_limits import RETIRE_AFTER_CUT_BODIES, TRANSMIT_BYTES
from spooky._core.h2_sender import Sender
from spooky._core.h2_stream import Stream
from spooky._core.reasons import (
    H2_ENHANCE_YOUR_CALM,
    H2_FRAME_SIZE_ERROR,
    H2_INTERNAL_ERROR,
    H2_NO_ERROR,
    H2_PROTOCOL_ERROR,
    Reason,
)

Field = tuple[bytes, bytes]

_GOAWAY: Final = Struct(">9sII")
_GOAWAY_HEADER: Final = b"\0\0\x08\x07\0\0\0\0\0"

# A C number.
_TRANSMIT = TRANSMIT_BYTES


class Role(NamedTuple):
    """What differs between a server's session and a client's.

    Attributes:
        head_event: The name of the engine's event for the head of a message.
        preface_bytes: Length of what the peer sends before the first frame.
        stop_code: With which code a stream is reset whose rest is not wanted.
        lost: Why streams end under which the transport went away.
        broken: Why they end when the peer broke the protocol.
        overloaded: Why they end when the peer asked for too much.
    """

    head_event: str
    preface_bytes: int
    stop_code: int
    lost: Reason
    broken: Reason
    overloaded: Reason


def list_fields(headers: Iterable[Any]) -> list[Field]:
    """Return plain pairs; engines mark never-indexed fields by subclasses of ``tuple``."""
    return list(map(tuple, headers))


class Session(h2_stream.Owner):
    """An HTTP/2 connection, in either role.

    The transport calls ``transmit`` after each ``receive``, and whenever ``wake`` was called.

    Arguments:
        wake: Called when output became pending outside ``receive``.
        limits: What the peer may send, see ``protocol/h2/limits.py``.
        role: Which side this is.
        engine: What frames and compresses, see ``protocol/h2/engine.py``.

    Attributes:
        closed: See ``ByteSession`` in ``protocol/session.py``, as for the next three.
        close_reason: Why.
        want_read: Always true: windows hold the peer back.
        active_streams: Streams that have not ended.
        unanswered_pings: Pings of ours that the peer has not answered.
        unwritten: Tells how many of the bytes from ``transmit`` the peer does not have yet; set by
            a transport that knows.
    """

    EVENT_HANDLERS = MappingProxyType(
        {
            "TrailersReceived": "_on_trailers",
            "StreamReset": "_on_stream_reset",
            "PingAcknowledged": "_on_ping_acknowledged",
            "GoAwayReceived": "_on_goaway",
            "ConnectionClosed": "_on_connection_closed",
        }
    )

    def __init__(self, wake: Callable[[], None], limits: Any, role: Role, engine: Any) -> None:
        self.closed = False
        self.close_reason: Reason | None = None
        self.want_read = True
        self.active_streams = 0
        self.unanswered_pings = 0
        self.unwritten: Callable[[], int] | None = None
        self._taken = 0
        self._wake = wake
        self._limits = limits
        self._role = role
        self._engine = engine
        self._errors = engine.ERRORS
        self._handlers = {
            engine.EVENTS[name]: getattr(type(self), method)
            for name, method in self.EVENT_HANDLERS.items()
        }
        # The events of every message, which need no look-up.
        self._head_event = engine.EVENTS[role.head_event]
        self._data_event = engine.EVENTS["DataReceived"]
        self._closed_event = engine.EVENTS["StreamClosed"]
        self._gate = FrameGate(limits, role.preface_bytes)
        self._sender = Sender(engine, self._gate)
        self._streams: dict[int, Stream] = {}
        # Streams to be reset once their own direction is sent, because the other is unwanted.
        self._stopping: dict[Stream, None] = {}
        # Streams that somebody reset and whose end the engine has still to tell.
        self._resets: set[int] = set()
        self._provoked_resets = TokenBucket(limits.provoked_resets)
        self._empty_data = TokenBucket(limits.empty_data_frames)
        self._cut_bodies = 0
        self._peer_is_closing = False
        self._engine_is_gone = False
        self._last_peer_stream = 0
        self._now = 0.0
        self._receiving = False
        # The last output after the engine failed or the transport went away.
        self._last_words: bytes | None = None

    @property
    def glitches(self) -> int:
        """How odd the peer was so far: resets, and what is beyond half of a budget."""
        count: int = self._gate.glitches
        return count

    # --- what the transport calls -------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the peer and make the upcalls they cause."""
        if self.closed:
            return
        self._now = now
        self._receiving = True
        try:
            try:
                self._engine.receive_data(self._gate.admit(data, now))
            except FrameFloodError:
                self._close_with(H2_ENHANCE_YOUR_CALM, self._role.overloaded)
            except self._errors as error:
                self._engine_is_gone = True
                self._deliver_events()
                self._engine_failed(error)
            else:
                self._deliver_events()
                if self._gate.too_large and not self.closed:
                    self._close_with(H2_FRAME_SIZE_ERROR, self._role.broken)
                self._sender.resume()
        finally:
            self._receiving = False

    def receive_eof(self, clean: bool = True) -> None:
        """Learn that the peer will send no more bytes, which ends an HTTP/2 connection."""
        self.connection_lost(self._role.lost if self._streams else reasons.COMPLETED)

    def transmit(self) -> bytes:
        """Return what to write now; all there is once closed, even if told not to write.

        ``wake`` is called if there is more then, or if an upcall made here brought more.
        """
        if not (self._sender.writable or self.closed):
            return b""
        output = []
        size = 0
        while self._last_words is None:
            data = self._take_output()
            if not data:
                break
            output.append(data)
            size += len(data)
            if not (self._sender.backlogged or self._engine.want_write):
                break
            if size >= _TRANSMIT:
                self._wake()
                break
        if self._last_words:
            output.append(self._last_words)
            self._last_words = b""
        return output[0] if len(output) == 1 else b"".join(output)

    def set_transport_writable(self, writable: bool) -> None:
        """Learn whether the socket's write buffer has room."""
        self._sender.writable = writable
        if writable and not self.closed:
            self._wake()
            self._sender.resume()

    def terminate(self, reason: Reason) -> None:
        """Close now, telling the peer; streams still open get ``on_reset(reason)``."""
        if not self.closed:
            self._close_with(reason.h2_error, reason)

    def connection_lost(self, reason: Reason) -> None:
        """Learn that the transport is gone; streams still open get ``on_reset(reason)``."""
        self._last_words = b""
        if not self.closed:
            self._close(reason)

    def shutdown(self) -> None:
        """Take no new streams, finish those there are, then close."""

    # --- what streams call --------------------------------------------------------------------

    def send_data(self, stream: Stream, data: bytes, end: bool) -> bool:
        """Send a piece of a body; return whether more is welcome."""
        self._want_output()
        return self._sender.send(stream, data, end)

    def send_trailers(self, stream: Stream, fields: Sequence[Field]) -> bool:
        """Send trailers, or just the end; return whether all that was sent is accepted."""
        self._want_output()
        if not fields:
            return self._sender.send(stream, b"", True)
        stream.trailers = fields
        return self._sender.send_trailers(stream)

    def taken_beside(self, stream: Stream) -> int:
        """Return what the peer took on the connection; negative if it holds the stream up."""
        if self._sender.is_held_up(stream):
            return -1
        # What is unwritten are also other frames, such as answers to PINGs, which a peer may leave
        # unread for a while: what it took of bodies does not become less by that, nor more after.
        unwritten = 0 if self.unwritten is None else self.unwritten()
        self._taken = max(self._taken, self._sender.body_bytes - unwritten)
        return self._taken

    def credit(self, stream_id: int, count: int) -> None:
        """Credit body bytes to the peer that were consumed, or that nobody will consume."""
        if self.closed:
            return
        try:
            self._engine.acknowledge_received_data(count, stream_id)
            if self._engine.want_write:
                self._want_output()
        except self._errors:
            return  # The engine gave the connection up; its last event is on its way.

    def stop_receiving(self, stream: Stream) -> None:
        """Reset a stream when its own direction is sent, unless the peer ends it before."""
        self._stopping[stream] = None
        self._want_output()

    def reset(self, stream: Stream, code: int) -> None:
        """Reset a stream."""
        self._remove(stream)
        if stream.id < 0:
            return  # Opened by a client and never sent.
        if self._submit(self._engine.reset_stream, stream.id, code):
            self._resets.add(stream.id)

    # --- events -------------------------------------------------------------------------------

    def _deliver_events(self) -> None:
        """Make the upcalls for what happened in the engine."""
        for event in self._engine.events():
            if self.closed:
                return
            kind = type(event)
            if kind is self._data_event:
                self._on_data(event)
            elif kind is self._closed_event:
                self._on_stream_closed(event)
            elif kind is self._head_event:
                self._on_message_head(event)
            else:
                handler = self._handlers.get(kind)
                if handler is not None:
                    handler(self, event)

    def _on_message_head(self, event: Any) -> None:
        """Deliver the head of a request or of a response, by role."""

    def _on_data(self, event: Any) -> None:
        """Deliver a piece of a body."""
        stream_id = event.stream_id
        data = event.data
        end = event.end_stream
        stream = self._streams.get(stream_id)
        size = len(data)
        if stream is None or stream.unwanted:
            if stream is not None:
                stream.remote_ended = end
            if size:
                self.credit(stream_id, size)
            return
        stream.unconsumed += size
        stream.remote_ended = end
        if size or end:
            stream.handler.on_data(data, end)
        elif self._empty_data.take(self._now):
            self._gate.glitches += 1
        else:
            self._close_with(H2_ENHANCE_YOUR_CALM, self._role.overloaded)

    def _on_trailers(self, event: Any) -> None:
        """Deliver trailers."""
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.remote_ended = True
        if not stream.unwanted:
            stream.handler.on_trailers(list_fields(event.headers))

    def _on_stream_reset(self, event: Any) -> None:
        """Deliver a reset by the peer."""
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            # The StreamClosed that follows is not the engine's doing.
            self._resets.add(stream.id)
            self._reset_by_peer(stream, event.error_code)

    def _reset_by_peer(self, stream: Stream, code: int) -> None:
        """Take a stream that the peer reset."""

    def _on_stream_closed(self, event: Any) -> None:
        """Take the end of a stream, or a reset by the engine."""
        stream_id = event.stream_id
        if stream_id in self._resets:
            self._resets.remove(stream_id)
            return
        stream = self._streams.get(stream_id)
        if event.error_code:
            self._reset_by_engine(stream, event.error_code)
        elif stream is not None:
            # All of it was sent, so what was not welcome at the time is accepted now.
            waiting = self._sender.is_waiting(stream)
            self._remove(stream)
            if waiting:
                stream.handler.on_writable()

    def _reset_by_engine(self, stream: Stream | None, code: int) -> None:
        """Take a stream on which the peer broke the protocol (attack 2).

        Arguments:
            stream: ``None`` if its head was malformed, so that it was never delivered.
        """
        if stream is not None:
            self._remove(stream)
            if code == H2_INTERNAL_ERROR:
                # What we were to send cannot be sent: its head is too large.
                stream.handler.on_reset(reasons.INTERNAL_ERROR)
                return
            stream.handler.on_reset(self._broken_stream_reason(stream, code))
            self._cut_bodies += stream.head_received
            if self._cut_bodies == RETIRE_AFTER_CUT_BODIES:
                self.shutdown()
        self._gate.glitches += 1
        if not (self.closed or self._provoked_resets.take(self._now)):
            self._close_with(H2_ENHANCE_YOUR_CALM, self._role.overloaded)

    def _broken_stream_reason(self, stream: Stream, code: int) -> Reason:
        """Return why a stream ended on which the peer broke the protocol."""
        return self._role.broken

    def _on_ping_acknowledged(self, event: Any) -> None:
        """Take a sign of life."""
        self.unanswered_pings = max(0, self.unanswered_pings - 1)

    def _on_goaway(self, event: Any) -> None:
        """Learn that the peer is going to close."""
        self._peer_is_closing = True

    def _on_connection_closed(self, event: Any) -> None:
        """Take the end of the connection: after GOAWAY and the last stream, or an error."""
        if event.error_code == H2_NO_ERROR or self._peer_is_closing:
            self._close(self._closed_reason())
        elif event.error_code == H2_ENHANCE_YOUR_CALM:
            self._close(self._role.overloaded)
        else:
            self._close(self._role.broken)

    def _closed_reason(self) -> Reason:
        """Return why a connection closed that ended in good order."""
        return reasons.COMPLETED

    # --- output and the end -------------------------------------------------------------------

    def _want_output(self) -> None:
        """Have ``transmit`` called; after ``receive`` it is anyway."""
        if not self._receiving:
            self._wake()

    def _submit(self, operation: Callable[..., None], *arguments: Any) -> bool:
        """Have the engine do something; false if it is closing with a code of its own."""
        try:
            operation(*arguments)
        except self._errors:
            return False
        self._want_output()
        return True

    def _take_output(self) -> bytes:
        """Return what the engine has to send after one turn of the streams."""
        try:
            if not self.closed:
                self._sender.feed()
            data: bytes = self._engine.data_to_send()
        except self._errors as error:
            self._engine_failed(error)
            return b""
        self._sender.end_turn()
        self._deliver_events()
        if not self.closed:
            self._after_output()
        return data

    def _after_output(self) -> None:
        """Do what had to wait until output was taken."""
        if self._stopping:
            for stream in list(self._stopping):
                if self._sender.has_sent(stream):
                    self.reset(stream, self._role.stop_code)
        self._sender.resume()

    def _remove(self, stream: Stream) -> None:
        """Take a stream out that is over.

        What it delivered and is not consumed yet is credited to the connection. It is at most one
        stream window, held by an exchange that may be slow or may have been given up; the other
        streams must not wait for it.
        """
        del self._streams[stream.id]
        stream.over = True
        self.active_streams -= 1
        self._sender.drop(stream)
        if self._stopping:
            self._stopping.pop(stream, None)
        stream.consume(stream.unconsumed)

    def _close_with(self, code: int, reason: Reason) -> None:
        """Send GOAWAY and close."""
        self._submit(self._engine.terminate_connection, code)
        self._close(reason)

    def _engine_failed(self, error: Exception) -> None:
        """Close after the engine gave up without a word to the peer (RFC 9113 section 5.4.1)."""
        overloaded = isinstance(error, self._engine.OVERLOAD_ERRORS)
        code = H2_ENHANCE_YOUR_CALM if overloaded else H2_PROTOCOL_ERROR
        self._last_words = _GOAWAY.pack(_GOAWAY_HEADER, self._last_peer_stream, code)
        self._want_output()
        self._close(self._role.overloaded if overloaded else self._role.broken)

    def _close(self, reason: Reason) -> None:
        """Close, and tell the streams that are still open."""
        if self.closed:
            return
        self.closed = True
        self.close_reason = reason
        streams = list(self._streams.values())
        for stream in streams:
            self._remove(stream)
        # A connection may end in good order with streams open whose end it had promised.
        lost = self._role.lost if reason is reasons.COMPLETED else reason
        for stream in streams:
            stream.handler.on_reset(lost)
