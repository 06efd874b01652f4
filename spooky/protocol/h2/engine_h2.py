"""h2, the pure-Python engine, in the shape of ngh2: the twin and the reference.

Where it differs and RFC 9113 leaves the choice: request heads are not validated here (our
validator answers 400 where ngh2 resets the stream), and a body unlike its content-length ends the
connection, not only its stream.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, cast

from h2 import events as h2_events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, ResponseReceived
from h2.exceptions import H2Error, ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import ExtensionFrame, Frame, GoAwayFrame, HeadersFrame

from spooky._core.reasons import H2_REFUSED_STREAM
from spooky.protocol.h2 import engine
from spooky.protocol.h2.engine import (
    DEFAULT_WINDOW_BYTES,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    SETTING_NO_RFC7540_PRIORITIES,
)
from spooky.protocol.h2.limits import Limits
from spooky.protocol.stream import Field

MAX_STREAM_ID: Final = 2**31 - 1

MAX_ENCODER_TABLE_BYTES: Final = 4_096
"""Our side's HPACK table, whatever the peer allows (attack 6)."""

MAX_PENDING_OUTPUT_BYTES: Final = 4 * 1024 * 1024
"""Output that may wait for a peer that does not read: twice the largest heads of all streams.

h2 answers each frame on a stream that was reset with one more RST_STREAM (attack 7).
"""

NO_RFC7540_PRIORITIES: Final = cast(SettingCodes, SETTING_NO_RFC7540_PRIORITIES)
"""A setting that h2 has no name for (RFC 9218 section 2.1)."""

PRIORITY_UPDATE: Final = 0x10
PRIORITY_UPDATE_MIN_BYTES: Final = 4
"""A frame that h2 does not know (RFC 9218 section 7.1), and the stream it is about."""

# Which directions of a stream have ended.
_LOCAL: Final = 1
_REMOTE: Final = 2
_BOTH: Final = 3


class OverloadError(H2Error):
    """The peer asked for more than it is given."""


class _Connection(H2Connection):
    """h2's connection, except for what it takes wrongly for an error.

    GOAWAY leaves the streams there are alone (RFC 9113 section 6.8), and a 304 may tell a length
    that it has not (section 8.1.1).
    """

    # Closed streams remembered, to tell late frames from wrong ones.
    MAX_CLOSED_STREAMS = 4_096

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        """Report GOAWAY, and stay open."""
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Event]]:
        """Expect no body of a 304, as h2 does for HEAD."""
        frames, events = super()._receive_headers_frame(frame)
        for event in events:
            if isinstance(event, ResponseReceived) and (b":status", b"304") in event.headers:
                self.streams[frame.stream_id]._expected_content_length = 0
        return frames, events


