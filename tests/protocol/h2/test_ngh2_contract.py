"""What we rely on in ngh2 0.3.0 beyond its documentation; read this before moving its pin."""

import hpack
import ngh2
import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame

from spooky._core.h2_gate import PREFACE
from spooky.protocol.stream import Field
from tests.protocol.h2.peers import (
    GET,
    OK,
    POST,
    data,
    goaway,
    of_type,
    parse_frames,
    raw_frame,
    rst_stream,
    settings,
    window_update,
)

STREAM_WINDOW = 262_144
CONNECTION_WINDOW = 1_048_576


class Harness:
    """An ngh2 connection and the compression state of its peer."""

    def __init__(self, role: ngh2.Role, peer_settings: dict[int, int], **options: object) -> None:
        configuration = ngh2.Configuration(auto_window_update=False, **options)  # type: ignore[arg-type]
        self.connection = ngh2.Connection(role, configuration)
        self.connection.initiate_connection({3: 100, 4: STREAM_WINDOW})
        self.connection.set_local_window_size(CONNECTION_WINDOW)
        self.encoder = hpack.Encoder()
        preface = PREFACE if role is ngh2.Role.SERVER else b""
        self.connection.receive_data(preface + settings(peer_settings) + settings(ack=True))
        self.connection.data_to_send()
        self.connection.events()

    def head(self, stream_id: int, fields: list[Field], end: bool = False) -> bytes:
        return raw_frame(1, 4 | end, stream_id, self.encoder.encode(fields))

    def receive(self, *frames: bytes) -> list[ngh2.Event]:
        self.connection.receive_data(b"".join(frames))
        return self.connection.events()

    def send(self) -> list[object]:
        return list(parse_frames(self.connection.data_to_send()))

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.connection.events()]


def server(peer_settings: dict[int, int] | None = None, **options: object) -> Harness:
    return Harness(ngh2.Role.SERVER, peer_settings or {}, **options)


def client(peer_settings: dict[int, int] | None = None, **options: object) -> Harness:
    return Harness(ngh2.Role.CLIENT, peer_settings or {}, **options)


def test_the_version_is_the_one_that_was_probed() -> None:
    assert ngh2.__version__ == "0.3.0"


# --- credit ---------------------------------------------------------------------------------------


def test_nothing_is_credited_until_acknowledged() -> None:
    end = server()
    end.receive(end.head(1, POST), *(data(1, bytes(16_384)) for _ in range(16)))
    assert end.send() == []
    assert end.connection.stream_local_window_size(1) == 0
    end.connection.acknowledge_received_data(STREAM_WINDOW, 1)
    assert [(frame.stream_id, frame.window_increment) for frame in end.send()] == [  # type: ignore[attr-defined]
        (1, STREAM_WINDOW)
    ]


def test_data_can_be_acknowledged_after_its_stream_closed() -> None:
    end = server()
    for index in range(64):
        stream_id = 2 * index + 1
        end.receive(end.head(stream_id, POST), data(stream_id, bytes(16_384), end=True))
        end.connection.send_response(stream_id, OK, end_stream=True)
        end.send()
        assert "StreamClosed" in end.names()
    assert end.connection.local_window_size == 0
    for index in range(64):
        end.connection.acknowledge_received_data(16_384, 2 * index + 1)
    assert sum(frame.window_increment for frame in end.send()) == CONNECTION_WINDOW  # type: ignore[attr-defined]


def test_acknowledging_more_than_was_received_is_an_error() -> None:
    end = server()
    end.receive(end.head(1, POST), data(1, b"x"))
    with pytest.raises(ValueError, match="exceeds"):
        end.connection.acknowledge_received_data(2, 1)


def test_data_for_a_stream_we_reset_is_credited_by_itself_and_not_told() -> None:
    end = server()
    end.receive(end.head(1, POST))
    end.connection.reset_stream(1, 8)
    credited = 0
    for index in range(200):
        if index == 100:
            end.send()
        assert not any(
            isinstance(event, ngh2.DataReceived) for event in end.receive(data(1, bytes(10_000)))
        )
        if index >= 100:
            credited += sum(getattr(frame, "window_increment", 0) for frame in end.send())
    assert credited > 1_000_000


