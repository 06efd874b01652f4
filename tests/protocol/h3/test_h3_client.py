"""The client role: responses as they should be, and responses that break off."""

import pytest

from spooky._core import h3_errors as errors
from spooky._core import reasons
from spooky._core.h3_frames import CANCEL_PUSH, GOAWAY, HEADERS, MAX_PUSH_ID, PUSH_PROMISE
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky._core.reasons import Reason
from spooky.protocol.h3.limits import Limits
from spooky.protocol.quic.session import Close
from tests.protocol.h3.peers import (
    GET,
    HANDSHAKE,
    OK,
    POST,
    REQUEST,
    SERVER_CONTROL,
    SERVER_OTHER,
    Client,
    Recorder,
    assert_clean,
    block,
    control,
    data,
    headers,
    make_client,
)

HEAD = [(b":method", b"HEAD"), *GET[1:]]


def error_code(client: Client) -> int:
    assert client.quic.closed is not None
    return client.quic.closed[0]


def goaway(identifier: int) -> bytes:
    return encode_frame(GOAWAY, encode_varint(identifier))


# --- requests and responses -------------------------------------------------------------------


def test_a_request_and_its_response() -> None:
    client = make_client()
    request = client.request(POST, end=False)
    assert request.stream is not None
    assert request.stream.send_data(b"body", True)
    assert client.quic.frames(REQUEST) == [(HEADERS, block(POST)), (0, b"body")]
    client.quic.deliver(REQUEST, headers([(b":status", b"103")]) + headers(OK) + data(b"ab"))
    client.quic.deliver(REQUEST, data(b"cd") + headers([(b"x-t", b"1")]), fin=True)
    assert request.informational == [[(b":status", b"103")]]
    assert request.head == OK
    assert request.body == b"abcd"
    assert request.trailers == [(b"x-t", b"1")]
    assert_clean(client.session)


def test_requests_have_no_informational_heads() -> None:
    client = make_client()
    request = client.request(POST, end=False)
    assert request.stream is not None
    request.stream.send_informational([(b":status", b"100")])
    assert len(client.quic.frames(REQUEST)) == 1


def test_capacity_is_what_quic_allows() -> None:
    client = make_client(established=False)
    assert client.session.capacity == 0
    client.session.on_handshake(HANDSHAKE)
    client.quic.streams_left[False] = 2
    for _ in range(2):
        assert client.session.capacity == 1
        assert client.session.capacity == 1
        client.request()
    assert client.session.capacity == 0
    with pytest.raises(RuntimeError):
        client.session.open(Recorder())
    wakes = client.owner.wakes
    client.quic.streams_left[False] = 1
    client.session.on_streams_available()
    assert client.owner.wakes > wakes
    assert client.session.capacity == 1


