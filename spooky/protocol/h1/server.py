"""The server role: requests in, responses out, one at a time (RFC 9112).

What a request is and how long it is gets decided before anything of it is delivered. A request
that breaks the rules of framing is answered here and the connection closes, because nobody can
know where the next request would begin. The content of heads is for the validator behind.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from spooky._core import reasons
from spooky._core.fields import pack_http1_response
from spooky._core.reasons import Reason
from spooky.protocol.h1.body import BodyReader, ChunkedReader, LengthReader
from spooky.protocol.h1.engine import field_parser
from spooky.protocol.h1.framing import Framing, FramingError
from spooky.protocol.h1.head import SectionReader, parse_request_head
from spooky.protocol.h1.limits import (
    DEFAULT_LIMITS,
    LINGER_BYTES,
    LINGER_SECONDS,
    WINDOW_BYTES,
    Limits,
)
from spooky.protocol.h1.outbox import Outbox
from spooky.protocol.h1.server_stream import ServerStream
from spooky.protocol.holding import Holding
from spooky.protocol.session import ByteSession, OnStream, Wake
from spooky.protocol.stream import Fields


class ServerSession:
    """An HTTP/1.1 connection from a client.

    A client that closes its side of the connection has given its request up, as it has nearly
    always when it does.

    Arguments:
        on_stream: Called for each request.
        wake: Called when output became pending outside ``receive``.
        limits: What a head and a connection may be.
        scheme: ``:scheme`` of requests whose target does not name one.
        answer_fields: Added to the answers that the session gives itself.

    Attributes:
        truncated: Whether the last response was cut short. An HTTP/1.0 client may have no other
            sign of it than a reset: the transport should abort instead of closing.
        stopping: Whether ``shutdown`` was called.
        reusable: Whether responses that begin now leave the connection open.
        outbox: What is to be transmitted.
        unwritten: Tells how many of the bytes from ``transmit`` the client does not have yet; set
            by a transport that knows.
    """

    def __init__(
        self,
        on_stream: OnStream,
        wake: Wake,
        *,
        limits: Limits = DEFAULT_LIMITS,
        scheme: bytes = b"https",
        answer_fields: Fields = (),
    ) -> None:
        self.closed = False
        self.close_reason: Reason | None = None
        self.want_read = True
        self.active_streams = 0
        self.truncated = False
        self.stopping = False
        self.reusable = True
        self.outbox = Outbox()
        self.unwritten: Callable[[], int] | None = None
        self._on_stream = on_stream
        self._wake = wake
        self._limits = limits
        self._scheme = scheme
        self._answer_fields = answer_fields
        self._parse_fields = field_parser(limits.engine)
        self._head = SectionReader(
            limits.max_headers_bytes, limits.max_request_line_bytes, skip_blank_line=True
        )
        # The current request's; dead while its unwanted body is read after the response.
        self._stream: ServerStream | None = None
        # What is pipelined behind the current request, not looked at yet.
        self._waiting = bytearray()
        self._begun_in_this_read = 0
        self._dropped_bytes = 0
        self._linger_until: float | None = None
        self._now = 0.0
        self._receiving = False
        # Why the connection closes after the current response, if it does.
        self._last_reason = reasons.COMPLETED
        # A stream that we failed inside one of its own calls, to be told later.
        self._failed: tuple[ServerStream, Reason] | None = None

    # --- what the transport calls -------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the client and make the upcalls they cause."""
        if self.closed:
            return
        self._now = now
        self._begun_in_this_read = 0
        self._receiving = True
        try:
            self._read(data)
        finally:
            self._receiving = False
        self.update_reading()

    def receive_eof(self, *, clean: bool = True) -> None:
        """Learn that the client will send no more bytes: it gave its request up."""
        if self.closed:
            return
        if self._stream is not None and self._stream.dead:
            self._close(self._last_reason)
        elif self._stream is not None or self._head.begun:
            self._lose(reasons.CLIENT_CONNECTION_LOST)
        else:
            self._close(reasons.COMPLETED)

    def transmit(self) -> bytes:
        """Return what to write now; all of it once closed, even if told not to write."""
        self._tell_failed()
        if not (self.outbox.writable or self.closed):
            return b""
        data = self.outbox.take()
        self._resume()
        if self.closed or not data:
            data += self.outbox.take()
        return data

    def set_transport_writable(self, writable: bool) -> None:
        """Learn whether the socket's write buffer has room."""
        self.outbox.writable = writable
        if writable:
            self._wake()

    def stop_reuse(self) -> None:
        """Say in every response head from now on that the connection closes after it."""
        self.reusable = False
        self._last_reason = reasons.DRAINING

    def shutdown(self) -> None:
        """Close now if idle, else after the current response."""
        if self.closed:
            return
        self.stopping = True
        self.reusable = False
        self._last_reason = reasons.DRAINING
        if self._stream is None:
            self._close(reasons.DRAINING)

    def terminate(self, reason: Reason) -> None:
        """Close now, answering a request that has no response yet if ``reason`` has a status."""
        if self.closed:
            return
        stream = self._stream
        if stream is None:
            unanswered = self._head.begun
        else:
            unanswered = not (stream.dead or stream.response_begun)
        if unanswered and reason.status:
            self._answer(reason)
        self._lose(reason)

    def connection_lost(self, reason: Reason) -> None:
        """Learn that the transport is gone."""
        self.outbox.take()
        self._tell_failed()
        if not self.closed:
            self._lose(reason)

    def holdings(self) -> Iterator[Holding]:
        """Yield what is held for the current request, or for one that is over."""
        size = self.outbox.size + len(self._waiting)
        stream = self._stream
        if stream is not None and not stream.dead:
            yield Holding(size, stream.handler, stream.reset)
        else:
            yield Holding(size, None, self.terminate)

    # --- what the stream calls ----------------------------------------------------------------

    def unsent(self) -> int:
        """Return how much of what was written the client has not taken; bytes."""
        return self.outbox.size + (0 if self.unwritten is None else self.unwritten())

    def write(self, *pieces: bytes) -> None:
        """Put bytes up for transmission."""
        self.outbox.put(*pieces)
        if not self._receiving:
            self._wake()

    def settle(self, stream: ServerStream) -> None:
        """Go on to the next request, or close, if there is nothing left of this one."""
        if not stream.response_ended:
            return
        if not (stream.request_ended or stream.awaits_continue):
            if stream.dropping:
                self._linger(stream)
            return
        stream.dead = True
        if not stream.persistent or self.stopping:
            self._close(self._last_reason)
            return
        self._stream = None
        self.active_streams = 0

    def fail(self, stream: ServerStream, reason: Reason) -> None:
        """Close because the response is not what its head announced."""
        self._failed = (stream, reason)
        self.abandon(stream, reason)

    def abandon(self, stream: ServerStream, reason: Reason) -> None:
        """Close without ending the response."""
        stream.dead = True
        self.truncated = stream.response_begun and not stream.response_ended
        self._close(reason)

    def update_reading(self) -> None:
        """Say whether the transport should read."""
        want_read = self._can_take_more()
        resumed = want_read and not self.want_read
        self.want_read = want_read
        if resumed and not self._receiving:
            self._wake()

    # --- inside -------------------------------------------------------------------------------

    def _can_take_more(self) -> bool:
        stream = self._stream
        if self.closed:
            return False
        if stream is None:
            return not self._waiting
        if stream.dropping:
            return self._dropped_bytes <= LINGER_BYTES
        if stream.request_ended:
            return not self._waiting
        return stream.unconsumed < (WINDOW_BYTES if self.want_read else WINDOW_BYTES // 2 + 1)

    def _read(self, data: bytes) -> None:
        position = 0
        while position < len(data) and not self.closed:
            stream = self._stream
            if stream is None:
                if not self.outbox.has_room:
                    # Whoever does not read responses gets no more of them made.
                    self._waiting += data[position:]
                    return
                position = self._read_head(data, position)
            elif stream.request_ended:
                if stream.persistent:
                    self._waiting += data[position:]
                return
            elif stream.dropping:
                position = self._drop_body(stream, data, position)
            else:
                position = self._read_body(stream, data, position)

    def _read_head(self, data: bytes, position: int) -> int:
        """Take bytes of a request head; return the position after them."""
        try:
            section, position = self._head.feed(data, position)
            if section is None:
                return position
            head = parse_request_head(section, self._parse_fields, self._scheme, self._limits)
        except FramingError as error:
            self._answer(error.reason)
            self._close(error.reason)
            return len(data)
        stream = ServerStream(self, head, self._body_reader(head.framing))
        self._begun_in_this_read += 1
        if self._begun_in_this_read > self._limits.max_pipelined:
            stream.persistent = False
            self._last_reason = reasons.CLIENT_EXCESSIVE_LOAD
        self._stream = stream
        self.active_streams = 1
        self._dropped_bytes = 0
        self._linger_until = None
        stream.handler = self._on_stream(stream)
        if not stream.dead:
            stream.handler.on_head(head.fields, stream.request_ended)
        return position

    def _body_reader(self, framing: Framing) -> BodyReader:
        """Return the reader of a request body (RFC 9112 section 6.3)."""
        if framing.chunked:
            return ChunkedReader(self._parse_fields, self._limits)
        return LengthReader(max(0, framing.content_length))

    def _read_body(self, stream: ServerStream, data: bytes, position: int) -> int:
        """Take bytes of a request body; return the position after them."""
        body = stream.body
        stream.awaits_continue = False
        try:
            content, position = body.feed(data, position)
        except FramingError as error:
            if not stream.response_begun:
                self._answer(error.reason, stream.method)
            self._lose(error.reason)
            return len(data)
        handler = stream.handler
        stream.request_ended = body.ended
        stream.unconsumed += len(content)
        if body.trailers:
            if content:
                handler.on_data(content, False)
            if not stream.dead:
                handler.on_trailers(body.trailers)
        elif content or body.ended:
            handler.on_data(content, body.ended)
        if body.ended and not stream.dead:
            self.settle(stream)
        return position

    def _drop_body(self, stream: ServerStream, data: bytes, position: int) -> int:
        """Take bytes of a body that nobody wants; return the position after them.

        The body is followed to its end, so that the connection closes no later than it must.
        """
        stream.awaits_continue = False
        self._dropped_bytes += len(data) - position
        if self._linger_until is None and stream.response_ended:
            self._linger_until = self._now + LINGER_SECONDS
        try:
            _, position = stream.body.feed(data, position)
            stream.request_ended = stream.body.ended
        except FramingError:
            position = len(data)
            stream.request_ended = True
        self.settle(stream)
        return position

    def _linger(self, stream: ServerStream) -> None:
        """Keep reading what is left of an unwanted body, within bounds (RFC 9112 section 9.6)."""
        stream.dead = True
        self.active_streams = 0
        late = self._linger_until is not None and self._now > self._linger_until
        if late or self._dropped_bytes > LINGER_BYTES:
            self._close(self._last_reason)

    def _resume(self) -> None:
        """Go on with what waited for the held bytes to be taken."""
        stream = self._stream
        if stream is None:
            if self._waiting:
                data = bytes(self._waiting)
                self._waiting.clear()
                self._read(data)
                self.update_reading()
        elif stream.blocked and not stream.dead:
            stream.blocked = False
            stream.handler.on_writable()

    def _answer(self, reason: Reason, method: bytes = b"") -> None:
        """Answer a request without a stream, or in the place of one."""
        text = reason.text.encode() + b"\n"
        head = [
            (b":status", b"%d" % reason.status),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            *self._answer_fields,
        ]
        self.write(pack_http1_response(head, False, True), b"" if method == b"HEAD" else text)

    def _lose(self, reason: Reason) -> None:
        """Close, and tell the stream."""
        stream = self._stream
        if stream is None or stream.dead:
            self._close(reason)
            return
        self.abandon(stream, reason)
        stream.handler.on_reset(reason)

    def _tell_failed(self) -> None:
        if self._failed is not None:
            stream, reason = self._failed
            self._failed = None
            stream.handler.on_reset(reason)

    def _close(self, reason: Reason) -> None:
        self.closed = True
        self.close_reason = reason
        self.want_read = False
        self.active_streams = 0
        self._stream = None
        self._waiting.clear()
        if not self._receiving:
            self._wake()


if TYPE_CHECKING:
    _guard: type[ByteSession] = ServerSession
