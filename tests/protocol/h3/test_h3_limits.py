"""Attacks on HTTP/3: each ends where the limits say, and costs no memory until then."""

import tracemalloc
from collections.abc import Callable

import pytest
from pylsqpack import Decoder

from spooky._core import h3_errors as errors
from spooky._core import reasons
from spooky._core.h3_frames import DATA, HEADERS, MAX_PUSH_ID
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky._core.reasons import Reason
from spooky.protocol.h3.limits import Limits
from spooky.protocol.stream import Field
from tests.protocol.h3.peers import (
    CONTROL,
    DECODER,
    ENCODER,
    GET,
    OK,
    POST,
    REQUEST,
    Server,
    assert_clean,
    block,
    control,
    data,
    headers,
    make_server,
)

SMALL = Limits(
    max_headers_count=20,
    max_headers_bytes=1000,
    max_useless_frames=50,
    max_useless_bytes=10_000,
    max_unidirectional_streams=10,
    max_aborted_requests=20,
)


def assert_excessive(server: Server) -> None:
    assert server.quic.closed is not None
    assert server.quic.closed[0] == errors.H3_EXCESSIVE_LOAD
    assert server.session._close_reason is reasons.CLIENT_EXCESSIVE_LOAD


def repeat(server: Server, act: Callable[[int], None], most: int = 10_000) -> int:
    """Repeat until the connection is closed; return how often it took."""
    for count in range(most):
        if server.quic.closed is not None:
            return count
        act(count)
    return most


def answered(server: Server, stream_id: int) -> tuple[int, bytes]:
    """Return status and body of a response that the session gave itself."""
    (kind, section), (body_kind, body) = server.quic.frames(stream_id)
    assert (kind, body_kind) == (HEADERS, DATA)
    status = int(dict(Decoder(0, 0).feed_header(0, section)[1])[b":status"])
    return status, body


# --- attack 4: field sections that are or become too large ------------------------------------

POLICY = (b"content-security-policy", b"script-src 'none'; object-src 'none'; base-uri 'none'")
"""An entry of the static table: two bytes encoded, 76 decoded."""

OUT_OF_LIMITS = [
    pytest.param([*GET, (b"x", b"\xff" * 2000)], reasons.FIELDS_TOO_LARGE, id="bytes"),
    pytest.param([*GET, *[(b"x", b"y")] * 30], reasons.TOO_MANY_FIELDS, id="count"),
    pytest.param([*GET, *[(b"cookie", b"a=b")] * 30], reasons.TOO_MANY_FIELDS, id="cookies"),
]


@pytest.mark.parametrize(("fields", "reason"), OUT_OF_LIMITS)
@pytest.mark.parametrize("fin", [False, True])
def test_a_head_out_of_limits_is_answered_431(
    fields: list[Field], reason: Reason, fin: bool
) -> None:
    """Attack 4, RFC 9114 section 4.2.2: users see an answer, backends see nothing."""
    server = make_server(SMALL)
    server.quic.deliver(REQUEST, headers(fields), fin=fin)
    assert server.request.events == [("reset", reason)]
    status, body = answered(server, REQUEST)
    assert status == 431
    assert body.decode().strip() == reason.text
    assert REQUEST in server.quic.ended
    assert server.quic.stops == ({} if fin else {REQUEST: errors.H3_NO_ERROR})
    assert server.quic.closed is None
    assert_clean(server.session)


def test_an_answer_that_quic_does_not_accept_waits() -> None:
    server = make_server(SMALL)
    server.quic.room = 0
    server.quic.deliver(REQUEST, headers([*GET, (b"x", b"y" * 2000)]), fin=True)
    assert server.session.active_streams == 1
    server.quic.room = None
    server.session.on_stream_writable(REQUEST)
    assert answered(server, REQUEST)[0] == 431
    assert_clean(server.session)


def test_a_headers_frame_is_refused_by_its_length() -> None:
    """Attack 4: before any of it is buffered."""
    server = make_server()
    frame_header = encode_varint(HEADERS) + encode_varint(2**40)
    server.quic.deliver(REQUEST, frame_header)
    assert answered(server, REQUEST)[0] == 431
    assert server.quic.stops == {REQUEST: errors.H3_NO_ERROR}
    assert_clean(server.session)