@pytest.mark.parametrize(
    ("head", "status", "fields", "body", "ok"),
    [
        (HEAD, b"200", [(b"content-length", b"5")], b"", True),
        (HEAD, b"200", [(b"content-length", b"5")], b"abcde", False),
        (GET, b"304", [(b"content-length", b"5")], b"", True),
        (GET, b"204", [], b"", True),
        (GET, b"204", [], b"x", False),
        (GET, b"200", [(b"content-length", b"5")], b"abcde", True),
        (GET, b"200", [(b"content-length", b"0")], b"", True),
        (GET, b"200", [], b"any", True),
        (GET, b"200", [(b"content-length", b"5")], b"abcdef", False),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_content_length_and_body(
    head: list[tuple[bytes, bytes]],
    status: bytes,
    fields: list[tuple[bytes, bytes]],
    body: bytes,
    ok: bool,
    late: bool,
) -> None:
    """RFC 9110 section 8.6: HEAD and 304 say what they do not send. Attack 27: none sends more."""
    client = make_client()
    request = client.request(head)
    client.quic.deliver(
        REQUEST, headers([(b":status", status), *fields]) + (data(body) if body else b""), not late
    )
    if late:
        client.quic.deliver(REQUEST, b"", fin=True)
    if ok:
        assert request.ended
        assert request.body == body
        assert request.reset is None
    else:
        assert request.reset is reasons.UPSTREAM_PROTOCOL_ERROR
        assert not request.ended
    assert_clean(client.session)


@pytest.mark.parametrize("sent", [b"", b"ab"])
@pytest.mark.parametrize("late", [False, True])
def test_a_response_cut_short_is_never_passed_off_as_complete(sent: bytes, late: bool) -> None:
    client = make_client()
    request = client.request()
    head = headers([*OK, (b"content-length", b"5")])
    client.quic.deliver(REQUEST, head + (data(sent) if sent else b""), fin=not late)
    if late:
        client.quic.deliver(REQUEST, b"", fin=True)
    assert request.reset is reasons.UPSTREAM_BODY_CUT_SHORT
    assert not request.ended
    assert_clean(client.session)


@pytest.mark.parametrize("wire", [b"", headers([(b":status", b"103")])])
def test_an_end_without_a_response_is_a_failure(wire: bytes) -> None:
    client = make_client()
    request = client.request()
    client.quic.deliver(REQUEST, wire)
    client.quic.deliver(REQUEST, b"", fin=True)
    assert request.reset is reasons.UPSTREAM_BODY_CUT_SHORT


@pytest.mark.parametrize(
    ("status", "fin"), [(b"101", False), (b"103", True)], ids=["101", "1xx that ends the stream"]
)
def test_bad_informational_heads(status: bytes, fin: bool) -> None:
    """RFC 9114 sections 4.1 and 4.5."""
    client = make_client()
    request = client.request()
    client.quic.deliver(REQUEST, headers([(b":status", status)]), fin=fin)
    assert request.reset is reasons.UPSTREAM_BAD_RESPONSE
    assert not request.informational


def test_data_before_the_final_head_is_unexpected() -> None:
    """RFC 9114 section 4.1."""
    client = make_client()
    request = client.request()
    client.quic.deliver(REQUEST, headers([(b":status", b"103")]) + data(b"x"))
    assert error_code(client) == errors.H3_FRAME_UNEXPECTED
    assert request.reset is reasons.UPSTREAM_PROTOCOL_ERROR


def test_responses_are_credited_by_consumption() -> None:
    client = make_client()
    request = client.request()
    request.consume = False
    client.quic.deliver(REQUEST, headers(OK) + data(b"x" * 500))
    assert client.quic.outstanding(REQUEST) == 500
    assert request.stream is not None
    request.stream.consume(500)
    assert client.quic.outstanding(REQUEST) == 0


# --- resets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errors.H3_REQUEST_REJECTED, reasons.UPSTREAM_REFUSED),
        (errors.H3_INTERNAL_ERROR, reasons.UPSTREAM_RESET),
        (errors.H3_NO_ERROR, reasons.UPSTREAM_RESET),
    ],
)
def test_a_reset_response(code: int, reason: Reason) -> None:
    client = make_client()
    request = client.request(POST, end=False)
    client.quic.deliver(REQUEST, headers(OK) + data(b"part"))
    client.session.on_stream_reset(REQUEST, code)
    assert request.reset is reason
    assert client.quic.resets == {REQUEST: errors.H3_REQUEST_CANCELLED}
    assert_clean(client.session)


def test_a_reset_after_the_response_ended_changes_nothing() -> None:
    client = make_client()
    request = client.request(POST, end=False)
    client.quic.deliver(REQUEST, headers(OK), fin=True)
    client.session.on_stream_reset(REQUEST, errors.H3_INTERNAL_ERROR)
    assert request.reset is None
    assert request.stream is not None
    assert request.stream.send_data(b"still", True)
    assert_clean(client.session)


