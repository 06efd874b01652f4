"""The server role: requests as they should be, and requests that break off."""

import pytest

from spooky._core import h3_errors as errors
from spooky._core import reasons
from spooky._core.h3_frames import (
    DATA,
    GOAWAY,
    HEADERS,
    MAX_PUSH_ID,
    PUSH_PROMISE,
    SETTINGS,
    parse_settings,
)
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky.protocol.h3.limits import Limits
from spooky.protocol.quic.session import Close
from tests.protocol.h3.peers import (
    CONTROL,
    GET,
    HANDSHAKE,
    OK,
    PEER_CLOSED,
    POST,
    REQUEST,
    SERVER_CONTROL,
    Server,
    assert_clean,
    block,
    control,
    data,
    headers,
    make_server,
)

GREASE = encode_frame(0x21 + 0x1F * 5, b"grease")
"""A frame of a reserved type (RFC 9114 section 7.2.8)."""


def error_code(server: Server) -> int:
    assert server.quic.closed is not None
    return server.quic.closed[0]


# --- requests and responses -------------------------------------------------------------------


def test_settings_open_the_control_stream() -> None:
    """RFC 9114 section 6.2.1; no dynamic table, no blocked streams (attack 24)."""
    server = make_server(Limits(max_headers_count=10, max_headers_bytes=1000))
    assert server.owner.established is HANDSHAKE
    assert list(server.quic.sent) == [SERVER_CONTROL]
    assert server.quic.sent[SERVER_CONTROL][0] == 0
    [(kind, payload)] = server.quic.frames(SERVER_CONTROL)
    assert kind == SETTINGS
    assert parse_settings(payload) == {0x1: 0, 0x6: 1000 + 10 * 32, 0x7: 0}


def test_settings_wait_for_room() -> None:
    server = make_server(established=False)
    server.quic.streams_left[True] = 0
    server.session.on_handshake(HANDSHAKE)
    server.session.on_streams_available()
    assert not server.quic.sent
    server.quic.streams_left[True] = 1
    server.quic.room = 3
    server.session.on_streams_available()
    server.quic.room = None
    server.session.on_stream_writable(SERVER_CONTROL)
    [(kind, _)] = server.quic.frames(SERVER_CONTROL)
    assert kind == SETTINGS


def test_a_request_without_a_body_ends_with_its_head() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    assert server.request.events == [("head", True)]
    assert server.request.head == GET
    server.stream().send_head(OK, True)
    assert server.quic.frames(REQUEST) == [(HEADERS, block(OK))]
    assert REQUEST in server.quic.ended
    assert_clean(server.session)


def test_an_end_that_comes_late_is_delivered_as_empty_data() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(GET))
    server.quic.deliver(REQUEST, b"", fin=True)
    assert server.request.events == [("head", False), ("data", 0, True)]


def test_data_is_delivered_before_its_frame_is_complete() -> None:
    server = make_server()
    frame = data(b"abcdef")
    server.quic.deliver(REQUEST, headers(POST) + frame[:4])
    assert server.request.body == b"ab"
    server.quic.deliver(REQUEST, frame[4:] + data(b"gh"), fin=True)
    assert server.request.body == b"abcdefgh"
    assert server.request.events == [
        ("head", False), ("data", 2, False), ("data", 4, False), ("data", 2, True),
    ]  # fmt: skip


def test_chunks_within_a_frame_are_passed_on_uncopied() -> None:
    server = make_server()
    chunk = b"x" * 1000
    server.quic.deliver(REQUEST, headers(POST) + data(chunk * 2)[:3])
    seen: list[bytes] = []
    server.request.on_data = lambda piece, end: seen.append(piece)  # type: ignore[method-assign]
    server.quic.deliver(REQUEST, chunk)
    assert seen[0] is chunk