def test_trailers_out_of_limits_reset_the_stream() -> None:
    """Attack 4: trailers included."""
    for trailers in (headers([(b"x", b"y" * 2000)]), headers([(b"x", b"y")] * 30)):
        server = make_server(SMALL)
        server.quic.deliver(REQUEST, headers(POST) + trailers)
        assert server.request.reset in (reasons.FIELDS_TOO_LARGE, reasons.TOO_MANY_FIELDS)
        assert server.quic.resets == {REQUEST: errors.H3_EXCESSIVE_LOAD}
        assert server.quic.closed is None
        assert_clean(server.session)


def test_a_bomb_of_references_costs_nothing() -> None:
    """Attack 4: a block of one-byte references would decode to a hundred times its size."""
    server = make_server(Limits(max_headers_count=10_000))
    section = block([POLICY] * 8000)
    assert len(section) < Limits().max_headers_bytes
    tracemalloc.start()
    server.quic.deliver(REQUEST, encode_frame(HEADERS, section), fin=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert server.request.reset is reasons.FIELDS_TOO_LARGE
    assert peak < 64 * 1024


def test_a_head_in_single_bytes_is_bounded_too() -> None:
    server = make_server()
    wire = headers([*POST, (b"x", b"\xff" * 16_000)])
    server.quic.deliver(REQUEST, wire[:8])
    tracemalloc.start()
    for index in range(8, len(wire) - 1):
        server.quic.deliver(REQUEST, wire[index : index + 1])
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 2 * len(wire)
    assert server.quic.outstanding(REQUEST) == 0


# --- attacks 8 and 26: what has no effect ------------------------------------------------------

GREASE = encode_frame(0x21, b"")
USELESS = [
    pytest.param(CONTROL, encode_frame(0xF0700, b"\0u=1"), id="PRIORITY_UPDATE"),
    pytest.param(CONTROL, encode_frame(MAX_PUSH_ID, b"\0"), id="MAX_PUSH_ID"),
    pytest.param(CONTROL, GREASE, id="unknown frames on the control stream"),
    pytest.param(REQUEST, GREASE, id="unknown frames on a request stream"),
    pytest.param(REQUEST, data(b""), id="empty DATA"),
    pytest.param(ENCODER, b"\x20", id="table capacities"),
    pytest.param(DECODER, b"\x40", id="stream cancellations"),
    pytest.param(DECODER, b"\x7f\x00", id="long stream cancellations"),
]
BEGIN = {CONTROL: control(), REQUEST: headers(POST), ENCODER: b"\x02", DECODER: b"\x03"}


@pytest.mark.parametrize(("stream_id", "wire"), USELESS)
@pytest.mark.parametrize("at_once", [False, True])
def test_floods_without_effect_end_the_connection(
    stream_id: int, wire: bytes, at_once: bool
) -> None:
    """Attacks 8, 25 and 26: one budget a connection."""
    server = make_server(SMALL)
    server.quic.deliver(stream_id, BEGIN[stream_id])
    allowed = 50 + 10 * len(server.requests)
    if at_once:
        server.quic.deliver(stream_id, wire * allowed)
        assert server.quic.closed is None
        server.quic.deliver(stream_id, wire)
    else:
        assert repeat(server, lambda _: server.quic.deliver(stream_id, wire)) == allowed + 1
    assert_excessive(server)


def test_requests_earn_frames_without_effect() -> None:
    """A browser that greases each request is not refused, however many it makes."""
    server = make_server(SMALL)
    server.quic.deliver(CONTROL, control())
    for number in range(500):
        server.quic.deliver(4 * number, GREASE + headers(GET) + GREASE, fin=True)
        server.quic.deliver(CONTROL, encode_frame(0xF0700, encode_varint(4 * number) + b"u=1"))
        server.stream(number).send_head(OK, True)
    assert server.quic.closed is None
    assert_clean(server.session)


@pytest.mark.parametrize("stream_id", [CONTROL, REQUEST])
def test_unknown_frames_are_discarded_within_a_budget(stream_id: int) -> None:
    """Attack 26: incrementally, and no more than the budget, which their headers tell."""
    server = make_server(SMALL)
    server.quic.deliver(stream_id, BEGIN[stream_id])
    tracemalloc.start()
    frame = encode_frame(0x21, b"x" * 9000)
    for start in range(0, len(frame), 100):
        server.quic.deliver(stream_id, frame[start : start + 100])
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 20_000
    assert server.quic.closed is None
    assert server.quic.outstanding(stream_id) == 0
    server.quic.deliver(stream_id, encode_varint(0x21) + encode_varint(2**61))
    assert_excessive(server)


@pytest.mark.parametrize("size", [1025, 2**40])
def test_control_frames_are_refused_by_their_length(size: int) -> None:
    """Attack 26: before any of it is buffered."""
    server = make_server()
    server.quic.deliver(CONTROL, b"\0\x04" + encode_varint(size))
    assert_excessive(server)


@pytest.mark.parametrize("how", ["unknown", "ended", "reset"])
def test_unidirectional_streams_are_counted(how: str) -> None:
    """Attack 26."""
    server = make_server(SMALL)

    def open_one(number: int) -> None:
        stream_id = 2 + 4 * number
        if how == "unknown":
            server.quic.deliver(stream_id, b"\x21")
        elif how == "ended":
            server.quic.deliver(stream_id, b"", fin=True)
        else:
            server.session.on_stream_reset(stream_id, 0)

    assert repeat(server, open_one) == 11
    assert_excessive(server)


# --- attacks 1 and 2: requests that come to nothing --------------------------------------------


def broken_length(server: Server, stream_id: int) -> None:
    server.quic.deliver(stream_id, headers([*POST, (b"content-length", b"1")]) + data(b"xx"))


def reset(server: Server, stream_id: int) -> None:
    server.quic.deliver(stream_id, headers(GET))
    server.session.on_stream_reset(stream_id, errors.H3_REQUEST_CANCELLED)


def stop(server: Server, stream_id: int) -> None:
    server.quic.deliver(stream_id, headers(GET), fin=True)
    server.session.on_stop_sending(stream_id, errors.H3_REQUEST_CANCELLED)


def reset_unheard(server: Server, stream_id: int) -> None:
    server.session.on_stream_reset(stream_id, errors.H3_REQUEST_CANCELLED)


def too_large(server: Server, stream_id: int) -> None:
    server.quic.deliver(stream_id, headers([*GET, (b"x", b"y" * 2000)]), fin=True)


def incomplete(server: Server, stream_id: int) -> None:
    server.quic.deliver(stream_id, b"", fin=True)


@pytest.mark.parametrize(
    "spoil", [reset, stop, reset_unheard, broken_length, too_large, incomplete]
)
def test_requests_that_come_to_nothing_are_counted(
    spoil: Callable[[Server, int], None],
) -> None:
    """Attacks 1 and 2 on HTTP/3: given up by the client, or broken so that we give up."""
    server = make_server(SMALL)
    assert repeat(server, lambda number: spoil(server, 4 * number)) == 21
    assert_excessive(server)
    assert len(server.session._requests) == 0


def test_a_request_counts_once_whatever_follows() -> None:
    server = make_server(SMALL)
    head = headers([*POST, (b"content-length", b"1")])
    server.quic.deliver(REQUEST, head + data(b"xx") * 100 + encode_frame(0x02, b""))
    assert server.request.reset is reasons.CONTENT_LENGTH_MISMATCH
    assert server.quic.closed is None


def test_rejections_after_goaway_count_too() -> None:
    """Attack 2: counting goes on after GOAWAY."""
    server = make_server(SMALL)
    server.session.shutdown()
    server.session.settle()
    repeat(server, lambda number: server.quic.deliver(4 * number, headers(GET), fin=True))
    assert_excessive(server)


def test_a_client_that_gives_up_less_than_half_is_tolerated() -> None:
    server = make_server(SMALL)
    for number in range(400):
        stream_id = 4 * number
        if number % 5 < 2:
            reset(server, stream_id)
        else:
            server.quic.deliver(stream_id, headers(GET), fin=True)
            server.stream(number).send_head(OK, True)
    assert server.quic.closed is None


# --- tables -------------------------------------------------------------------------------------


def test_ten_thousand_requests_leave_nothing() -> None:
    """RFC 9114 section 4.1: an ended stream is forgotten, whoever ended it first."""
    server = make_server()
    head, response = headers(GET), block(OK)
    for number in range(10_000):
        stream_id = 4 * number
        server.quic.deliver(stream_id, head, fin=True)
        recorder = server.requests.pop()
        assert recorder.stream is not None
        recorder.stream.send_head(OK, True)
        assert server.quic.frames(stream_id) == [(HEADERS, response)]
    session = server.session
    assert session.active_streams == 0
    assert not session._requests
    assert not session._unidirectional
    assert not session._seen._gaps
    assert not session._resets_due
    assert session.budget.requests == 10_000
