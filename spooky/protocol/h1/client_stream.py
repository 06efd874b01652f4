"""One request and its response on a connection to a backend."""

from typing import TYPE_CHECKING, Final

from spooky._core import reasons
from spooky._core.fields import pack_http1_request
from spooky._core.reasons import Reason
from spooky.protocol.h1.body import (
    BodyReader,
    BodyWriter,
    ChunkedWriter,
    LengthMismatchError,
    LengthWriter,
)
from spooky.protocol.h1.framing import declared_length
from spooky.protocol.stream import Fields, Stream, StreamHandler

if TYPE_CHECKING:
    from spooky.protocol.h1.client import ClientSession

_ANTICIPATES_BODY: Final = frozenset((b"POST", b"PUT", b"PATCH"))
"""Methods whose requests say so when they have no body (RFC 9110 section 8.6)."""


class ClientStream:
    """A :class:`spooky.protocol.stream.Stream`.

    Arguments:
        session: Where it lives.
        handler: Where upcalls go.

    Attributes:
        method: The request's; empty until its head was sent.
        head_sent: Whether the request head was sent.
        on_wire: Whether the transport has it, so that a response can be one.
        request_ended: Whether the request was sent to its end.
        body: Reads the response's body; ``None`` until its head has arrived.
        stopped: Whether the response is complete and what is still sent goes nowhere.
        dropping: Whether the rest of the response is unwanted.
        dead: Whether it takes no more calls and gives no more.
        unconsumed: Bytes of the body delivered and not yet credited.
        blocked: Whether an ``on_writable`` is due.
    """

    protocol: str = "http/1.1"
    handler: StreamHandler

    __slots__ = (
        "_session", "_writer", "blocked", "body", "dead", "dropping", "handler", "head_sent",
        "method", "on_wire", "request_ended", "stopped", "unconsumed",
    )  # fmt: skip

    def __init__(self, session: "ClientSession", handler: StreamHandler) -> None:
        self.handler = handler
        self.method = b""
        self.head_sent = False
        self.on_wire = False
        self.request_ended = False
        self.body: BodyReader | None = None
        self.stopped = False
        self.dropping = False
        self.dead = False
        self.unconsumed = 0
        self.blocked = False
        self._session = session
        self._writer: BodyWriter = LengthWriter(0)

    def send_head(self, fields: Fields, end: bool) -> None:
        """Send the request head.

        The body is framed by ``content-length`` if it is among the fields, else in chunks; a
        request without a body is sent as one.
        """
        if self.dead or self.stopped or self.head_sent:
            return
        self.head_sent = True
        head = list(fields)
        self.method = next(value for name, value in head if name == b":method")
        length = declared_length(head)
        if end and length < 0 and self.method in _ANTICIPATES_BODY:
            head.append((b"content-length", b"0"))
        chunked = length < 0 and not end
        self._writer = ChunkedWriter() if chunked else LengthWriter(max(0, length))
        self._session.write(pack_http1_request(head, chunked))
        if end:
            self._finish(())

    def send_informational(self, fields: Fields) -> None:
        """Do nothing: requests have none."""

    def send_data(self, data: bytes, end: bool) -> bool:
        """Send a piece of the body; more or less than declared closes the connection."""
        if self._takes_no_body():
            return True
        try:
            self._session.write(*self._writer.frame(data, end))
        except LengthMismatchError:
            self._session.fail(self, reasons.INTERNAL_ERROR)
            return True
        if end:
            self._end_request()
            return True
        self.blocked = not self._session.outbox.has_room
        return not self.blocked

    def send_trailers(self, fields: Fields) -> bool:
        """Send trailers; dropped unless the body is chunked."""
        if not self._takes_no_body():
            self._finish(fields)
        return True

    def consume(self, count: int) -> None:
        """Credit body bytes: reading resumes at half of what suspends it."""
        if self.dead or self.dropping:
            return
        self.unconsumed = max(0, self.unconsumed - count)
        self._session.update_reading()

    def stop_receiving(self) -> None:
        """Drop the rest of the response; the connection closes once the request is out."""
        if self.dead or self.dropping:
            return
        self.dropping = True
        self._session.drop_response(self)
        self._session.update_reading()

    def reset(self, reason: Reason) -> None:
        """Close the connection: HTTP/1.1 has no other way to give a request up."""
        if not self.dead:
            self._session.abandon(self, reason)

    def _takes_no_body(self) -> bool:
        return self.dead or self.stopped or self.request_ended or not self.head_sent

    def _finish(self, trailers: Fields) -> None:
        try:
            self._session.write(self._writer.finish(trailers))
        except LengthMismatchError:
            self._session.fail(self, reasons.INTERNAL_ERROR)
            return
        self._end_request()

    def _end_request(self) -> None:
        self.request_ended = True
        if self.dropping:
            self._session.drop_response(self)


if TYPE_CHECKING:
    _guard: type[Stream] = ClientStream