@pytest.mark.parametrize("cut", [False, True])
def test_every_byte_may_come_alone(cut: bool) -> None:
    server = make_server()
    wire = GREASE + headers(POST) + GREASE + data(b"body") + headers([(b"x-t", b"1")]) + GREASE
    pieces = [wire[i : i + 1] for i in range(len(wire))] if cut else [wire]
    for piece in pieces[:-1]:
        server.quic.deliver(REQUEST, piece)
    server.quic.deliver(REQUEST, pieces[-1], fin=True)
    assert server.request.head == POST
    assert server.request.body == b"body"
    assert server.request.trailers == [(b"x-t", b"1")]
    assert server.quic.outstanding(REQUEST) == 0


def test_trailers_are_delivered_when_the_stream_ends() -> None:
    """Until then the peer may still reset the stream, or break the protocol."""
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST) + headers([(b"x-t", b"1")]))
    assert server.request.trailers is None
    server.quic.deliver(REQUEST, b"", fin=True)
    assert server.request.events == [("head", False), ("trailers",)]


def test_a_response_with_everything() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    stream = server.stream()
    stream.send_informational([(b":status", b"103")])
    stream.send_head(OK, False)
    assert stream.send_data(b"small", False)
    assert stream.send_data(b"x" * 10_000, False)
    assert stream.send_data(b"", False)
    assert stream.send_trailers([(b"x-t", b"1")])
    assert server.quic.frames(REQUEST) == [
        (HEADERS, block([(b":status", b"103")])),
        (HEADERS, block(OK)),
        (DATA, b"small"),
        (DATA, b"x" * 10_000),
        (HEADERS, block([(b"x-t", b"1")])),
    ]
    assert_clean(server.session)


def test_calls_on_an_ended_stream_are_ignored() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    stream = server.stream()
    stream.send_head(OK, True)
    stream.send_head(OK, False)
    assert stream.send_data(b"late", True)
    stream.send_trailers([])
    stream.consume(5)
    stream.stop_receiving()
    stream.reset(reasons.INTERNAL_ERROR)
    assert server.quic.frames(REQUEST) == [(HEADERS, block(OK))]
    assert not server.quic.resets
    assert not server.quic.stops


def test_what_quic_does_not_accept_is_held_and_offered_again() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    stream = server.stream()
    server.quic.room = 10
    stream.send_head(OK, False)
    body = bytes(range(256)) * 200
    assert not stream.send_data(body[:40_000], False)
    assert not stream.send_data(body[40_000:], False)
    assert not stream.send_data(b"", True)
    assert server.session.active_streams == 1
    while server.request.writable == 0:
        server.quic.taken[REQUEST] = len(server.quic.sent[REQUEST])
        server.quic.room = 777
        server.session.on_stream_writable(REQUEST)
    frames = server.quic.frames(REQUEST)
    assert b"".join(payload for kind, payload in frames if kind == DATA) == body
    assert REQUEST in server.quic.ended
    assert server.request.events == [("head", True), ("writable",)]
    assert_clean(server.session)


def test_the_end_counts_as_accepted_only_with_the_rest() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    server.quic.room = 0
    server.stream().send_head(OK, True)
    assert REQUEST not in server.quic.ended
    assert server.session.active_streams == 1
    server.quic.room = None
    server.session.on_stream_writable(REQUEST)
    assert REQUEST in server.quic.ended
    assert server.session.active_streams == 0


def test_trailers_count_as_accepted_only_with_the_rest() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    stream = server.stream()
    stream.send_head(OK, False)
    assert stream.send_data(b"small", False)
    server.quic.room = 0
    assert not stream.send_trailers([(b"x-t", b"1")])
    assert server.request.writable == 0
    server.quic.room = None
    server.session.on_stream_writable(REQUEST)
    assert server.request.writable == 1
    assert REQUEST in server.quic.ended
    assert_clean(server.session)