def test_a_backend_that_wants_no_more_of_the_request_may_still_answer() -> None:
    """RFC 9114 section 4.1."""
    client = make_client()
    request = client.request(POST, end=False)
    stream = request.stream
    assert stream is not None
    client.quic.room = 100
    assert not stream.send_data(b"x" * 5000, False)
    client.session.on_stop_sending(REQUEST, errors.H3_NO_ERROR)
    # What was held counts as accepted now, and so does what follows.
    assert request.events == [("stopped",), ("writable",)]
    assert stream.send_data(b"y" * 5000, True)
    client.session.on_stop_sending(REQUEST, errors.H3_NO_ERROR)
    client.quic.deliver(REQUEST, headers(OK) + data(b"early"), fin=True)
    assert request.body == b"early"
    assert request.ended
    assert not client.quic.resets
    assert_clean(client.session)


def test_clients_cancel_with_one_code_whatever_the_reason() -> None:
    """RFC 9114 section 4.1.1: never H3_REQUEST_REJECTED."""
    client = make_client()
    request = client.request()
    assert request.stream is not None
    request.stream.reset(reasons.GLOBAL_INFLIGHT)
    assert client.quic.stops == {REQUEST: errors.H3_REQUEST_CANCELLED}
    assert not client.quic.resets
    client.quic.deliver(REQUEST, headers(OK), fin=True)
    assert request.events == []
    assert_clean(client.session)


# --- the connection ---------------------------------------------------------------------------


def test_goaway_returns_what_was_not_processed() -> None:
    """RFC 9114 section 5.2."""
    client = make_client()
    requests = [client.request(POST, end=False) for _ in range(3)]
    client.quic.deliver(SERVER_CONTROL, control() + goaway(8))
    assert [request.reset for request in requests] == [None, None, reasons.UPSTREAM_GOING_AWAY]
    assert client.session.capacity == 0
    client.quic.deliver(SERVER_CONTROL, goaway(4))
    assert [request.reset for request in requests[:2]] == [None, reasons.UPSTREAM_GOING_AWAY]
    client.quic.deliver(REQUEST, headers(OK), fin=True)
    assert requests[0].ended


@pytest.mark.parametrize("frames", [goaway(2), goaway(4) + goaway(8)])
def test_goaway_must_name_a_request_and_not_grow(frames: bytes) -> None:
    """RFC 9114 section 5.2."""
    client = make_client()
    client.quic.deliver(SERVER_CONTROL, control() + frames)
    assert error_code(client) == errors.H3_ID_ERROR


def test_shutdown_takes_no_new_requests() -> None:
    client = make_client()
    request = client.request()
    client.session.shutdown()
    assert client.quic.frames(2)[-1] == (GOAWAY, b"\0")
    assert client.session.capacity == 0
    client.quic.deliver(REQUEST, headers(OK), fin=True)
    assert request.ended


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (encode_frame(MAX_PUSH_ID, b"\0"), errors.H3_FRAME_UNEXPECTED),
        (encode_frame(0xF0700, b"\0"), errors.H3_FRAME_UNEXPECTED),
        (encode_frame(0xF0701, b"\0"), errors.H3_FRAME_UNEXPECTED),
        (encode_frame(CANCEL_PUSH, b"\0"), errors.H3_ID_ERROR),
    ],
)
def test_frames_that_servers_must_not_send(frame: bytes, code: int) -> None:
    """RFC 9114 section 7.2, RFC 9218 section 7.2."""
    client = make_client()
    client.quic.deliver(SERVER_CONTROL, control() + frame)
    assert error_code(client) == code


def test_push_is_refused() -> None:
    """RFC 9114 section 4.6: no MAX_PUSH_ID was sent."""
    client = make_client()
    request = client.request()
    client.quic.deliver(REQUEST, encode_frame(PUSH_PROMISE, b"\0" + block(GET)))
    assert error_code(client) == errors.H3_ID_ERROR
    assert request.reset is reasons.UPSTREAM_PROTOCOL_ERROR
    client = make_client()
    client.quic.deliver(SERVER_OTHER, b"\x01\x00")
    assert error_code(client) == errors.H3_ID_ERROR


