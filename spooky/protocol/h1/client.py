"""The client role: requests to a backend, one at a time, on a connection kept while it is clean.

A connection with anything odd about it is never reused: whatever desynchronises us from a backend
gives one client's response to another.
"""

from typing import TYPE_CHECKING, Final

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.protocol.h1.body import BodyReader, ChunkedReader, LengthReader, UntilCloseReader
from spooky.protocol.h1.client_stream import ClientStream
from spooky.protocol.h1.engine import field_parser
from spooky.protocol.h1.framing import FramingError
from spooky.protocol.h1.head import ResponseHead, SectionReader, parse_response_head
from spooky.protocol.h1.limits import DEFAULT_LIMITS, WINDOW_BYTES, Limits
from spooky.protocol.h1.outbox import Outbox
from spooky.protocol.session import ClientByteSession, Wake
from spooky.protocol.stream import Stream, StreamHandler

_TOO_LARGE: Final = (reasons.TOO_MANY_FIELDS, reasons.FIELDS_TOO_LARGE)


class ClientSession:
    """An HTTP/1.1 connection to a backend.

    Arguments:
        wake: Called when output became pending outside ``receive``.
        limits: What a response head may be; ``max_request_line_bytes`` and ``max_pipelined`` do
            not apply.

    Attributes:
        unanswered_pings: Always 0.
        outbox: What is to be transmitted.
    """

    def __init__(self, wake: Wake, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.closed = False
        self.close_reason: Reason | None = None
        self.want_read = True
        self.active_streams = 0
        self.unanswered_pings = 0
        self.outbox = Outbox()
        self._wake = wake
        self._limits = limits
        self._parse_fields = field_parser(limits.engine)
        self._head = SectionReader(limits.max_headers_bytes)
        self._stream: ClientStream | None = None
        self._informational = 0
        # Whether the connection can serve another request, if all goes well with this one.
        self._persistent = True
        # Why the connection closes after the current request, if it does.
        self._last_reason = reasons.COMPLETED
        self._receiving = False
        # A stream that we failed inside one of its own calls, to be told later.
        self._failed: tuple[ClientStream, Reason] | None = None

    @property
    def reusable(self) -> bool:
        """Whether, once idle, this session may serve another request."""
        return self._persistent and not self.closed

    @property
    def capacity(self) -> int:
        """How many streams can be opened now: one or none."""
        return 1 if self._stream is None and self.reusable else 0

    def open(self, handler: StreamHandler) -> Stream:
        """Open a stream; call only while ``capacity`` is positive."""
        stream = ClientStream(self, handler)
        self._stream = stream
        self._informational = 0
        self.active_streams = 1
        return stream

    def ping(self, payload: bytes) -> bool:
        """Return false: HTTP/1.1 has no ping."""
        return False

    # --- what the transport calls -------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the backend and make the upcalls they cause."""
        if self.closed:
            return
        self._receiving = True
        try:
            self._read(data)
        finally:
            self._receiving = False
        self.update_reading()

    def receive_eof(self, *, clean: bool = True) -> None:
        """Learn that the backend will send no more bytes.

        Arguments:
            clean: Else the end is none to a body that ends with the connection (RFC 9112
                section 9.8): anybody on the way can cut a TCP connection.
        """
        if self.closed:
            return
        stream = self._stream
        if stream is None:
            self._close(reasons.COMPLETED)
        elif stream.body is None and not self._informational:
            self._lose(reasons.UPSTREAM_CONNECTION_LOST)
        elif isinstance(stream.body, UntilCloseReader) and clean:
            stream.body.ended = True
            self._deliver(stream, stream.body, b"", more=False)
        else:
            self._lose(reasons.UPSTREAM_BODY_CUT_SHORT)

    def transmit(self) -> bytes:
        """Return what to write now; empty if told not to write."""
        self._tell_failed()
        if not self.outbox.writable:
            return b""
        data = self.outbox.take()
        stream = self._stream
        if stream is not None:
            stream.on_wire = stream.head_sent
            if stream.blocked:
                stream.blocked = False
                stream.handler.on_writable()
        return data

    def set_transport_writable(self, writable: bool) -> None:
        """Learn whether the socket's write buffer has room."""
        self.outbox.writable = writable
        if writable:
            self._wake()

    def shutdown(self) -> None:
        """Close now if idle, else after the current response."""
        if self.closed:
            return
        self._persistent = False
        self._last_reason = reasons.DRAINING
        if self._stream is None:
            self._close(reasons.DRAINING)

    def terminate(self, reason: Reason) -> None:
        """Close now."""
        if not self.closed:
            self._lose(reason)

    def connection_lost(self, reason: Reason) -> None:
        """Learn that the transport is gone."""
        self._tell_failed()
        if not self.closed:
            self._lose(reason)

    # --- what the stream calls ----------------------------------------------------------------

    def write(self, *pieces: bytes) -> None:
        """Put bytes up for transmission."""
        self.outbox.put(*pieces)
        if not self._receiving:
            self._wake()

    def fail(self, stream: ClientStream, reason: Reason) -> None:
        """Close because the request is not what its head announced."""
        self._failed = (stream, reason)
        self.abandon(stream, reason)

    def abandon(self, stream: ClientStream, reason: Reason) -> None:
        """Close without a care for what is under way."""
        stream.dead = True
        self._close(reason)

    def drop_response(self, stream: ClientStream) -> None:
        """Drop the rest of the response: close as soon as the request is out."""
        self._persistent = False
        if stream.request_ended:
            self.abandon(stream, self._last_reason)

    def update_reading(self) -> None:
        """Say whether the transport should read."""
        stream = self._stream
        if self.closed:
            want_read = False
        elif stream is None or stream.dropping:
            want_read = True
        else:
            limit = WINDOW_BYTES if self.want_read else WINDOW_BYTES // 2 + 1
            want_read = stream.unconsumed < limit
        resumed = want_read and not self.want_read
        self.want_read = want_read
        if resumed and not self._receiving:
            self._wake()

    # --- inside -------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        position = 0
        while position < len(data) and not self.closed:
            stream = self._stream
            if stream is None or not stream.on_wire:
                # RFC 9112 section 9.2: a response that nothing on the wire has asked for.
                self._lose(reasons.UPSTREAM_PROTOCOL_ERROR)
                return
            if stream.body is None:
                position = self._read_head(stream, data, position)
            else:
                position = self._read_body(stream, stream.body, data, position)

    def _read_head(self, stream: ClientStream, data: bytes, position: int) -> int:
        """Take bytes of a response head; return the position after them."""
        try:
            section, position = self._head.feed(data, position)
            if section is None:
                return position
            head = parse_response_head(section, self._parse_fields, self._limits)
        except FramingError as error:
            too_large = error.reason in _TOO_LARGE
            self._lose(
                reasons.UPSTREAM_FIELDS_TOO_LARGE if too_large else reasons.UPSTREAM_BAD_RESPONSE
            )
            return len(data)
        if head.status < 200:
            self._take_informational(stream, head)
            return position
        self._persistent = self._persistent and self._may_persist(stream, head)
        stream.body = body = self._body_reader(stream, head)
        if not body.ended:
            if not stream.dropping:
                stream.handler.on_head(head.fields, False)
        elif self._end(stream, more=position < len(data)):
            stream.handler.on_head(head.fields, True)
        return position

    def _take_informational(self, stream: ClientStream, head: ResponseHead) -> None:
        self._informational += 1
        if head.status == 101 or self._informational > self._limits.max_informational:
            # Nothing we forward asks to switch protocols.
            self._lose(reasons.UPSTREAM_PROTOCOL_ERROR)
            return
        if head.framing.chunked or head.framing.content_length >= 0:
            # RFC 9110 section 8.6, RFC 9112 section 6.1: it speaks of a body that must not be.
            self._persistent = False
        if not stream.dropping:
            stream.handler.on_informational(head.fields)

    def _may_persist(self, stream: ClientStream, head: ResponseHead) -> bool:
        """Return whether nothing in a response head speaks against reuse."""
        framing = head.framing
        # A 204 that declares a body may be followed by one (RFC 9112 section 6.3 item 1).
        odd = head.status == 204 and (framing.chunked or framing.content_length > 0)
        return (
            head.minor_version == 1
            and not framing.close
            and not odd
            and stream.method != b"CONNECT"
        )

    def _body_reader(self, stream: ClientStream, head: ResponseHead) -> BodyReader:
        """Return the reader of a response body (RFC 9112 section 6.3)."""
        tunnel = stream.method == b"CONNECT" and head.status < 300
        if stream.method == b"HEAD" or head.status in (204, 304) or tunnel:
            return LengthReader(0)
        if head.framing.chunked:
            return ChunkedReader(self._parse_fields, self._limits)
        if head.framing.content_length >= 0:
            return LengthReader(head.framing.content_length)
        self._persistent = False
        return UntilCloseReader()

    def _read_body(self, stream: ClientStream, body: BodyReader, data: bytes, position: int) -> int:
        """Take bytes of a response body; return the position after them."""
        try:
            content, position = body.feed(data, position)
        except FramingError:
            self._lose(reasons.UPSTREAM_PROTOCOL_ERROR)
            return len(data)
        self._deliver(stream, body, content, more=position < len(data))
        return position

    def _deliver(self, stream: ClientStream, body: BodyReader, content: bytes, more: bool) -> None:
        """Deliver a piece of the body and, if it has ended, its end.

        Arguments:
            more: Whether bytes follow that are not the body's.
        """
        handler = stream.handler
        stream.unconsumed += len(content)
        if content and not stream.dropping and (body.trailers or not body.ended):
            handler.on_data(content, False)
            content = b""
        if not body.ended or stream.dead or not self._end(stream, more):
            return
        if body.trailers:
            handler.on_trailers(body.trailers)
        else:
            handler.on_data(content, True)

    def _end(self, stream: ClientStream, more: bool) -> bool:
        """End the stream; what ends the response is delivered by the caller, after this.

        The session is ready for the next request before anyone learns that this one ended.

        Returns:
            Whether the stream takes that delivery.
        """
        if more:
            self._persistent = False
            self._last_reason = reasons.UPSTREAM_PROTOCOL_ERROR
        if not stream.request_ended or self.outbox.size:
            # RFC 9112 section 9.3: the rest of the request would have to be sent first.
            self._persistent = False
        if not stream.request_ended:
            stream.stopped = True
            stream.handler.on_stopped()
            if stream.dead:
                return False
        stream.dead = True
        self._stream = None
        self.active_streams = 0
        if not self._persistent:
            self._close(self._last_reason)
        return not stream.dropping

    def _lose(self, reason: Reason) -> None:
        """Close, and tell the stream."""
        stream = self._stream
        if stream is None:
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
        # A request given up before it left is not sent.
        self.outbox.take()
        if not self._receiving:
            self._wake()


if TYPE_CHECKING:
    _guard: type[ClientByteSession] = ClientSession