def test_a_response_before_the_body_was_read_stops_the_upload() -> None:
    """RFC 9114 section 4.1: STOP_SENDING with H3_NO_ERROR."""
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST) + data(b"part"))
    stream = server.stream()
    stream.send_head(OK, True)
    assert server.session.active_streams == 1
    stream.stop_receiving()
    assert server.quic.stops == {REQUEST: errors.H3_NO_ERROR}
    assert_clean(server.session)
    # What still comes is nobody's.
    server.quic.deliver(REQUEST, data(b"late"))
    server.session.on_stream_reset(REQUEST, errors.H3_NO_ERROR)
    assert server.request.events == [("head", False), ("data", 4, False)]
    assert_clean(server.session)


def test_an_upload_stopped_before_the_response_may_be_reset_by_the_client() -> None:
    """RFC 9000 section 3.5: that is how STOP_SENDING is answered; the response goes on."""
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST))
    stream = server.stream()
    stream.stop_receiving()
    server.session.on_stream_reset(REQUEST, errors.H3_NO_ERROR)
    server.quic.deliver(REQUEST, data(b"late"))
    assert server.request.events == [("head", False)]
    stream.send_head(OK, True)
    assert not server.quic.resets
    assert_clean(server.session)


def test_resetting_ends_both_directions_with_the_reasons_code() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST) + data(b"x"))
    server.request.calling = True
    server.stream().reset(reasons.UPSTREAM_BODY_CUT_SHORT)
    assert server.quic.resets == {REQUEST: errors.H3_INTERNAL_ERROR}
    assert server.quic.stops == {REQUEST: errors.H3_INTERNAL_ERROR}
    assert server.request.reset is None
    assert_clean(server.session)


def test_resetting_after_the_request_ended_needs_no_stop_sending() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    server.stream().reset(reasons.INTERNAL_ERROR)
    assert server.quic.resets == {REQUEST: errors.H3_INTERNAL_ERROR}
    assert not server.quic.stops


def test_a_handler_may_reset_within_an_upcall() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST))
    recorder = server.request
    recorder.on_data = (  # type: ignore[method-assign]
        lambda piece, end: server.stream().reset(reasons.BODY_TOO_LARGE)
    )
    server.quic.deliver(REQUEST, data(b"one") + data(b"two") + headers(GET), fin=True)
    assert recorder.events == [("head", False)]
    assert server.quic.closed is None
    assert_clean(server.session)


def test_a_reset_in_the_midst_of_the_last_bytes_needs_no_stop_sending() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST))
    recorder = server.request
    recorder.on_data = (  # type: ignore[method-assign]
        lambda piece, end: server.stream().reset(reasons.BODY_TOO_LARGE)
    )
    server.quic.deliver(REQUEST, data(b"one") + data(b"two"), fin=True)
    assert REQUEST in server.quic.resets
    assert not server.quic.stops


# --- credit -----------------------------------------------------------------------------------


def test_only_consumed_body_bytes_are_credited() -> None:
    """Credit follows consumption; framing and heads wait for nobody."""
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST))
    assert server.quic.outstanding(REQUEST) == 0
    server.request.consume = False
    server.quic.deliver(REQUEST, GREASE + data(b"x" * 1000))
    assert server.quic.outstanding(REQUEST) == 1000
    server.stream().consume(400)
    assert server.quic.outstanding(REQUEST) == 600
    # Never more than was delivered, whatever the handler says.
    server.stream().consume(5000)
    assert server.quic.outstanding(REQUEST) == 0


@pytest.mark.parametrize("how", ["reset by us", "reset by the client", "response complete"])
def test_a_stream_that_ends_returns_the_connections_credit(how: str) -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST))
    server.request.consume = False
    server.quic.deliver(REQUEST, data(b"x" * 1000))
    assert server.quic.outstanding(REQUEST) == 1000
    if how == "reset by us":
        server.stream().reset(reasons.INTERNAL_ERROR)
    elif how == "reset by the client":
        server.session.on_stream_reset(REQUEST, errors.H3_REQUEST_CANCELLED)
    else:
        server.stream().stop_receiving()
        server.stream().send_head(OK, True)
    assert server.quic.outstanding(REQUEST) == 0