class Engine:
    """An h2 connection whose preface is on its way.

    Arguments:
        client: Whether this side opens streams.
        limits: What the peer may send.
    """

    EVENTS: ClassVar[Mapping[str, type]] = {
        event.__name__: event
        for event in (
            engine.RequestReceived,
            engine.ResponseReceived,
            engine.InformationalResponseReceived,
            engine.TrailersReceived,
            engine.DataReceived,
            engine.StreamReset,
            engine.StreamClosed,
            engine.SettingsReceived,
            engine.PriorityUpdateReceived,
            engine.PingAcknowledged,
            engine.GoAwayReceived,
            engine.ConnectionClosed,
        )
    }
    ERRORS: ClassVar[tuple[type[Exception], ...]] = (H2Error,)
    OVERLOAD_ERRORS: ClassVar[tuple[type[Exception], ...]] = (OverloadError,)

    def __init__(self, client: bool, limits: Limits) -> None:
        self._limits = limits
        self._client = client
        self._connection = connection = _Connection(
            H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
            )
        )
        settings = {
            SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.advertised_header_list_bytes,
        }
        if client:
            settings[SettingCodes.ENABLE_PUSH] = 0
        else:
            settings[SettingCodes.MAX_CONCURRENT_STREAMS] = limits.max_concurrent_streams
            settings[NO_RFC7540_PRIORITIES] = 1
        connection.local_settings = Settings(client=client, initial_values=settings)
        connection.decoder.max_header_list_size = limits.engine_header_list_bytes
        connection.initiate_connection()
        connection.increment_flow_control_window(
            limits.connection_window(client) - DEFAULT_WINDOW_BYTES
        )
        self._output = bytearray()
        self._events: list[Any] = []
        # Streams that are open, and which of their directions have ended.
        self._streams: dict[int, int] = {}
        self._pending_acks = 0
        self._last_accepted = MAX_STREAM_ID
        self._peer_is_closing = False
        self._ending = False
        # The code of the last GOAWAY either way.
        self._error_code = NO_ERROR
        self._closed = False

    # --- state --------------------------------------------------------------------------------

    @property
    def want_write(self) -> bool:
        """Whether there is output."""
        self._collect()
        return bool(self._output)

    @property
    def can_send_request(self) -> bool:
        """Whether the peer takes new streams and identifiers are left."""
        return (
            not (self._ending or self._peer_is_closing)
            and self._connection.highest_outbound_stream_id < MAX_STREAM_ID
        )

    @property
    def remote_window_size(self) -> int:
        """What the connection's window allows to be sent, bytes."""
        return self._connection.outbound_flow_control_window

    def stream_remote_window_size(self, stream_id: int) -> int:
        """Return what the stream's window alone allows to be sent, bytes."""
        # h2 has no public way to ask: its local_flow_control_window looks at the connection's too.
        return self._connection._get_stream_by_id(stream_id).outbound_flow_control_window

    # --- input --------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take whole frames."""
        if self._ending:
            return
        try:
            received = self._connection.receive_data(data)
        except ProtocolError as error:
            # h2 has put a GOAWAY with this code into its output.
            self._error_code = error.error_code
            self._ending = True
            return
        for event in received:
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)
        self._collect()
        if (
            len(self._output) > MAX_PENDING_OUTPUT_BYTES
            or self._pending_acks > self._limits.max_pending_acks
        ):
            raise OverloadError("the peer does not read what it asks for")
        self._close_if_idle()

    def events(self) -> list[Any]:
        """Return what happened since the last call."""
        events, self._events = self._events, []
        return events

    def acknowledge_received_data(self, amount: int, stream_id: int) -> None:
        """Credit consumed bytes to the stream, if it is open, and to the connection."""
        self._connection.acknowledge_received_data(amount, stream_id)

    # --- output -------------------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """Return all output there is."""
        self._collect()
        data = bytes(self._output)
        self._output.clear()
        self._pending_acks = 0
        if self._ending:
            self._close()
        self._close_if_idle()
        return data

    def send_request(self, headers: Iterable[Field], *, end_stream: bool = False) -> int:
        """Open a stream and return its identifier."""
        if not self.can_send_request:
            raise H2Error("the peer takes no new streams")
        stream_id = self._connection.get_next_available_stream_id()
        self._connection.send_headers(stream_id, headers, end_stream=end_stream)
        self._streams[stream_id] = _LOCAL if end_stream else 0
        return stream_id

    def send_response(
        self, stream_id: int, headers: Iterable[Field], *, end_stream: bool = False
    ) -> None:
        """Send a final response head."""
        self._connection.send_headers(stream_id, headers, end_stream=end_stream)
        if end_stream:
            self._end(stream_id, _LOCAL)

    def send_informational_response(self, stream_id: int, headers: Iterable[Field]) -> None:
        """Send a 1xx response head."""
        self._connection.send_headers(stream_id, headers)

    def send_data(self, stream_id: int, data: bytes, *, end_stream: bool = False) -> None:
        """Send a piece of a body that the windows allow."""
        self._connection.send_data(stream_id, data, end_stream=end_stream)
        if end_stream:
            self._end(stream_id, _LOCAL)

    def send_trailers(self, stream_id: int, headers: Iterable[Field]) -> None:
        """Send trailers after what was sent of the body."""
        self._connection.send_headers(stream_id, headers, end_stream=True)
        self._end(stream_id, _LOCAL)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Reset a stream."""
        self._connection.reset_stream(stream_id, error_code)
        self._abort(stream_id, error_code)

    def ping(self, opaque_data: bytes) -> None:
        """Send a PING of eight bytes."""
        self._connection.ping(opaque_data)

    def send_shutdown_notice(self) -> None:
        """Send the GOAWAY that only announces another one (RFC 9113 section 6.8)."""
        self._send_goaway(MAX_STREAM_ID, NO_ERROR)

    def send_goaway(self) -> None:
        """Send GOAWAY without an error: streams seen so far go on, no others are taken."""
        self._last_accepted = self._connection.highest_inbound_stream_id
        self._send_goaway(self._last_accepted, NO_ERROR)
        self._close_if_idle()

    def terminate_connection(self, error_code: int) -> None:
        """Send GOAWAY and end the connection."""
        if self._ending:
            raise H2Error("the connection is ending already")
        self._send_goaway(self._connection.highest_inbound_stream_id, error_code)
        self._error_code = error_code
        self._ending = True

    def _send_goaway(self, last_stream_id: int, error_code: int) -> None:
        """Put a GOAWAY behind the output there is; h2 would close with its own."""
        self._collect()
        frame = GoAwayFrame(0, last_stream_id=last_stream_id, error_code=error_code)
        self._output += frame.serialize()

    def _collect(self) -> None:
        """Take h2's output."""
        self._output += self._connection.data_to_send()

    # --- the end of streams and connection ----------------------------------------------------

    def _end(self, stream_id: int, direction: int) -> None:
        """Learn that a direction of a stream ended."""
        ended = self._streams.get(stream_id)
        if ended is None:
            return
        if ended | direction == _BOTH:
            self._abort(stream_id, NO_ERROR)
        else:
            self._streams[stream_id] = ended | direction

    def _abort(self, stream_id: int, error_code: int) -> None:
        """Learn that a stream is over."""
        if self._streams.pop(stream_id, None) is not None:
            self._events.append(engine.StreamClosed(stream_id, error_code))

    def _close_if_idle(self) -> None:
        """Close after GOAWAY, from either side, once no stream is left."""
        refusing = self._peer_is_closing or self._last_accepted != MAX_STREAM_ID
        if refusing and not self._streams and not self._ending:
            self._ending = True
            if not self._output:
                self._close()

    def _close(self) -> None:
        """Report the end, once."""
        if not self._closed:
            self._closed = True
            self._events.append(engine.ConnectionClosed(self._error_code))

    # --- h2's events --------------------------------------------------------------------------

    def _headers(self, headers: list[Field]) -> list[Field]:
        """Return received fields, if they are not too many."""
        if len(headers) > self._limits.engine_header_count:
            raise OverloadError("a head has too many fields")
        return headers

    def _on_request(self, event: h2_events.RequestReceived) -> None:
        """Take a request head."""
        stream_id = event.stream_id
        if stream_id > self._last_accepted:
            self._connection.reset_stream(stream_id, H2_REFUSED_STREAM)
            return
        self._streams[stream_id] = 0
        ended = event.stream_ended is not None
        self._events.append(engine.RequestReceived(stream_id, self._headers(event.headers), ended))

    def _on_response(self, event: h2_events.ResponseReceived) -> None:
        """Take a response head."""
        ended = event.stream_ended is not None
        self._events.append(
            engine.ResponseReceived(event.stream_id, self._headers(event.headers), ended)
        )

    def _on_informational(self, event: h2_events.InformationalResponseReceived) -> None:
        """Take a 1xx response head."""
        self._events.append(
            engine.InformationalResponseReceived(event.stream_id, self._headers(event.headers))
        )

    def _on_trailers(self, event: h2_events.TrailersReceived) -> None:
        """Take trailers."""
        self._events.append(
            engine.TrailersReceived(event.stream_id, self._headers(event.headers), True)
        )

    def _on_data(self, event: h2_events.DataReceived) -> None:
        """Take a piece of a body; padding is consumed at once."""
        padding = event.flow_controlled_length - len(event.data)
        if padding:
            self.acknowledge_received_data(padding, event.stream_id)
        ended = event.stream_ended is not None
        self._events.append(engine.DataReceived(event.stream_id, event.data, ended))

    def _on_stream_ended(self, event: h2_events.StreamEnded) -> None:
        """Learn that the peer's direction of a stream ended."""
        self._end(event.stream_id, _REMOTE)

    def _on_stream_reset(self, event: h2_events.StreamReset) -> None:
        """Learn that the peer, or h2 for what the peer did, reset a stream."""
        code = int(event.error_code)
        if event.remote_reset and event.stream_id in self._streams:
            self._events.append(engine.StreamReset(event.stream_id, code))
        self._abort(event.stream_id, code)

    def _on_settings(self, event: h2_events.RemoteSettingsChanged) -> None:
        """Take the peer's settings, and keep our encoder's table small."""
        self._pending_acks += 1
        if self._connection.encoder.header_table_size > MAX_ENCODER_TABLE_BYTES:
            self._connection.encoder.header_table_size = MAX_ENCODER_TABLE_BYTES
        changed = {int(code): change.new_value for code, change in event.changed_settings.items()}
        self._events.append(engine.SettingsReceived(changed))

    def _on_unknown_frame(self, event: h2_events.UnknownFrameReceived) -> None:
        """Take PRIORITY_UPDATE, and ignore all others (RFC 9113 section 4.1)."""
        frame = event.frame
        if self._ending or not isinstance(frame, ExtensionFrame) or frame.type != PRIORITY_UPDATE:
            return
        if self._client or frame.stream_id:
            self.terminate_connection(PROTOCOL_ERROR)
        elif len(frame.body) < PRIORITY_UPDATE_MIN_BYTES:
            self.terminate_connection(FRAME_SIZE_ERROR)
        else:
            stream_id = int.from_bytes(frame.body[:PRIORITY_UPDATE_MIN_BYTES], "big")
            value = bytes(frame.body[PRIORITY_UPDATE_MIN_BYTES:])
            self._events.append(engine.PriorityUpdateReceived(stream_id & MAX_STREAM_ID, value))

    def _on_ping(self, event: h2_events.PingReceived) -> None:
        """Count an answer to a PING."""
        self._pending_acks += 1

    def _on_ping_acknowledged(self, event: h2_events.PingAckReceived) -> None:
        """Take the answer to a PING."""
        self._events.append(engine.PingAcknowledged(event.ping_data))

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        """Learn that the peer takes no new streams, and not all of those it was sent."""
        last_stream_id = event.last_stream_id or 0
        self._peer_is_closing = True
        self._error_code = int(event.error_code or NO_ERROR)
        self._events.append(engine.GoAwayReceived(last_stream_id, self._error_code))
        if self._client:
            for stream_id in [each for each in self._streams if each > last_stream_id]:
                self._abort(stream_id, H2_REFUSED_STREAM)


_HANDLERS: Final[Mapping[type[Event], Callable[[Engine, Any], None]]] = {
    h2_events.RequestReceived: Engine._on_request,
    h2_events.ResponseReceived: Engine._on_response,
    h2_events.InformationalResponseReceived: Engine._on_informational,
    h2_events.TrailersReceived: Engine._on_trailers,
    h2_events.DataReceived: Engine._on_data,
    h2_events.StreamEnded: Engine._on_stream_ended,
    h2_events.StreamReset: Engine._on_stream_reset,
    h2_events.RemoteSettingsChanged: Engine._on_settings,
    h2_events.UnknownFrameReceived: Engine._on_unknown_frame,
    h2_events.PingReceived: Engine._on_ping,
    h2_events.PingAckReceived: Engine._on_ping_acknowledged,
    h2_events.ConnectionTerminated: Engine._on_goaway,
}
