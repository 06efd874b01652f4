"""The one stream contract: how a session and whoever uses it see a request/response pair.

Every protocol session, client side or upstream side, presents a request/response pair as a
:class:`Stream` and delivers what arrives on it to a :class:`StreamHandler`. The exchange joins
two of them, so every ingress works with every upstream.

**Heads** are lists of ``(name, value)`` byte pairs, names lowercase, pseudo-headers first: a
request carries ``:method``, ``:scheme``, ``:authority``, ``:path``, a response ``:status``. A
session over HTTP/1.1 makes its start line from them and delivers its start line as them.

**Credit follows consumption.** Whoever receives data calls :meth:`Stream.consume` once the other
side has accepted it; only then may the session credit its peer (QUIC MAX_DATA and
MAX_STREAM_DATA, HTTP/2 WINDOW_UPDATE, resuming a TCP read). Withholding the call is how delivery
is paused: at most one window of data is then outstanding. :meth:`Stream.send_data` always takes
the data, and returns whether the sender may be credited for it now; if not, the credit is due at
the next :meth:`StreamHandler.on_writable`.

**Order and end.** Upcalls never nest inside the downcall that causes them, except ``on_stream``
and what a session delivers inside ``receive``. After :meth:`Stream.reset` or
:meth:`StreamHandler.on_reset` nothing more is delivered or accepted; calls on a dead stream are
ignored. A stream ends when both directions ended.
"""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from spooky._core.reasons import Reason

Field: TypeAlias = tuple[bytes, bytes]
Fields: TypeAlias = Sequence[Field]


class StreamHandler(Protocol):
    """What a stream delivers to; one side of an exchange."""

    def on_head(self, fields: list[Field], end: bool) -> None:
        """Take the head; ``end`` says that no body and no trailers follow."""

    def on_informational(self, fields: list[Field]) -> None:
        """Take a 1xx response head (never 101); upstream streams only."""

    def on_data(self, data: bytes, end: bool) -> None:
        """Take a piece of the body; ``data`` may be empty when ``end`` is true."""

    def on_trailers(self, fields: list[Field]) -> None:
        """Take the trailers, which end this direction."""

    def on_reset(self, reason: Reason) -> None:
        """Learn that the stream is gone in both directions."""

    def on_stopped(self) -> None:
        """Learn that the peer wants no more of what is sent; it may still answer.

        Data sent from now on is dropped and reported as accepted.
        """

    def on_writable(self) -> None:
        """Learn that more can be accepted, after one of a stream's calls returned false."""


class Stream(Protocol):
    """A request/response pair on a session.

    Attributes:
        handler: Where upcalls go; set by whoever takes the stream, before it returns.
        protocol: ``h3``, ``h2`` or ``http/1.1``; for logs only.
    """

    handler: StreamHandler
    protocol: str

    def send_head(self, fields: Fields, end: bool) -> None:
        """Send the head; ``end`` says that no body and no trailers follow."""

    def send_informational(self, fields: Fields) -> None:
        """Send a 1xx response head; sessions whose peer cannot take one drop it."""

    def send_data(self, data: bytes, end: bool) -> bool:
        """Send a piece of the body.

        Returns:
            Whether the data counts as accepted now. If false, it counts as accepted at the next
            :meth:`StreamHandler.on_writable`, and the caller should hold back more.
        """

    def send_trailers(self, fields: Fields) -> bool:
        """Send trailers, which end this direction.

        Returns:
            Whether all of the body and they count as accepted now, as for :meth:`send_data`.
        """

    def consume(self, count: int) -> None:
        """Credit ``count`` delivered body bytes back to the peer."""

    def stop_receiving(self) -> None:
        """Ask the peer to stop sending: the rest of its body is not wanted.

        What still arrives is dropped by the session. Legal before and after the response ended.
        """

    def reset(self, reason: Reason) -> None:
        """End both directions abruptly, with the error code of ``reason``."""


class ClientsStream(Stream, Protocol):
    """A stream that a client opened: who answers on it can see how fast the client takes that."""

    def unsent(self) -> int:
        """Return how much of the body that was sent the client has not taken yet; bytes.

        Between two calls it shrinks by what the client took, and grows by what was sent.
        """

    def taken_beside(self) -> int:
        """Return what the client took on the whole connection so far, of bodies; bytes.

        Negative while it is the stream's own window that holds it up, and not the others' turn.
        """