# --- cancellation -----------------------------------------------------------------------------


def test_a_reset_request_is_cancelled() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST) + data(b"part"))
    server.session.on_stream_reset(REQUEST, errors.H3_REQUEST_CANCELLED)
    assert server.request.reset is reasons.CLIENT_RESET
    assert server.quic.resets == {REQUEST: errors.H3_REQUEST_CANCELLED}
    assert not server.quic.stops
    assert_clean(server.session)


def test_a_client_that_wants_no_response_cancels() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST) + data(b"part"))
    server.stream().send_head(OK, False)
    server.session.on_stop_sending(REQUEST, errors.H3_REQUEST_CANCELLED)
    assert server.request.reset is reasons.CLIENT_RESET
    assert server.quic.stops == {REQUEST: errors.H3_REQUEST_CANCELLED}
    assert not server.quic.resets  # QUIC did that (RFC 9000 section 3.5)
    assert_clean(server.session)


def test_resets_after_both_directions_ended_change_nothing() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    server.stream().send_head(OK, True)
    server.session.on_stop_sending(REQUEST, errors.H3_REQUEST_CANCELLED)
    server.session.on_stream_reset(REQUEST, errors.H3_REQUEST_CANCELLED)
    server.session.on_stream_writable(REQUEST)
    assert server.request.events == [("head", True)]
    assert len(server.requests) == 1


@pytest.mark.parametrize("how", ["reset", "stop"])
def test_a_request_cancelled_before_its_head_is_nobodys(how: str) -> None:
    server = make_server()
    if how == "reset":
        server.session.on_stream_reset(REQUEST, errors.H3_REQUEST_CANCELLED)
        assert server.quic.resets == {REQUEST: errors.H3_REQUEST_CANCELLED}
    else:
        server.session.on_stop_sending(REQUEST, errors.H3_REQUEST_CANCELLED)
        assert server.quic.stops == {REQUEST: errors.H3_REQUEST_CANCELLED}
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    assert server.requests == []
    assert_clean(server.session)


def test_streams_may_begin_in_any_order_and_end_once() -> None:
    server = make_server()
    for stream_id in (8, 0, 4, 8, 0):
        server.quic.deliver(stream_id, headers(GET), fin=True)
        for recorder in server.requests:
            assert recorder.stream is not None
            recorder.stream.send_head(OK, True)
    assert len(server.requests) == 3
    assert server.session.active_streams == 0


# --- malformed requests -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "sent"), [(b"5", b"abcd"), (b"5", b"abcdef"), (b"0", b"a"), (b"5", b"")]
)
def test_a_body_must_be_as_long_as_its_content_length(declared: bytes, sent: bytes) -> None:
    """RFC 9114 section 4.1.2; attacks 27 and 28, with the end in a frame and after it."""
    for late in (False, True):
        server = make_server()
        server.quic.deliver(REQUEST, headers([*POST, (b"content-length", declared)]))
        if late:
            server.quic.deliver(REQUEST, data(sent))
            server.quic.deliver(REQUEST, b"", fin=True)
        else:
            server.quic.deliver(REQUEST, data(sent), fin=True)
        assert server.request.reset is reasons.CONTENT_LENGTH_MISMATCH
        assert not server.request.ended
        assert len(server.request.body) <= int(declared)
        assert server.quic.resets == {REQUEST: errors.H3_MESSAGE_ERROR}
        assert server.quic.closed is None
        assert_clean(server.session)


def test_a_body_too_short_before_trailers_is_refused() -> None:
    server = make_server()
    head = headers([*POST, (b"content-length", b"5")])
    server.quic.deliver(REQUEST, head + data(b"abcd") + headers([(b"x-t", b"1")]), fin=True)
    assert server.request.reset is reasons.CONTENT_LENGTH_MISMATCH