def test_the_part_of_a_data_frame_before_its_streams_reset_is_never_credited() -> None:
    """Why sessions give it whole frames (:mod:`spooky.protocol.h2.gate`)."""
    end = server()
    for stream_id in range(1, 121, 2):
        frame = data(stream_id, bytes(16_384))
        end.receive(end.head(stream_id, POST), frame[: 9 + 16_000])
        end.connection.reset_stream(stream_id, 8)
        end.send()
        end.receive(frame[9 + 16_000 :])
        assert end.send() == []
    assert end.connection.local_window_size == CONNECTION_WINDOW - 60 * 16_384


def test_the_last_frame_of_a_body_that_is_too_short_is_never_credited() -> None:
    """Why sessions retire connections with many of them (``RETIRE_AFTER_CUT_BODIES``)."""
    end = server()
    for stream_id in range(1, 129, 2):
        head = end.head(stream_id, [*POST, (b"content-length", b"20000")])
        events = end.receive(head, data(stream_id, bytes(16_384), end=True))
        assert [type(event).__name__ for event in events] == ["RequestReceived"]
        end.send()
        assert end.names() == ["StreamClosed"]
    assert end.connection.local_window_size == 0


def test_padding_is_credited_by_itself() -> None:
    end = server()
    end.receive(end.head(1, POST))
    for _ in range(10_000):
        (event,) = end.receive(data(1, b"", padding=255))
        assert isinstance(event, ngh2.DataReceived)
        assert event.data == b""
        end.send()
    assert end.connection.local_window_size > 0


# --- sending --------------------------------------------------------------------------------------


def test_what_the_windows_allow_is_in_the_next_output() -> None:
    end = server()
    end.receive(end.head(1, GET, end=True))
    end.connection.send_response(1, OK)
    end.connection.send_data(1, bytes(65_535))
    assert end.connection.want_write
    sent = sum(len(frame.data) for frame in of_type(end.send(), DataFrame))  # type: ignore[arg-type]
    assert sent == 65_535
    assert end.connection.queued_body_size() == 0
    assert end.connection.remote_window_size == 0
    assert end.connection.stream_remote_window_size(1) == 0
    assert not end.connection.want_write


def test_the_end_is_in_the_frame_of_the_last_byte() -> None:
    end = server()
    end.receive(end.head(1, GET, end=True))
    end.connection.send_response(1, OK)
    end.connection.send_data(1, bytes(65_535))
    end.connection.send_data(1, b"", end_stream=True)
    assert "END_STREAM" in end.send()[-1].flags  # type: ignore[attr-defined]


def test_an_empty_end_waits_for_the_window() -> None:
    end = server()
    end.receive(end.head(1, GET, end=True))
    end.connection.send_response(1, OK)
    end.connection.send_data(1, bytes(65_535))
    end.send()
    end.connection.send_data(1, b"", end_stream=True)
    assert end.send() == []
    end.receive(window_update(0, 1), window_update(1, 1))
    (frame,) = end.send()
    assert "END_STREAM" in frame.flags  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [server, client])
def test_streams_are_served_strictly_in_the_order_of_their_identifiers(make: object) -> None:
    """Why turns are the session's (:mod:`spooky.protocol.h2.sender`)."""
    end: Harness = make({4: 2**31 - 1})  # type: ignore[operator]
    end.receive(window_update(0, 1_000_000))
    if make is server:
        end.receive(end.head(1, GET, end=True), end.head(3, GET, end=True))
        end.connection.send_response(1, OK)
        end.connection.send_response(3, OK)
    else:
        assert end.connection.send_request(POST) == 1
        assert end.connection.send_request(POST) == 3
    for stream_id in (1, 3):
        end.connection.send_data(stream_id, bytes(100_000))
    order = [frame.stream_id for frame in of_type(end.send(), DataFrame)]  # type: ignore[arg-type]
    assert order == sorted(order)


def test_a_reset_overtakes_what_is_queued() -> None:
    end = server()
    end.receive(end.head(1, POST))
    end.connection.send_response(1, OK)
    end.connection.send_data(1, b"hello", end_stream=True)
    end.connection.reset_stream(1, 0)
    (frame,) = end.send()
    assert isinstance(frame, RstStreamFrame)


def test_output_is_always_whole_frames() -> None:
    end = server({4: 2**31 - 1})
    end.receive(window_update(0, 10_000_000), end.head(1, GET, end=True))
    end.connection.send_response(1, OK)
    for _ in range(20):
        end.connection.send_data(1, bytes(100_000))
        parse_frames(end.connection.data_to_send())


