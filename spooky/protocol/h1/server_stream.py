"""One request and its response on a server connection."""

from typing import TYPE_CHECKING, Final

from spooky._core import reasons
from spooky._core.fields import pack_http1_response
from spooky._core.reasons import Reason
from spooky.protocol.h1.body import (
    BodyReader,
    BodyWriter,
    ChunkedWriter,
    LengthMismatchError,
    LengthReader,
    LengthWriter,
    NoBodyWriter,
    UntilCloseWriter,
)
from spooky.protocol.h1.framing import declared_length
from spooky.protocol.h1.head import RequestHead
from spooky.protocol.h1.limits import LINGER_BYTES
from spooky.protocol.stream import ClientsStream, Fields, StreamHandler

if TYPE_CHECKING:
    from spooky.protocol.h1.server import ServerSession

_WITHOUT_BODY: Final = frozenset((b"204", b"304"))
"""RFC 9112 section 6.3 item 1."""


class ServerStream:
    """A :class:`spooky.protocol.stream.ClientsStream`.

    Arguments:
        session: Where it lives.
        head: The request's.
        body: Reads the request's body.

    Attributes:
        request_ended: Whether all of the request has arrived, or what is missing does not matter.
        response_begun: Whether the response head was sent.
        response_ended: Whether the response was sent to its end.
        dead: Whether it takes no more calls and gives no more.
        dropping: Whether the rest of the request's body is unwanted.
        persistent: Whether the connection may serve another request after this one. An early
            response says no unless the rest of the request is known to be short.
        awaits_continue: Whether the client holds its body back for ``100 Continue``. The field is
            passed on, and whoever answers the request decides: its 100 comes by
            ``send_informational``. If its final response comes first and the body has not, the
            connection closes after it, since the client may send the body or not
            (RFC 9110 section 10.1.1).
        unconsumed: Bytes of the body delivered and not yet credited.
        blocked: Whether an ``on_writable`` is due.
    """

    protocol: str = "http/1.1"
    handler: StreamHandler

    __slots__ = (
        "_minor_version", "_session", "_writer", "awaits_continue", "blocked", "body", "dead",
        "dropping", "handler", "method", "persistent", "request_ended", "response_begun",
        "response_ended", "unconsumed",
    )  # fmt: skip

    def __init__(self, session: "ServerSession", head: RequestHead, body: BodyReader) -> None:
        framing = head.framing
        self.method = head.method
        self.body = body
        self.request_ended = body.ended
        self.response_begun = False
        self.response_ended = False
        self.dead = False
        self.dropping = False
        # What follows CONNECT is not HTTP; RFC 9112 section 9.3 for the rest.
        self.persistent = (
            head.method != b"CONNECT"
            and not framing.close
            and (head.minor_version == 1 or framing.keep_alive)
        )
        self.awaits_continue = framing.expects_continue and not body.ended
        self.unconsumed = 0
        self.blocked = False
        self._session = session
        self._minor_version = head.minor_version
        self._writer: BodyWriter = NoBodyWriter()

    def send_head(self, fields: Fields, end: bool) -> None:
        """Send the response head.

        The body is framed by ``content-length`` if it is among the fields, else in chunks, else,
        for HTTP/1.0, by the end of the connection.
        """
        if self.dead or self.response_begun:
            return
        self.response_begun = True
        if not self._session.reusable or self.awaits_continue or self._rest_may_be_long():
            self.persistent = False
        head = list(fields)
        chunked = self._choose_framing(head, end)
        if self.persistent and self._minor_version == 0:
            head.append((b"connection", b"keep-alive"))
        self._session.write(pack_http1_response(head, chunked, not self.persistent))
        if end:
            self._finish(())

    def send_informational(self, fields: Fields) -> None:
        """Send a 1xx head; dropped for HTTP/1.0 clients (RFC 9110 section 15.2)."""
        if self.dead or self.response_begun or self._minor_version == 0:
            return
        status = fields[0][1]
        if status == b"101":
            return
        if status == b"100":
            self.awaits_continue = False
        self._session.write(pack_http1_response(list(fields), False, False))

    def send_data(self, data: bytes, end: bool) -> bool:
        """Send a piece of the body; more or less than declared closes the connection."""
        if self.dead or self.response_ended or not self.response_begun:
            return True
        try:
            self._session.write(*self._writer.frame(data, end))
        except LengthMismatchError:
            self._session.fail(self, reasons.INTERNAL_ERROR)
            return True
        if end:
            self._end_response()
            return True
        self.blocked = not self._session.outbox.has_room
        return not self.blocked

    def send_trailers(self, fields: Fields) -> bool:
        """Send trailers; dropped unless the body is chunked."""
        if not self.dead and not self.response_ended and self.response_begun:
            self._finish(fields)
        return True

    def unsent(self) -> int:
        """Return how much of what was sent the client has not taken; bytes."""
        return self._session.unsent()

    def taken_beside(self) -> int:
        """Return a negative number: nothing else is sent on the connection."""
        return -1

    def consume(self, count: int) -> None:
        """Credit body bytes: reading resumes at half of what suspends it."""
        if self.dead or self.dropping:
            return
        self.unconsumed = max(0, self.unconsumed - count)
        self._session.update_reading()

    def stop_receiving(self) -> None:
        """Drop the rest of the body.

        The connection closes after the response, unless the response was under way already and
        the rest of the body turns out to be short.
        """
        if self.dead or self.request_ended or self.dropping:
            return
        self.dropping = True
        if not self.response_begun:
            self.persistent = False
        self._session.settle(self)
        self._session.update_reading()

    def reset(self, reason: Reason) -> None:
        """Close the connection; a response under way stays visibly incomplete."""
        if not self.dead:
            self._session.abandon(self, reason)

    def _rest_may_be_long(self) -> bool:
        """Return whether more of the request may follow than is dropped for the next one's sake.

        Said with the response head, it tells the client to send no more.
        """
        body = self.body
        if isinstance(body, LengthReader):
            return body.remaining > LINGER_BYTES
        return not self.request_ended

    def _choose_framing(self, head: list[tuple[bytes, bytes]], end: bool) -> bool:
        """Choose how the body is framed (RFC 9112 section 6); return whether in chunks."""
        status = head[0][1]
        if status == b"204":
            # RFC 9110 section 8.6.
            head[:] = [field for field in head if field[0] != b"content-length"]
        if self.method == b"HEAD" or status in _WITHOUT_BODY:
            self._writer = NoBodyWriter()
            return False
        length = declared_length(head)
        if length >= 0:
            self._writer = LengthWriter(length)
            return False
        if end:
            head.append((b"content-length", b"0"))
            self._writer = LengthWriter(0)
            return False
        if self._minor_version == 1:
            self._writer = ChunkedWriter()
            return True
        self._writer = UntilCloseWriter()
        self.persistent = False
        return False

    def _finish(self, trailers: Fields) -> None:
        try:
            self._session.write(self._writer.finish(trailers))
        except LengthMismatchError:
            self._session.fail(self, reasons.INTERNAL_ERROR)
            return
        self._end_response()

    def _end_response(self) -> None:
        self.response_ended = True
        self._session.settle(self)


if TYPE_CHECKING:
    _guard: type[ClientsStream] = ServerStream