def test_a_body_announced_and_not_sent_reaches_nobody() -> None:
    """Attack 27: the head alone would have a backend wait for a body, or smuggle one."""
    server = make_server()
    server.quic.deliver(REQUEST, headers([*POST, (b"content-length", b"5")]), fin=True)
    assert server.request.events == [("reset", reasons.CONTENT_LENGTH_MISMATCH)]
    assert server.quic.resets == {REQUEST: errors.H3_MESSAGE_ERROR}


@pytest.mark.parametrize("value", [b"+5", b"5, 5", b"", b"5_0", b"-1", b"9" * 40])
def test_a_malformed_content_length_is_left_to_the_validator(value: bytes) -> None:
    """Attack 28."""
    server = make_server()
    server.quic.deliver(REQUEST, headers([*POST, (b"content-length", value)]) + data(b"x"))
    assert server.request.events == [("head", False), ("data", 1, False)]


@pytest.mark.parametrize(
    "wire",
    [b"", GREASE],
    ids=["an empty stream", "only unknown frames"],
)
def test_a_stream_without_a_head_is_incomplete(wire: bytes) -> None:
    """RFC 9114 section 4.1: H3_REQUEST_INCOMPLETE."""
    server = make_server()
    server.quic.deliver(REQUEST, wire, fin=True)
    assert server.request.events == [("reset", reasons.CLIENT_PROTOCOL_ERROR)]
    assert server.quic.resets == {REQUEST: errors.H3_REQUEST_INCOMPLETE}
    assert server.quic.closed is None


@pytest.mark.parametrize(
    "wire",
    [
        headers(GET)[:-1],
        headers(GET)[:1],
        headers(POST) + data(b"abc")[:-1],
        headers(POST) + b"\x40",
        headers(POST) + GREASE[:-1],
    ],
)
def test_a_stream_that_ends_within_a_frame_is_a_frame_error(wire: bytes) -> None:
    """RFC 9114 section 7.1."""
    server = make_server()
    server.quic.deliver(REQUEST, wire, fin=True)
    assert error_code(server) == errors.H3_FRAME_ERROR
    for request in server.requests:
        assert request.reset is reasons.CLIENT_PROTOCOL_ERROR


@pytest.mark.parametrize("kind", [0x02, 0x06, 0x08, 0x09, SETTINGS, GOAWAY, MAX_PUSH_ID, 0xF0700])
def test_frames_that_have_no_place_on_a_request_stream(kind: int) -> None:
    """RFC 9114 sections 7.2 and 7.2.8, RFC 9218 section 7.2."""
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST) + encode_frame(kind, b"\0"))
    assert error_code(server) == errors.H3_FRAME_UNEXPECTED


def test_a_client_must_not_push() -> None:
    """RFC 9114 section 7.2.5."""
    server = make_server()
    server.quic.deliver(REQUEST, encode_frame(PUSH_PROMISE, b"\0"))
    assert error_code(server) == errors.H3_FRAME_UNEXPECTED


@pytest.mark.parametrize("frame", [data(b"x"), headers([(b"x", b"1")])])
def test_nothing_follows_trailers(frame: bytes) -> None:
    """RFC 9114 section 4.1."""
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST) + headers([(b"x", b"1")]) + frame)
    assert error_code(server) == errors.H3_FRAME_UNEXPECTED
    assert server.request.reset is reasons.CLIENT_PROTOCOL_ERROR
    assert server.request.trailers is None


# --- going away -------------------------------------------------------------------------------


def goaway(identifier: int) -> tuple[int, bytes]:
    return GOAWAY, encode_varint(identifier)


