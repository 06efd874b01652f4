"""The server role of HTTP/3."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final, cast

from spooky._core import reasons
from spooky._core.h3 import STREAM_ID_STEP, UNIDIRECTIONAL, Role
from spooky._core.h3_errors import (
    H3_EXCESSIVE_LOAD,
    H3_FRAME_UNEXPECTED,
    H3_ID_ERROR,
    H3_NO_ERROR,
    H3_STREAM_CREATION_ERROR,
    ProtocolError,
)
from spooky._core.h3_server import ServerConnection, ServerStream
from spooky._core.reasons import Reason
from spooky.protocol.h3.limits import Limits
from spooky.protocol.h3.session import ConnectionOwner
from spooky.protocol.holding import Holding
from spooky.protocol.priorities import Priorities
from spooky.protocol.quic.session import Close, QuicSession
from spooky.protocol.session import OnStream

GREATEST_REQUEST_ID: Final = (1 << 62) - STREAM_ID_STEP
"""The last client-initiated bidirectional stream that there can be."""


class ServerSession(ServerConnection):
    """An HTTP/3 connection of a client.

    ``on_stream`` is called for each request when its head is complete. A request that the session
    itself refuses has a handler too: it gets ``on_reset`` with the reason, and never a head. For
    what can be answered (431) the session sends the answer.

    Arguments:
        quic: The QUIC session.
        on_stream: Called for each request; returns its handler.
        limits: What the client may send.
        owner: Who owns the connection.

    Attributes:
        priorities: In which order the client wants its responses.
    """

    __slots__ = ("_max_push_id",)

    is_client = False
    ROLE = Role(
        # RFC 9114 section 4.1: the response is complete, the rest of the request is not needed.
        stop_code=H3_NO_ERROR,
        too_short=reasons.CONTENT_LENGTH_MISMATCH,
        too_long=reasons.CONTENT_LENGTH_MISMATCH,
        unsendable=reasons.UPSTREAM_FIELDS_TOO_LARGE,
        too_many_fields=reasons.TOO_MANY_FIELDS,
        fields_too_large=reasons.FIELDS_TOO_LARGE,
    )
    LOST = reasons.CLIENT_CONNECTION_LOST
    PROTOCOL_ERROR = reasons.CLIENT_PROTOCOL_ERROR

    def __init__(
        self,
        quic: QuicSession,
        on_stream: OnStream,
        limits: Limits,
        owner: ConnectionOwner,
    ) -> None:
        super().__init__(quic, owner, limits, on_stream)
        self.priorities = Priorities(cast(Mapping[int, ServerStream], self._requests))
        self._max_push_id = -1

    @property
    def drained(self) -> bool:
        """Whether, after :meth:`shutdown`, the last request has ended and the client has it all.

        Closing the QUIC session any sooner would drop what has to be sent or repeated, GOAWAY
        included.
        """
        return self._goaway >= 0 and not self._requests and self.quic.all_acknowledged

    def holdings(self) -> Iterator[Holding]:
        """Yield what is held for each request, and what is still sent of those that ended."""
        sizes = dict(self.quic.held())
        for stream_id, stream in self._requests.items():
            size = sizes.pop(stream_id, 0)
            if stream._held is not None:
                size += sum(map(len, stream._held))
            yield Holding(size, stream.handler, stream.reset)
        for stream_id, size in sizes.items():
            if not stream_id & UNIDIRECTIONAL:
                yield Holding(size, None, partial(self._drop, stream_id))

    def _drop(self, stream_id: int, reason: Reason) -> None:
        """Send no more of a response that was given to QUIC in whole."""
        self.quic.reset(stream_id, reason.h3_error)
        self.wake()

    def take_max_push_id(self, push_id: int) -> None:
        """Check a MAX_PUSH_ID frame; nothing is ever pushed.

        Raises:
            ProtocolError: It is smaller than the last (RFC 9114 section 7.2.7).
        """
        if push_id < self._max_push_id:
            raise ProtocolError(H3_ID_ERROR, "MAX_PUSH_ID was reduced")
        self._max_push_id = push_id

    def take_priority_update(self, stream_id: int, value: bytes) -> None:
        """Take a PRIORITY_UPDATE frame, which may come ahead of its request.

        What is kept for requests to come is bounded by how many streams the client may open.

        Raises:
            ProtocolError: The client may not open that stream yet (RFC 9218 section 7.2).
        """
        if stream_id // STREAM_ID_STEP >= self.quic.peer_stream_limit:
            raise ProtocolError(H3_ID_ERROR, "a priority beyond the limit of streams")
        stream = self._requests.get(stream_id)
        if stream is not None or self._seen.is_yet_to_come(stream_id):
            self.priorities.update(stream_id, value)

    def reject_push_promise(self) -> None:
        """Say that clients must not push.

        Raises:
            ProtocolError: Always.
        """
        raise ProtocolError(H3_FRAME_UNEXPECTED, "PUSH_PROMISE from a client")

    def _goaway_id(self) -> int:
        """Return the greatest: which request is the first not served is told a round trip later."""
        return GREATEST_REQUEST_ID

    def _push_stream_error(self) -> ProtocolError:
        return ProtocolError(H3_STREAM_CREATION_ERROR, "a push stream from a client")

    def _handshake_reason(self, close: Close) -> Reason:
        return reasons.HANDSHAKE_FAILED

    def _reason_for(self, error: ProtocolError) -> Reason:
        if error.code == H3_EXCESSIVE_LOAD:
            return reasons.CLIENT_EXCESSIVE_LOAD
        return reasons.CLIENT_PROTOCOL_ERROR
