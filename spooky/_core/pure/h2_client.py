# cython: annotation_typing=False
"""The client role of HTTP/2: requests out, responses in.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final

from spooky._core import h2, reasons
from spooky._core.h2 import Role, list_fields
from spooky._core.h2_stream import Stream
from spooky._core.reasons import (
    H2_CANCEL,
    H2_NO_ERROR,
    H2_PROTOCOL_ERROR,
    H2_REFUSED_STREAM,
    Reason,
)

Field = tuple[bytes, bytes]

_SETTING_MAX_CONCURRENT_STREAMS: Final = 0x3
"""RFC 9113 section 6.5.2."""

_ROLE: Final = Role(
    head_event="ResponseReceived",
    preface_bytes=0,
    stop_code=H2_CANCEL,
    lost=reasons.UPSTREAM_CONNECTION_LOST,
    broken=reasons.UPSTREAM_PROTOCOL_ERROR,
    overloaded=reasons.UPSTREAM_PROTOCOL_ERROR,
)


class ClientSession(h2.Session):
    """An HTTP/2 connection to a backend.

    Arguments:
        wake: Called when output became pending outside ``receive``.
        limits: What the backend may send, see ``protocol/h2/limits.py``.
        engine: What frames and compresses, see ``protocol/h2/engine.py``.
    """

    EVENT_HANDLERS = MappingProxyType(
        {
            **h2.Session.EVENT_HANDLERS,
            "InformationalResponseReceived": "_on_informational",
            "SettingsReceived": "_on_settings",
        }
    )

    def __init__(self, wake: Callable[[], None], limits: Any, engine: Any) -> None:
        h2.Session.__init__(self, wake, limits, _ROLE, engine)
        self._shutting_down = False
        # Until the backend's settings arrive, as many as it very likely allows; what it refuses
        # comes back as UPSTREAM_GOING_AWAY.
        self._max_streams = limits.max_concurrent_streams
        self._unsent_streams = 0
        # Streams that could not be sent inside a call of theirs, to be told later.
        self._refused: list[Stream] = []

    @property
    def capacity(self) -> int:
        """How many more streams can be opened now."""
        return max(0, self._max_streams - self.active_streams) if self.reusable else 0

    @property
    def reusable(self) -> bool:
        """Whether, once idle, this session may serve another request."""
        return (
            not (self.closed or self._shutting_down)
            and not (self._peer_is_closing or self._engine_is_gone)
            and self._engine.can_send_request
        )

    def open(self, handler: Any) -> Stream:
        """Open a stream; call only while ``capacity`` is positive."""
        # Identifiers are in the order of the heads on the wire (RFC 9113 section 5.1.1).
        self._unsent_streams += 1
        stream = Stream(self, -self._unsent_streams)
        stream.handler = handler
        self._streams[stream.id] = stream
        self.active_streams += 1
        return stream

    def ping(self, payload: bytes) -> bool:
        """Ask for a sign of life.

        Arguments:
            payload: Eight bytes.
        """
        if not self.closed:
            self.unanswered_pings += 1
            self._submit(self._engine.ping, payload)
        return True

    def shutdown(self) -> None:
        """Take no new streams; close with GOAWAY after the last one."""
        self._shutting_down = True
        self._close_if_idle()

    def send_head(self, stream: Stream, fields: Sequence[Field], end: bool) -> None:
        """Send a request head."""
        self._want_output()
        stream.local_ended = end
        try:
            stream_id = self._engine.send_request(fields, end_stream=end)
        except self._errors:
            # The backend sent GOAWAY in the very input that is being delivered.
            stream.local_ended = True
            self._refused.append(stream)
            return
        del self._streams[stream.id]
        self._streams[stream_id] = stream
        stream.id = stream_id

    def send_informational(self, stream: Stream, fields: Sequence[Field]) -> None:
        """Drop a 1xx head: only servers send them."""

    def _deliver_events(self) -> None:
        """Make the upcalls for what happened in the engine, and those that had to wait."""
        h2.Session._deliver_events(self)
        self._tell_refused()

    def _tell_refused(self) -> None:
        """Tell the streams that were never sent."""
        refused = self._refused
        self._refused = []
        for stream in refused:
            if not stream.over:
                self._remove(stream)
                stream.handler.on_reset(reasons.UPSTREAM_GOING_AWAY)

    def _on_message_head(self, event: Any) -> None:
        """Deliver a response head."""
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.head_received = True
        stream.remote_ended = event.end_stream
        if not stream.unwanted:
            stream.handler.on_head(list_fields(event.headers), event.end_stream)

    def _on_informational(self, event: Any) -> None:
        """Deliver a 1xx response head; 101 has no meaning here (RFC 9113 section 8.6)."""
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.unwanted:
            return
        fields = list_fields(event.headers)
        stream.informational += 1
        if (b":status", b"101") in fields or stream.informational > self._limits.max_informational:
            self.reset(stream, H2_PROTOCOL_ERROR)
            stream.handler.on_reset(reasons.UPSTREAM_PROTOCOL_ERROR)
        else:
            stream.handler.on_informational(fields)

    def _on_goaway(self, event: Any) -> None:
        """Learn that the backend takes no new streams, and refuse those not sent yet."""
        h2.Session._on_goaway(self, event)
        self._refused += [stream for stream in self._streams.values() if stream.id < 0]

    def _on_settings(self, event: Any) -> None:
        """Learn how many streams the backend allows."""
        allowed = event.settings.get(_SETTING_MAX_CONCURRENT_STREAMS)
        if allowed is not None:
            self._max_streams = min(self._limits.max_concurrent_streams, allowed)

    def _reset_by_peer(self, stream: Stream, code: int) -> None:
        """Take a stream that the backend reset."""
        self._remove(stream)
        if code == H2_NO_ERROR and stream.remote_ended:
            # A complete response that needs no more of its request (RFC 9113 section 8.1).
            stream.handler.on_stopped()
        elif code == H2_REFUSED_STREAM:
            stream.handler.on_reset(reasons.UPSTREAM_REFUSED)
        else:
            stream.handler.on_reset(reasons.UPSTREAM_RESET)

    def _reset_by_engine(self, stream: Stream | None, code: int) -> None:
        """Take a stream above the last one of a GOAWAY, or one with a broken response."""
        if code != H2_REFUSED_STREAM:
            h2.Session._reset_by_engine(self, stream, code)
        elif stream is not None:
            self._remove(stream)
            stream.handler.on_reset(reasons.UPSTREAM_GOING_AWAY)

    def _broken_stream_reason(self, stream: Stream, code: int) -> Reason:
        """Return why a stream ended on which the backend broke the protocol."""
        if code != H2_PROTOCOL_ERROR:
            return reasons.UPSTREAM_PROTOCOL_ERROR
        if stream.head_received:
            # The body is not as long as its content-length, or its trailers are malformed.
            return reasons.UPSTREAM_BODY_CUT_SHORT
        return reasons.UPSTREAM_BAD_RESPONSE

    def _remove(self, stream: Stream) -> None:
        """Take a stream out that is over, and close after the last one."""
        h2.Session._remove(self, stream)
        self._close_if_idle()

    def _close(self, reason: Reason) -> None:
        """Close; what was never sent may go over another connection."""
        self._tell_refused()
        h2.Session._close(self, reason)

    def _close_if_idle(self) -> None:
        """Close if that is due and nothing is open."""
        if self._shutting_down and not (self.active_streams or self.closed):
            self._close_with(H2_NO_ERROR, reasons.COMPLETED)