def test_shutdown_finishes_what_is_in_flight_and_rejects_the_rest() -> None:
    """RFC 9114 section 5.2."""
    server = make_server()
    server.quic.deliver(4, headers(GET), fin=True)
    server.session.shutdown()
    server.session.shutdown()
    server.quic.all_acknowledged = False
    server.session.settle()
    assert server.quic.frames(SERVER_CONTROL)[1:] == [goaway((1 << 62) - 4)]
    # Sent before the client heard of it: served.
    server.quic.deliver(0, headers(GET), fin=True)
    server.quic.all_acknowledged = True
    server.session.settle()
    server.session.settle()
    assert server.quic.frames(SERVER_CONTROL)[2:] == [goaway(8)]
    server.quic.deliver(8, headers(POST))
    assert [recorder.head for recorder in server.requests] == [GET, GET, None]
    assert server.requests[2].reset is reasons.DRAINING
    assert server.quic.resets == {8: errors.H3_REQUEST_REJECTED}
    assert server.quic.stops == {8: errors.H3_REQUEST_REJECTED}
    assert not server.session.drained
    for index in range(2):
        server.stream(index).send_head(OK, True)
    server.quic.all_acknowledged = False
    assert not server.session.drained
    server.quic.all_acknowledged = True
    assert server.session.drained
    assert_clean(server.session)


def test_shutdown_during_the_handshake_is_told_after_it() -> None:
    server = make_server(established=False)
    server.session.shutdown()
    server.session.on_handshake(HANDSHAKE)
    assert [kind for kind, _ in server.quic.frames(SERVER_CONTROL)] == [SETTINGS, GOAWAY]
    assert not server.session.drained
    server.session.settle()
    assert server.session.drained
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    assert server.quic.resets == {REQUEST: errors.H3_REQUEST_REJECTED}


def test_settings_go_out_with_the_first_answer_to_early_data() -> None:
    """RFC 9114 section 7.2.4.2: once, though the handshake ends later."""
    server = make_server(established=False)
    server.session.on_early_data()
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    server.stream().send_head(OK, True)
    assert [kind for kind, _ in server.quic.frames(SERVER_CONTROL)] == [SETTINGS]
    assert REQUEST in server.quic.sent
    server.session.on_handshake(HANDSHAKE)
    assert list(server.quic.sent) == [SERVER_CONTROL, REQUEST]
    assert [kind for kind, _ in server.quic.frames(SERVER_CONTROL)] == [SETTINGS]


def test_shutdown_after_early_data_is_told_before_the_handshake_ends() -> None:
    server = make_server(established=False)
    server.session.on_early_data()
    server.session.shutdown()
    server.session.on_handshake(HANDSHAKE)
    assert [kind for kind, _ in server.quic.frames(SERVER_CONTROL)] == [SETTINGS, GOAWAY]


def test_terminating_tells_every_stream_and_the_peer() -> None:
    server = make_server()
    for stream_id in (0, 4):
        server.quic.deliver(stream_id, headers(POST))
    first = server.requests[0]
    # What a handler does about it must not reach a connection that is closed.
    first.on_reset = lambda reason: server.stream(1).send_data(b"x", True)  # type: ignore[assignment, method-assign, return-value]
    server.session.terminate(reasons.DRAIN_TIMEOUT)
    server.session.terminate(reasons.IDLE_TIMEOUT)
    assert server.requests[1].reset is reasons.DRAIN_TIMEOUT
    assert error_code(server) == reasons.DRAIN_TIMEOUT.h3_error
    assert server.session.active_streams == 0
    # QUIC still delivers what was in the batch.
    server.quic.deliver(8, headers(GET), fin=True)
    server.session.on_stream_reset(0, 0x100)
    server.session.on_stop_sending(0, 0x100)
    server.session.on_stream_writable(0)
    server.session.on_closed(PEER_CLOSED)
    assert len(server.requests) == 2
    assert server.owner.closed == (PEER_CLOSED, reasons.DRAIN_TIMEOUT)


def test_a_head_that_could_not_be_sent_is_told_before_the_connection_ends() -> None:
    server = make_server()
    server.quic.deliver(CONTROL, control({0x6: 10}))
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    server.stream().send_head(OK, True)
    server.session.terminate(reasons.DRAIN_TIMEOUT)
    assert server.request.reset is reasons.UPSTREAM_FIELDS_TOO_LARGE