def test_a_server_must_not_open_request_streams() -> None:
    """RFC 9114 section 6.1."""
    client = make_client()
    client.quic.deliver(1, headers(GET))
    assert error_code(client) == errors.H3_STREAM_CREATION_ERROR


@pytest.mark.parametrize("count", [32, 33])
def test_informational_heads_are_counted(count: int) -> None:
    """Attack 35."""
    client = make_client(Limits(max_useless_frames=0))
    request = client.request()
    client.quic.deliver(REQUEST, headers([(b":status", b"103")]) * count)
    assert len(request.informational) == 32
    assert request.reset is (None if count == 32 else reasons.UPSTREAM_PROTOCOL_ERROR)


@pytest.mark.parametrize("wire", [headers([*OK, (b"x", b"\xff" * 20_000)]), headers(OK * 200)])
@pytest.mark.parametrize("as_trailers", [False, True])
def test_fields_out_of_limits(wire: bytes, as_trailers: bool) -> None:
    """Attack 4."""
    client = make_client()
    request = client.request()
    client.quic.deliver(REQUEST, headers(OK) + wire if as_trailers else wire)
    assert request.reset is reasons.UPSTREAM_FIELDS_TOO_LARGE
    assert client.quic.stops == {REQUEST: errors.H3_EXCESSIVE_LOAD}
    assert client.quic.closed is None


def test_a_head_larger_than_the_backend_takes_is_not_sent() -> None:
    """RFC 9114 section 4.2.2."""
    client = make_client()
    client.quic.deliver(SERVER_CONTROL, control({0x6: 100}))
    request = client.request()
    assert not client.quic.sent.get(REQUEST)
    client.session.settle()
    assert request.reset is reasons.FIELDS_TOO_LARGE


@pytest.mark.parametrize(
    ("established", "close", "reason"),
    [
        (True, Close(0x102, True, "", True, False), reasons.UPSTREAM_CONNECTION_LOST),
        (True, Close(0x110, True, "", True, False), reasons.UPSTREAM_CONNECTION_LOST),
        (True, Close(0x3, False, "", False, False), reasons.UPSTREAM_PROTOCOL_ERROR),
        (False, Close(0x130, False, "", False, False), reasons.UPSTREAM_CERTIFICATE_INVALID),
        (False, Close(0x130, False, "", True, False), reasons.UPSTREAM_TLS_FAILED),
        (False, Close(0x128, False, "", False, False), reasons.UPSTREAM_TLS_FAILED),
        (False, Close(0x178, False, "", True, False), reasons.UPSTREAM_ALPN_MISMATCH),
        (False, Close(0x2, False, "", True, False), reasons.CONNECT_FAILED),
    ],
)
def test_a_lost_connection(established: bool, close: Close, reason: Reason) -> None:
    client = make_client(established=established)
    request = client.request() if established else None
    client.session.on_closed(close)
    assert client.owner.closed == (close, reason)
    assert client.session.capacity == 0
    if request is not None:
        # What it did is worse than its absence, and its word about versions is for each request.
        fallback = reasons.UPSTREAM_VERSION_FALLBACK
        assert request.reset is (fallback if close.error_code == 0x110 else reason)


def test_the_owner_learns_that_a_connection_is_over_whatever_a_request_makes_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = make_client()
    request = client.request()

    def on_reset(reason: Reason) -> None:
        raise LookupError

    monkeypatch.setattr(request, "on_reset", on_reset)
    close = Close(0x102, True, "", True, False)
    with pytest.raises(LookupError):
        client.session.on_closed(close)
    assert client.owner.closed == (close, reasons.UPSTREAM_CONNECTION_LOST)
