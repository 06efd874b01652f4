"""The server role: requests in, responses out."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from spooky._core import reasons
from spooky._core.h2 import Role, Session, list_fields
from spooky._core.h2_gate import PREFACE
from spooky._core.h2_stream import Stream
from spooky._core.h3_fields import field_value
from spooky._core.reasons import H2_NO_ERROR, H2_PROTOCOL_ERROR, Reason
from spooky.protocol.h2.engine import (
    EngineName,
    HeadReceived,
    PingAcknowledged,
    PriorityUpdateReceived,
    engine_class,
)
from spooky.protocol.h2.limits import DEFAULT_LIMITS, Limits
from spooky.protocol.holding import Holding
from spooky.protocol.priorities import Priorities
from spooky.protocol.session import ByteSession, OnStream, Wake
from spooky.protocol.stream import Fields

SHUTDOWN_PROBE: Final = b"shutdown"
"""The PING whose answer says that the client has seen the shutdown notice."""

ROLE: Final = Role(
    head_event="RequestReceived",
    preface_bytes=len(PREFACE),
    stop_code=H2_NO_ERROR,
    lost=reasons.CLIENT_CONNECTION_LOST,
    broken=reasons.CLIENT_PROTOCOL_ERROR,
    overloaded=reasons.CLIENT_EXCESSIVE_LOAD,
)


class ServerSession(Session):
    """An HTTP/2 connection from a client.

    A malformed request head never becomes a stream: ngh2 resets it with PROTOCOL_ERROR
    (RFC 9113 section 8.1.1), h2 leaves it to the validator behind, which answers 400.

    Arguments:
        on_stream: Called for each request.
        wake: Called when output became pending outside ``receive``.
        limits: What the client may send.
        engine: ``ngh2`` or ``h2``; the build's own if not given.
    """

    EVENT_HANDLERS = MappingProxyType(
        {
            **Session.EVENT_HANDLERS,
            "PriorityUpdateReceived": "_on_priority_update",
        }
    )

    def __init__(
        self,
        on_stream: OnStream,
        wake: Wake,
        *,
        limits: Limits = DEFAULT_LIMITS,
        engine: EngineName | None = None,
    ) -> None:
        super().__init__(wake, limits, ROLE, engine_class(engine)(False, limits))
        self._on_stream = on_stream
        self._priorities = Priorities(self._streams)
        self._shutting_down = False
        self._notice_pending = False

    def shutdown(self) -> None:
        """Announce the end, refuse new streams a round trip later, close after the last one.

        Requests that were on their way are served (RFC 9113 section 6.8).
        """
        if self.closed or self._shutting_down:
            return
        self._shutting_down = True
        self._notice_pending = True
        self._submit(self._engine.send_shutdown_notice)

    def send_head(self, stream: Stream, fields: Fields, end: bool) -> None:
        """Send a response head."""
        stream.local_ended = end
        self._want_output()
        if not end:
            priority = field_value(fields, b"priority")
            if priority is not None:
                self._priorities.override(stream, priority)
                self._sender.ordered = True
        try:
            self._engine.send_response(stream.id, fields, end_stream=end)
        except self._errors:
            return  # The stream is closed; the event that says so is on its way.

    def send_informational(self, stream: Stream, fields: Fields) -> None:
        """Send a 1xx response head."""
        self._want_output()
        try:
            self._engine.send_informational_response(stream.id, fields)
        except self._errors:
            return

    def holdings(self) -> Iterator[Holding]:
        """Yield what is held for each stream."""
        for stream in self._streams.values():
            yield Holding(stream.backlog_bytes, stream.handler, stream.reset)

    def _on_message_head(self, event: HeadReceived) -> None:
        """Deliver a request head."""
        stream_id = event.stream_id
        self._last_peer_stream = stream_id
        if stream_id in self._gate.resets:
            return  # Cancelled in the same breath: no work for it (attack 1).
        stream = Stream(self, stream_id)
        stream.head_received = True
        stream.remote_ended = event.end_stream
        self._streams[stream_id] = stream
        self.active_streams += 1
        fields = list_fields(event.headers)
        self._prioritize(stream, field_value(fields, b"priority"))
        stream.handler = self._on_stream(stream)
        if not stream.over:
            stream.handler.on_head(fields, event.end_stream)

    def _prioritize(self, stream: Stream, value: bytes | None) -> None:
        """Give a new stream its place (RFC 9218), as its request or an earlier frame says."""
        priorities = self._priorities
        if priorities.early:
            stream.signals = priorities.early.pop(stream.id, None)
            # A stream that opens closes those below it that did not (RFC 9113 section 5.1.1).
            for stream_id in [key for key in priorities.early if key < stream.id]:
                del priorities.early[stream_id]
        if value is not None or priorities.signalled:
            priorities.begin(stream, value)
            self._sender.ordered = self._sender.ordered or priorities.signalled

    def _on_priority_update(self, event: PriorityUpdateReceived) -> None:
        """Take a PRIORITY_UPDATE frame, which may come ahead of its request.

        What is kept for requests to come counts as the streams that are open (RFC 9218
        section 7.1), and what is named must be a client's stream.
        """
        stream_id = event.prioritized_stream_id
        early = self._priorities.early
        if stream_id not in self._streams and stream_id not in early:
            kept = len(early) + self.active_streams
            if stream_id % 2 == 0 or (
                stream_id > self._last_peer_stream and kept >= self._limits.max_concurrent_streams
            ):
                self._close_with(H2_PROTOCOL_ERROR, ROLE.broken)
                return
            if stream_id <= self._last_peer_stream:
                return
        self._priorities.update(stream_id, event.field_value)
        self._sender.ordered = self._sender.ordered or self._priorities.signalled

    def _reset_by_peer(self, stream: Stream, code: int) -> None:
        """Take a stream that the client reset."""
        self._remove(stream)
        stream.handler.on_reset(reasons.CLIENT_RESET)

    def _after_output(self) -> None:
        """Send the probe behind the shutdown notice, beside the rest."""
        super()._after_output()
        if self._notice_pending and not self.closed:
            self._notice_pending = False
            self._submit(self._engine.ping, SHUTDOWN_PROBE)

    def _on_ping_acknowledged(self, event: PingAcknowledged) -> None:
        """Refuse new streams once the client knows of the shutdown."""
        if self._shutting_down and event.opaque_data == SHUTDOWN_PROBE:
            self._submit(self._engine.send_goaway)

    def _closed_reason(self) -> Reason:
        """Return why a connection closed that ended in good order."""
        return reasons.DRAINING if self._shutting_down else reasons.COMPLETED


def _check_interface(session: ServerSession) -> ByteSession:
    """Have the type checker compare the session with its contract."""
    return session