def test_the_window_of_a_request_is_unknown_until_its_head_is_in_the_output() -> None:
    end = client()
    assert end.connection.send_request(POST) == 1
    with pytest.raises(ngh2.StreamUnavailableError):
        end.connection.stream_remote_window_size(1)
    end.send()
    assert end.connection.stream_remote_window_size(1) == 65_535


def test_requests_beyond_what_the_peer_allows_wait() -> None:
    end = client({3: 1})
    end.connection.send_request(GET, end_stream=True)
    end.connection.send_request(GET, end_stream=True)
    assert [frame.stream_id for frame in end.send()] == [1]  # type: ignore[attr-defined]
    end.receive(end.head(1, OK, end=True))
    assert [frame.stream_id for frame in end.send()] == [3]  # type: ignore[attr-defined]


def test_calls_on_a_closed_stream_raise_stream_errors_and_resets_do_nothing() -> None:
    end = server()
    end.receive(end.head(1, GET, end=True), rst_stream(1))
    with pytest.raises(ngh2.StreamProtocolError):
        end.connection.send_response(1, OK)
    with pytest.raises(ngh2.StreamProtocolError):
        end.connection.send_data(1, b"x")
    with pytest.raises(ngh2.StreamProtocolError):
        end.connection.send_trailers(1, [])
    end.connection.reset_stream(1, 8)
    assert end.send() == []


def test_authorization_and_short_cookies_are_never_indexed() -> None:
    """Compression must not become an oracle for them (RFC 7541 section 7.1.3)."""
    end = client()
    end.connection.send_request(
        [*GET, (b"authorization", b"Basic eA=="), (b"cookie", b"id=1"), (b"x-other", b"1")]
    )
    (frame,) = end.send()
    decoded = hpack.Decoder().decode(frame.data, raw=True)  # type: ignore[attr-defined]
    assert [field[0] for field in decoded if not field.indexable] == [b"authorization", b"cookie"]


# --- messages -------------------------------------------------------------------------------------


def test_a_malformed_head_is_reset_and_never_told() -> None:
    end = server()
    events = end.receive(end.head(1, GET[:3], end=True), end.head(3, GET, end=True))
    assert [type(event).__name__ for event in events] == ["RequestReceived"]
    (frame,) = end.send()
    assert isinstance(frame, RstStreamFrame)
    assert (frame.stream_id, frame.error_code) == (1, 1)
    (event,) = end.connection.events()
    assert isinstance(event, ngh2.StreamClosed)
    assert (event.stream_id, event.error_code) == (1, 1)


def test_never_indexed_fields_are_a_subclass_of_tuple() -> None:
    """Compiled kernels want exact tuples, so sessions convert."""
    end = server()
    block = end.encoder.encode(GET) + b"\x10\x01a\x01b"
    (event,) = end.receive(raw_frame(1, 5, 1, block))
    assert isinstance(event, ngh2.RequestReceived)
    assert isinstance(event.headers[-1], ngh2.NeverIndexedHeader)
    assert event.headers[-1] == (b"a", b"b")


@pytest.mark.parametrize("limit", ["count", "bytes"])
def test_a_head_beyond_the_limits_raises_and_ends_without_goaway(limit: str) -> None:
    """Why sessions write the last GOAWAY themselves. Events before it are kept."""
    end = server(max_inbound_header_count=20, max_inbound_header_list_size=2_000)
    fields = [(b"a", b"b")] * 20 if limit == "count" else [(b"a", b"b" * 2_000)]
    with pytest.raises(ngh2.DenialOfServiceError):
        end.connection.receive_data(end.head(1, GET, end=True) + end.head(3, [*GET, *fields]))
    assert end.names() == ["RequestReceived"]
    with pytest.raises(ngh2.ConnectionStateError):
        end.connection.data_to_send()
    with pytest.raises(ngh2.ConnectionStateError):
        _ = end.connection.want_write


def test_a_wrong_preface_raises() -> None:
    connection = ngh2.Connection(ngh2.Role.SERVER)
    connection.initiate_connection()
    with pytest.raises(ngh2.ConnectionProtocolError):
        connection.receive_data(b"GET / HTTP/1.1\r\n\r\n")