def test_a_closed_connection_sends_no_settings() -> None:
    server = make_server(established=False)
    server.quic.room = 3
    server.session.on_handshake(HANDSHAKE)
    server.session.terminate(reasons.DRAIN_TIMEOUT)
    server.quic.room = None
    server.session.on_stream_writable(SERVER_CONTROL)
    assert len(server.quic.sent[SERVER_CONTROL]) == 3


@pytest.mark.parametrize(
    ("established", "close", "reason"),
    [
        (True, Close(0x100, True, "", True, False), reasons.COMPLETED),
        (True, Close(0, False, "", True, False), reasons.COMPLETED),
        (True, Close(0x102, True, "", True, False), reasons.CLIENT_CONNECTION_LOST),
        (True, Close(0xA, False, "", True, False), reasons.CLIENT_CONNECTION_LOST),
        (True, Close(0x3, False, "", False, False), reasons.CLIENT_PROTOCOL_ERROR),
        (True, Close(0x1, False, "", False, False), reasons.INTERNAL_ERROR),
        (True, Close(0x1, False, "", True, False), reasons.CLIENT_CONNECTION_LOST),
        (True, Close(0, False, "", False, True), reasons.IDLE_TIMEOUT),
        (False, Close(0, False, "", False, True), reasons.HANDSHAKE_TIMEOUT),
        (False, Close(0x12A, False, "", True, False), reasons.HANDSHAKE_FAILED),
    ],
)
def test_a_lost_connection_ends_every_stream(
    established: bool, close: Close, reason: reasons.Reason
) -> None:
    server = make_server(established=established)
    if established:
        server.quic.deliver(REQUEST, headers(POST))
    server.session.on_closed(close)
    assert server.owner.closed == (close, reason)
    for request in server.requests:
        assert request.reset is reasons.CLIENT_CONNECTION_LOST


def test_connection_ids_are_the_owners() -> None:
    server = make_server()
    server.session.on_connection_id_issued(b"12345678")
    assert server.owner.connection_ids == {b"12345678"}
    server.session.on_connection_id_retired(b"12345678")
    assert server.owner.connection_ids == set()


def test_every_call_with_output_wakes_the_owner() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST) + data(b"x"))
    server.request.consume = False
    server.quic.deliver(REQUEST, data(b"x"))
    stream = server.stream()
    calls = [
        lambda: stream.consume(1),
        lambda: stream.send_informational([(b":status", b"103")]),
        lambda: stream.send_head(OK, False),
        lambda: stream.send_data(b"x", False),
        lambda: stream.stop_receiving(),
        lambda: stream.reset(reasons.INTERNAL_ERROR),
        lambda: server.session.shutdown(),
        lambda: server.session.terminate(reasons.DRAIN_TIMEOUT),
    ]
    for number, call in enumerate(calls):
        server.session.settle()
        before = server.owner.wakes
        call()
        assert server.owner.wakes > before, number


def test_a_head_larger_than_the_client_takes_is_not_sent() -> None:
    """RFC 9114 section 4.2.2; the handler learns it outside of its call."""
    server = make_server()
    server.quic.deliver(CONTROL, control({0x6: 100}))
    server.quic.deliver(REQUEST, headers(GET), fin=True)
    assert server.session.peer_max_field_section_size == 100
    recorder, stream = server.request, server.stream()
    recorder.calling = True
    stream.send_head([*OK, (b"x-large", b"y" * 50)], False)
    assert stream.send_data(b"x", True)
    recorder.calling = False
    assert server.quic.resets == {REQUEST: errors.H3_INTERNAL_ERROR}
    assert not server.quic.sent.get(REQUEST)
    assert recorder.reset is None
    server.session.settle()
    server.session.settle()
    assert recorder.reset is reasons.UPSTREAM_FIELDS_TOO_LARGE
    server.quic.deliver(4, headers(GET), fin=True)
    server.stream(1).send_head(OK, True)  # 42 by the rule: 32 + 7 + 3
    assert server.quic.frames(4) == [(HEADERS, block(OK))]