def test_a_broken_rule_is_told_after_the_goaway_was_taken() -> None:
    end = server()
    end.receive(end.head(1, POST))
    assert end.receive(raw_frame(6, 0, 0, bytes(7))) == []
    (frame,) = end.send()
    assert isinstance(frame, GoAwayFrame)
    (event,) = end.connection.events()
    assert isinstance(event, ngh2.ConnectionClosed)
    assert event.error_code == 6


def test_a_reset_by_the_peer_is_told_twice_and_before_the_next_event() -> None:
    end = server()
    events = end.receive(end.head(1, POST), rst_stream(1, 7), end.head(3, GET, end=True))
    assert [type(event).__name__ for event in events] == [
        "RequestReceived", "StreamReset", "StreamClosed", "RequestReceived",
    ]  # fmt: skip


def test_a_push_ends_the_connection_of_a_client_that_takes_none() -> None:
    end = client()
    connection = ngh2.Connection(ngh2.Role.CLIENT)
    connection.initiate_connection({2: 0})
    connection.receive_data(settings() + settings(ack=True))
    connection.send_request(GET, end_stream=True)
    connection.data_to_send()
    connection.receive_data(raw_frame(5, 4, 1, b"\0\0\0\x02" + end.encoder.encode(GET)))
    assert isinstance(parse_frames(connection.data_to_send())[-1], GoAwayFrame)


# --- the end --------------------------------------------------------------------------------------


def test_a_ping_overtakes_a_shutdown_notice_in_the_same_output() -> None:
    """Why the probe is submitted only after the notice was taken."""
    end = server()
    end.connection.send_shutdown_notice()
    end.connection.ping(bytes(8))
    assert [type(frame) for frame in end.send()] == [PingFrame, GoAwayFrame]


def test_after_goaway_new_streams_are_ignored_and_the_last_one_closes() -> None:
    end = server()
    end.receive(end.head(1, GET, end=True))
    end.connection.send_goaway()
    (frame,) = end.send()
    assert frame.last_stream_id == 1  # type: ignore[attr-defined]
    assert end.receive(end.head(3, GET, end=True)) == []
    end.connection.send_response(1, OK, end_stream=True)
    assert [type(frame) for frame in end.send()] == [HeadersFrame]
    assert end.names() == ["StreamClosed", "ConnectionClosed"]


def test_goaway_closes_the_streams_above_its_last_as_refused() -> None:
    end = client()
    for _ in range(3):
        end.connection.send_request(GET, end_stream=True)
    end.send()
    assert end.connection.can_send_request
    events = end.receive(goaway(1))
    assert isinstance(events[0], ngh2.GoAwayReceived)
    closed = [
        (event.stream_id, event.error_code)
        for event in events
        if isinstance(event, ngh2.StreamClosed)
    ]
    assert sorted(closed) == [(3, 7), (5, 7)]
    assert not end.connection.can_send_request
    with pytest.raises(ngh2.ConnectionClosingError):
        end.connection.send_request(GET, end_stream=True)


def test_terminate_leaves_one_goaway_and_takes_no_more_calls() -> None:
    end = server()
    end.connection.terminate_connection(2)
    with pytest.raises(ngh2.ConnectionStateError):
        end.connection.ping(bytes(8))
    with pytest.raises(ngh2.ConnectionStateError):
        end.connection.terminate_connection(1)
    assert end.connection.want_write
    assert [frame.error_code for frame in end.send()] == [2]  # type: ignore[attr-defined]
    assert end.names() == ["ConnectionClosed"]
    assert not end.connection.want_write


def test_too_many_resets_end_the_connection_as_if_we_had_failed() -> None:
    """So that limit of nghttp2's has to lie beyond ours."""
    end = server(stream_reset_rate_limit=(10, 0))
    for stream_id in range(1, 23, 2):
        end.receive(end.head(stream_id, GET, end=True), rst_stream(stream_id))
    assert [frame.error_code for frame in of_type(end.send(), GoAwayFrame)] == [2]


def test_unread_acknowledgements_are_bounded() -> None:
    end = server(max_outbound_ack=10)
    end.receive(raw_frame(6, 0, 0, bytes(8)) * 10)
    with pytest.raises(ngh2.DenialOfServiceError):
        end.receive(raw_frame(6, 0, 0, bytes(8)))
