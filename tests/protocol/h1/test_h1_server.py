"""The server role: requests delivered, responses framed, connections kept or closed.

RFC 9112 sections 6, 7 and 9; what happens to bad input is in test_h1_server_refusals.py.
"""

import pytest

from spooky._core import reasons
from spooky.protocol.h1.limits import LINGER_BYTES, LINGER_SECONDS, WINDOW_BYTES, Engine
from spooky.protocol.h1.outbox import HIGH_WATER_BYTES
from spooky.protocol.stream import Field, Stream, StreamHandler
from tests.protocol.h1.peers import (
    ENGINES,
    Recorder,
    Server,
    answer_ok,
    response_head,
    splits,
)

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

CHUNKED_PUT = b"PUT /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"


def post(body: bytes, *lines: bytes) -> bytes:
    fields = b"".join(line + b"\r\n" for line in lines)
    return (
        b"POST / HTTP/1.1\r\nHost: h\r\n%bContent-Length: %d\r\n\r\n" % (fields, len(body)) + body
    )


def answer(server: Server, status: bytes = b"200", body: bytes = b"ok", *fields: Field) -> bytes:
    """Answer the last request with a body of known length; return what was written."""
    length = (b"content-length", b"%d" % len(body))
    server.stream.send_head(response_head(status, length, *fields), not body)
    if body:
        server.stream.send_data(body, True)
    return server.take()


def answer_with_head(server: Server, head: list[Field], end: bool) -> bytes:
    server.stream.send_head(head, end)
    return server.take()


# --- requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(6))
def test_a_request_is_delivered_however_it_arrives(engine: Engine, seed: int) -> None:
    server = Server(engine=engine).feed(*splits(post(b"hello", b"X-A: b "), seed))
    assert server.last.head() == [
        (b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/"),
        (b"host", b"h"), (b"x-a", b"b"), (b"content-length", b"5"),
    ]  # fmt: skip
    assert server.last.body() == b"hello"
    assert server.last.ended()
    assert server.stream.protocol == "http/1.1"


@pytest.mark.parametrize("head", [GET, post(b"")], ids=["no length", "length 0"])
def test_a_request_without_a_body_ends_with_its_head(head: bytes) -> None:
    """RFC 9112 section 6.3 item 7."""
    server = Server().feed(head)
    assert server.last.names() == ["head"]
    assert server.last.ended()


@pytest.mark.parametrize("seed", range(6))
def test_a_chunked_request_is_delivered_with_its_trailers(seed: int) -> None:
    wire = (
        b"PUT / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    server = Server().feed(*splits(wire, seed))
    assert server.last.body() == b"abcde"
    assert server.last.events[-1] == ("trailers", [(b"x-sum", b"1")])
    assert server.last.ended()


def test_the_last_piece_says_that_it_is_the_last() -> None:
    server = Server().feed(post(b"hello"))
    assert server.last.events[1:] == [("data", b"hello", True)]
    server = Server().feed(b"PUT / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
    server.feed(b"3\r\nabc\r\n0\r\n\r\n")
    assert server.last.events[1:] == [("data", b"abc", True)]


def test_the_scheme_is_the_listeners_unless_the_target_names_one() -> None:
    server = Server().feed(b"GET http://h/ HTTP/1.1\r\nhost: h\r\n\r\n")
    assert (b":scheme", b"http") in server.last.head()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "lines",
    [b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
     b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"],
)  # fmt: skip
def test_an_upgrade_is_ignored_and_http_goes_on(engine: Engine, lines: bytes) -> None:
    """RFC 9110 section 7.8, attack 33: the bytes behind such a request are the next request."""
    server = Server(answer_ok, engine=engine)
    server.feed(b"GET / HTTP/1.1\r\nhost: h\r\n" + lines + b"\r\n" + GET)
    assert len(server.requests) == 2
    assert b"upgrade" in dict(server.requests[0].head())
    assert server.take() == OK * 2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("status", [b"403", b"200"])
def test_connect_is_answered_and_never_becomes_a_tunnel(engine: Engine, status: bytes) -> None:
    """RFC 9110 section 9.3.6, attack 33: nothing behind it is looked at."""
    server = Server(engine=engine)
    server.feed(b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n" + GET)
    assert server.last.head()[:2] == [(b":method", b"CONNECT"), (b":authority", b"h:443")]
    assert server.last.ended()
    assert b"connection: close" in answer(server, status)
    assert server.session.closed
    assert len(server.requests) == 1


def test_an_empty_line_is_skipped_before_every_request() -> None:
    """RFC 9112 section 2.2."""
    server = Server(answer_ok).feed((b"\r\n" + GET) * 3)
    assert len(server.requests) == 3
    assert not server.session.closed


def test_a_request_refused_before_its_head_is_delivered_gets_none() -> None:
    server = Server()
    accept = server.session._on_stream

    def refuse(stream: Stream) -> StreamHandler:
        handler = accept(stream)
        stream.reset(reasons.DRAINING)
        return handler

    server.session._on_stream = refuse
    server.feed(GET)
    assert server.last.events == []
    assert server.session.closed


# --- responses --------------------------------------------------------------------------------


def test_a_declared_length_frames_the_response() -> None:
    server = Server().feed(GET)
    assert answer(server) == OK
    assert not server.session.closed


def test_a_response_of_unknown_length_is_chunked() -> None:
    server = Server().feed(GET)
    server.stream.send_head(response_head(b"200"), False)
    server.stream.send_data(b"abc", False)
    server.stream.send_data(b"", False)
    server.stream.send_data(b"de", True)
    assert server.take() == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    assert not server.session.closed


def test_the_first_byte_is_not_held_back() -> None:
    """Server-sent events: every piece goes out in its turn."""
    server = Server().feed(GET)
    server.stream.send_head(response_head(b"200"), False)
    assert server.take() == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    server.stream.send_data(b"x", False)
    assert server.take() == b"1\r\nx\r\n"


def test_trailers_follow_a_chunked_response_only() -> None:
    """RFC 9110 section 6.5.1."""
    server = Server().feed(GET)
    server.stream.send_head(response_head(b"200"), False)
    server.stream.send_trailers([(b"a", b"b"), (b"c", b"d")])
    assert server.take().endswith(b"\r\n\r\n0\r\na: b\r\nc: d\r\n\r\n")
    server.feed(GET)
    server.stream.send_head(response_head(b"200", (b"content-length", b"2")), False)
    server.stream.send_data(b"ok", False)
    server.stream.send_trailers([(b"a", b"b")])
    assert server.take() == OK
    assert not server.session.closed


def test_a_response_that_ends_with_its_head_says_so() -> None:
    server = Server().feed(GET)
    assert answer_with_head(server, response_head(b"200"), True) == (
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "status", "length", "written"),
    [
        # RFC 9110 section 9.3.2: what GET would have said, if known.
        (b"HEAD", b"200", b"9", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
        (b"HEAD", b"200", b"", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"GET", b"304", b"9", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
        (b"GET", b"304", b"", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        # RFC 9110 section 8.6: never in a 204.
        (b"GET", b"204", b"0", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"204", b"", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("way", ["head", "data", "trailers"])
def test_some_responses_have_no_body(
    method: bytes, status: bytes, length: bytes, written: bytes, way: str
) -> None:
    """RFC 9112 section 6.3 item 1: however the end is told, and whatever data is given."""
    server = Server().feed(method + b" / HTTP/1.1\r\nhost: h\r\n\r\n")
    fields = [(b"content-length", length)] if length else []
    server.stream.send_head(response_head(status, *fields), way == "head")
    if way == "data":
        server.stream.send_data(b"dropped", True)
    elif way == "trailers":
        server.stream.send_trailers([(b"a", b"b")])
    assert server.take() == written
    assert not server.session.closed
    assert server.feed(GET).last.names() == ["head"]


def test_informational_responses_precede_the_final_one() -> None:
    """RFC 9110 section 15.2."""
    server = Server().feed(GET)
    server.stream.send_informational(response_head(b"103", (b"link", b"</a>")))
    assert server.take() == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    # Never: we switch no protocols.
    server.stream.send_informational(response_head(b"101"))
    assert answer(server) == OK
    server.stream.send_informational(response_head(b"103"))
    assert server.take() == b""


def test_informational_responses_come_too_late_in_the_middle_of_a_final_one() -> None:
    server = Server().feed(GET)
    server.stream.send_head(response_head(b"200"), False)
    server.take()
    server.stream.send_informational(response_head(b"103"))
    assert server.take() == b""


@pytest.mark.parametrize("pieces", [[b"abc"], [b"a", b"b", b""], []], ids=str)
def test_a_response_shorter_than_declared_is_not_passed_off_as_complete(
    pieces: list[bytes],
) -> None:
    server = Server().feed(GET + GET)
    server.stream.send_head(response_head(b"200", (b"content-length", b"4")), not pieces)
    for index, piece in enumerate(pieces):
        server.stream.send_data(piece, index == len(pieces) - 1)
    written = server.take()
    assert server.session.closed
    assert server.session.close_reason is reasons.INTERNAL_ERROR
    assert server.session.truncated
    assert len(written.partition(b"\r\n\r\n")[2]) < 4
    assert len(server.requests) == 1


def test_a_response_longer_than_declared_closes_before_the_surplus() -> None:
    """Whoever reads on would take the surplus for the next response."""
    server = Server().feed(GET)
    server.stream.send_head(response_head(b"200", (b"content-length", b"4")), False)
    server.last.inside_downcall = True
    server.stream.send_data(b"12345", False)
    server.last.inside_downcall = False
    assert server.wakes > 0
    assert b"12345" not in server.take()
    assert server.session.closed
    # The handler learns of it, but not inside its own call.
    assert server.last.reset_code() == "internal_error"


# --- one after the other ----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(8))
def test_pipelined_requests_are_answered_in_order(engine: Engine, seed: int) -> None:
    """RFC 9112 section 9.3.2."""
    wire = (
        GET + post(b"hello") + b"PUT /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    wire += b"3\r\nabc\r\n0\r\n\r\n" + b"\r\n" + GET
    server = Server(answer_ok, engine=engine).feed(*splits(wire, seed))
    assert server.take() == OK * 4
    assert [recorder.head()[0][1] for recorder in server.requests] == [
        b"GET", b"POST", b"PUT", b"GET",
    ]  # fmt: skip
    assert server.session.active_streams == 0
    assert not server.session.closed


def test_a_pipelined_request_waits_unparsed_and_stops_reading() -> None:
    """Attack 35: what a client can make us keep is one read."""
    server = Server().feed(GET)
    assert server.session.want_read
    server.feed(b"GARBAGE that is refused only when its turn comes\r\n\r\n")
    assert not server.session.want_read
    assert len(server.requests) == 1
    wakes = server.wakes
    server.last.inside_downcall = True
    server.stream.send_head(response_head(b"200"), True)
    server.last.inside_downcall = False
    assert server.wakes > wakes
    assert b"400 Bad Request" in server.take()
    assert server.session.closed


def test_the_next_request_is_not_begun_inside_the_call_that_ends_a_response() -> None:
    """stream.py: upcalls never nest inside downcalls."""
    server = Server().feed(GET + GET)
    server.stream.send_head(response_head(b"200"), True)
    assert len(server.requests) == 1
    server.take()
    assert len(server.requests) == 2
    assert server.session.want_read


def test_no_more_than_so_many_requests_are_served_out_of_one_read() -> None:
    """Attack 35."""
    server = Server(answer_ok, max_pipelined=3).feed(GET * 10)
    written = server.take()
    assert len(server.requests) == 4
    assert server.session.closed
    assert server.session.close_reason is reasons.CLIENT_EXCESSIVE_LOAD
    assert written.count(b"connection: close") == 1
    assert written.endswith(b"content-length: 2\r\nconnection: close\r\n\r\nok")


def test_without_a_cap_all_requests_of_one_read_are_served() -> None:
    """Attack 35."""
    server = Server(answer_ok, max_pipelined=10**9).feed(GET * 1_000)
    server.take()
    assert len(server.requests) == 1_000
    assert not server.session.closed


def test_the_cap_on_pipelining_counts_per_read() -> None:
    server = Server(answer_ok, max_pipelined=3)
    for _ in range(10):
        server.feed(GET * 3)
    assert len(server.requests) == 30
    assert not server.session.closed


def test_a_client_that_does_not_read_gets_no_more_responses_made() -> None:
    """Attack 35: pipelined requests wait until the responses before them were taken."""

    def answer_much(recorder: Recorder, name: str) -> None:
        assert recorder.stream is not None
        recorder.stream.send_head(response_head(b"200"), False)
        recorder.stream.send_data(bytes(HIGH_WATER_BYTES), True)

    server = Server(answer_much).feed(GET * 5)
    assert len(server.requests) == 1
    assert not server.session.want_read
    server.session.set_transport_writable(False)
    assert server.take() == b""
    assert len(server.requests) == 1
    server.session.set_transport_writable(True)
    server.take()
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        # RFC 9112 section 9.3.
        (b"GET / HTTP/1.1\r\nhost: h\r\n", True),
        (b"GET / HTTP/1.1\r\nhost: h\r\nconnection: keep-alive\r\n", True),
        (b"GET / HTTP/1.1\r\nhost: h\r\nConnection: Close\r\n", False),
        (b"GET / HTTP/1.1\r\nhost: h\r\nconnection: keep-alive, close\r\n", False),
        (b"GET / HTTP/1.0\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", True),
    ],
)
def test_the_connection_persists_as_the_client_wishes(head: bytes, kept: bool) -> None:
    server = Server().feed(head + b"\r\n" + GET)
    written = answer(server)
    assert (b"connection: close" in written) is not kept
    assert server.session.closed is not kept
    assert len(server.requests) == (2 if kept else 1)
    if not kept:
        assert server.session.close_reason is reasons.COMPLETED


def test_http_1_0_gets_no_chunks_and_its_body_ends_with_the_connection() -> None:
    """RFC 9112 sections 6.1 and 6.3 item 8."""
    server = Server().feed(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    server.stream.send_head(response_head(b"200"), False)
    server.stream.send_data(b"abc", False)
    server.stream.send_trailers([(b"a", b"b")])
    assert server.take() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"
    assert server.session.closed
    assert not server.session.truncated


def test_http_1_0_that_asked_is_told_that_the_connection_is_kept() -> None:
    server = Server().feed(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert b"\r\nconnection: keep-alive\r\n" in answer(server)


def test_http_1_0_gets_no_informational_responses() -> None:
    """RFC 9110 section 15.2."""
    server = Server().feed(b"GET / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n")
    server.stream.send_informational(response_head(b"103"))
    assert server.take() == b""


def test_what_follows_a_request_that_was_the_last_is_dropped() -> None:
    """Reading goes on, so that a client that leaves is noticed."""
    server = Server().feed(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n" + GET)
    assert server.session.want_read
    server.session.receive_eof()
    assert server.last.reset_code() == "client_connection_lost"


# --- credit -----------------------------------------------------------------------------------


def test_reading_stops_at_the_window_and_resumes_at_half() -> None:
    """Credit follows consumption: an unread body stays with the client."""
    server = Server(consumes=False).feed(post(bytes(10 * WINDOW_BYTES))[:100])
    body = server.last.body()
    server.feed(bytes(WINDOW_BYTES - 1 - len(body)))
    assert server.session.want_read
    server.feed(b"x")
    assert not server.session.want_read
    wakes = server.wakes
    server.stream.consume(WINDOW_BYTES // 2 - 1)
    assert not server.session.want_read
    assert server.wakes == wakes
    server.stream.consume(1)
    assert server.session.want_read
    assert server.wakes > wakes


def test_one_requests_unconsumed_bytes_do_not_stop_the_next() -> None:
    server = Server(consumes=False).feed(post(bytes(2 * WINDOW_BYTES)))
    assert server.session.want_read
    first = server.stream
    answer(server)
    server.feed(post(bytes(WINDOW_BYTES + 10))[:-10])
    assert not server.session.want_read
    first.consume(2 * WINDOW_BYTES)
    assert not server.session.want_read


def test_data_is_accepted_until_enough_is_held() -> None:
    server = Server().feed(GET)
    server.stream.send_head(response_head(b"200"), False)
    assert server.stream.send_data(b"x", False)
    assert not server.stream.send_data(bytes(HIGH_WATER_BYTES), False)
    assert "writable" not in server.last.names()
    server.take()
    assert server.last.names().count("writable") == 1
    assert server.stream.send_data(b"x", False)


def test_nothing_is_accepted_while_the_transport_is_full() -> None:
    server = Server().feed(GET)
    server.session.set_transport_writable(False)
    server.stream.send_head(response_head(b"200"), False)
    assert not server.stream.send_data(b"x", False)
    assert server.take() == b""
    assert "writable" not in server.last.names()
    wakes = server.wakes
    server.session.set_transport_writable(True)
    assert server.wakes > wakes
    assert server.take().endswith(b"1\r\nx\r\n")
    assert "writable" in server.last.names()


def test_what_is_held_at_the_close_is_given_even_to_a_full_transport() -> None:
    """session.py: write what transmit still returns, then close."""
    server = Server().feed(b"GET / HTTP/1.0\r\n\r\n")
    server.session.set_transport_writable(False)
    server.stream.send_head(response_head(b"200"), False)
    server.stream.send_data(b"abc", True)
    assert server.session.closed
    assert server.take().endswith(b"abc")


def test_a_write_from_inside_on_writable_is_not_forgotten() -> None:
    def write_once(recorder: Recorder, name: str) -> None:
        if name == "writable":
            assert recorder.stream is not None
            recorder.stream.send_data(b"tail", True)

    server = Server(write_once).feed(b"GET / HTTP/1.0\r\n\r\n")
    server.stream.send_head(response_head(b"200"), False)
    server.stream.send_data(bytes(HIGH_WATER_BYTES), False)
    assert server.session.transmit().endswith(b"tail")
    assert server.session.closed


# --- 100-continue -----------------------------------------------------------------------------

EXPECTING = post(b"hello", b"Expect: 100-continue")[:-5]


def test_the_expectation_is_passed_on_and_the_answer_is_the_handlers() -> None:
    """RFC 9110 section 10.1.1."""
    server = Server().feed(EXPECTING)
    assert (b"expect", b"100-continue") in server.last.head()
    assert server.take() == b""
    server.stream.send_informational(response_head(b"100"))
    assert server.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    server.feed(b"hello")
    assert server.last.ended()
    assert answer(server) == OK
    assert not server.session.closed


def test_a_final_response_without_100_closes_because_the_body_may_come_or_not() -> None:
    server = Server().feed(EXPECTING)
    assert b"connection: close" in answer(server, b"417")
    assert server.session.closed
    assert server.session.active_streams == 0


def test_a_client_that_did_not_wait_for_100_is_an_ordinary_one() -> None:
    server = Server().feed(EXPECTING + b"hello")
    assert answer(server) == OK
    assert not server.session.closed


def test_100_given_the_body_comes_and_the_connection_persists() -> None:
    server = Server().feed(EXPECTING)
    server.stream.send_informational(response_head(b"100"))
    assert answer(server, b"404").endswith(OK.replace(b"200 OK", b"404 Not Found"))
    server.stream.stop_receiving()
    server.feed(b"hello" + GET)
    assert len(server.requests) == 2


def test_the_expectation_of_http_1_0_is_ignored() -> None:
    """RFC 9110 section 10.1.1."""
    head = EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0").replace(
        b"Host", b"Connection: keep-alive\r\nHost"
    )
    server = Server().feed(head)
    assert b"connection: keep-alive" in answer(server)
    server.feed(b"hello")
    assert server.last.ended()
    assert not server.session.closed


# --- early responses and unwanted bodies ------------------------------------------------------


def test_a_body_that_is_unwanted_before_the_response_closes_after_it() -> None:
    """RFC 9112 section 9.6."""
    server = Server().feed(post(bytes(1000))[:100])
    events = len(server.last.events)
    server.stream.stop_receiving()
    assert b"connection: close" in answer(server, b"413")
    assert server.session.active_streams == 0
    # The client must get the response and not a reset: read on.
    assert not server.session.closed
    assert server.session.want_read
    server.feed(bytes(500))
    assert not server.session.closed
    server.feed(bytes(1000))
    assert server.session.closed
    assert server.session.close_reason is reasons.COMPLETED
    assert len(server.last.events) == events


def test_a_short_rest_of_a_body_is_dropped_for_the_next_requests_sake() -> None:
    """A POST that found no route: its body is on the way already."""
    server = Server().feed(post(bytes(1000))[:100])
    written = answer(server, b"404")
    assert b"connection: close" not in written
    server.stream.stop_receiving()
    assert server.session.active_streams == 0
    server.feed(post(bytes(1000))[100:] + GET)
    assert len(server.requests) == 2
    assert answer(server) == OK


def test_the_rest_of_a_body_whose_handler_answers_its_head_is_dropped() -> None:
    def refuse(recorder: Recorder, name: str) -> None:
        assert name == "head"
        assert recorder.stream is not None
        recorder.stream.send_head(response_head(b"404"), True)
        recorder.stream.stop_receiving()

    server = Server(refuse).feed(post(b"hello") + post(b"hello"))
    assert [recorder.names() for recorder in server.requests] == [["head"], ["head"]]
    assert server.take().count(b"404") == 2
    assert not server.session.closed


@pytest.mark.parametrize(
    "head",
    [post(b"")[:-5] + b"%d\r\n\r\n" % (LINGER_BYTES + 1),
     b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"],
    ids=["long", "unknown"],
)  # fmt: skip
def test_an_early_response_to_a_body_that_may_be_long_asks_for_no_more_of_it(head: bytes) -> None:
    server = Server().feed(head)
    assert b"connection: close" in answer(server, b"413")
    server.stream.stop_receiving()
    assert not server.session.closed


def test_a_response_may_run_while_the_request_does() -> None:
    server = Server().feed(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
    server.stream.send_head(response_head(b"200"), False)
    server.feed(b"3\r\nabc\r\n")
    server.stream.send_data(b"ABC", False)
    server.feed(b"0\r\n\r\n")
    assert server.last.body() == b"abc"
    server.stream.send_data(b"", True)
    assert server.take().endswith(b"3\r\nABC\r\n0\r\n\r\n")
    assert server.session.closed


def test_a_request_goes_on_after_its_response_unless_it_is_unwanted() -> None:
    server = Server().feed(post(b"hello")[:-5])
    answer(server)
    assert server.session.active_streams == 1
    server.feed(b"hello" + GET)
    assert server.requests[0].body() == b"hello"
    assert server.requests[0].ended()
    assert len(server.requests) == 2


def test_an_unwanted_body_is_read_up_to_a_bound() -> None:
    server = Server().feed(post(b"")[:-5] + b"%d\r\n\r\n" % (10 * LINGER_BYTES))
    server.stream.stop_receiving()
    answer(server, b"413")
    server.feed(bytes(LINGER_BYTES))
    assert not server.session.closed
    server.feed(b"x")
    assert server.session.closed


def test_an_unwanted_body_beyond_the_bound_waits_for_the_response() -> None:
    server = Server().feed(post(b"")[:-5] + b"%d\r\n\r\n" % (10 * LINGER_BYTES))
    server.stream.stop_receiving()
    server.feed(bytes(LINGER_BYTES + 1))
    assert not server.session.want_read
    assert not server.session.closed
    assert b"413" in answer(server, b"413")
    assert server.session.closed


def test_an_unwanted_body_is_read_for_a_bounded_time() -> None:
    """Attack 10: a byte now and then does not keep the connection."""
    server = Server().feed(post(bytes(1000))[:100])
    answer(server, b"404")
    server.stream.stop_receiving()
    server.feed(b"x", now=100.0)
    server.feed(b"x", now=100.0 + LINGER_SECONDS)
    assert not server.session.closed
    server.feed(b"x", now=100.1 + LINGER_SECONDS)
    assert server.session.closed


def test_each_unwanted_body_has_its_own_bounds() -> None:
    server = Server()
    for now in (0.0, 100.0):
        body = bytes(LINGER_BYTES - 1000)
        server.feed(post(body)[:100], now=now)
        answer(server, b"404")
        server.stream.stop_receiving()
        server.feed(post(body)[100:], now=now)
        assert not server.session.closed
    assert len(server.requests) == 2


def test_a_malformed_unwanted_body_ends_the_connection_after_the_response() -> None:
    server = Server().feed(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
    server.stream.stop_receiving()
    server.feed(b"xyz\r\n" + GET)
    assert not server.session.closed
    assert b"413" in answer(server, b"413")
    assert server.session.closed
    assert len(server.requests) == 1
    assert server.last.reset_code() is None


# --- ends -------------------------------------------------------------------------------------


def test_a_reset_before_the_response_writes_nothing() -> None:
    server = Server().feed(GET)
    server.stream.reset(reasons.UPSTREAM_RESET)
    assert server.take() == b""
    assert server.session.closed
    assert server.session.close_reason is reasons.UPSTREAM_RESET
    assert not server.session.truncated
    assert server.last.names() == ["head"]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_reset_leaves_the_response_incomplete(version: bytes) -> None:
    """Closed without the last chunk; for HTTP/1.0 the transport is told to make it visible."""
    server = Server().feed(b"GET / HTTP/" + version + b"\r\nhost: h\r\n\r\n" + GET)
    server.stream.send_head(response_head(b"200"), False)
    server.stream.send_data(b"abc", False)
    server.stream.reset(reasons.UPSTREAM_BODY_CUT_SHORT)
    assert not server.take().endswith(b"0\r\n\r\n")
    assert server.session.closed
    assert server.session.truncated
    assert len(server.requests) == 1


def test_a_reset_inside_an_upcall_is_the_last_thing_delivered() -> None:
    def reset(recorder: Recorder, name: str) -> None:
        if name == "data":
            assert recorder.stream is not None
            recorder.stream.reset(reasons.BODY_TOO_LARGE)

    server = Server(reset).feed(CHUNKED_PUT + b"3\r\nabc\r\n0\r\na: b\r\n\r\n" + GET)
    assert server.last.names() == ["head", "data"]
    assert len(server.requests) == 1


def test_nothing_is_accepted_from_or_given_to_a_dead_stream() -> None:
    server = Server().feed(post(bytes(1000))[:100])
    stream, events = server.stream, len(server.last.events)
    stream.reset(reasons.UPSTREAM_RESET)
    stream.send_head(response_head(b"200"), False)
    assert stream.send_data(b"x", True)
    stream.send_trailers([])
    stream.send_informational(response_head(b"103"))
    stream.consume(10)
    stream.stop_receiving()
    stream.reset(reasons.INTERNAL_ERROR)
    server.feed(bytes(100))
    server.session.receive_eof()
    server.session.connection_lost(reasons.CLIENT_CONNECTION_LOST)
    assert server.take() == b""
    assert len(server.last.events) == events
    assert server.session.close_reason is reasons.UPSTREAM_RESET


def test_a_stream_that_ended_does_not_touch_the_next_one() -> None:
    server = Server().feed(GET)
    old = server.stream
    answer(server)
    server.feed(GET)
    old.send_head(response_head(b"500"), True)
    old.stop_receiving()
    old.reset(reasons.INTERNAL_ERROR)
    assert answer(server) == OK


@pytest.mark.parametrize("sent", [b"GET / HTT", post(b"hello")[:-1], GET], ids=str)
def test_a_client_that_leaves_in_the_middle_gave_its_request_up(sent: bytes) -> None:
    server = Server().feed(sent)
    server.session.receive_eof()
    assert server.session.closed
    assert server.session.close_reason is reasons.CLIENT_CONNECTION_LOST
    assert server.session.active_streams == 0
    assert server.take() == b""
    for recorder in server.requests:
        assert recorder.reset_code() == "client_connection_lost"


def test_a_client_that_leaves_between_requests_just_leaves() -> None:
    server = Server().feed(GET)
    answer(server)
    server.session.receive_eof()
    assert server.session.close_reason is reasons.COMPLETED


def test_a_client_that_leaves_while_its_body_is_dropped_has_its_response() -> None:
    server = Server().feed(post(bytes(1000))[:100])
    server.stream.stop_receiving()
    server.stream.send_head(response_head(b"413"), True)
    server.session.receive_eof()
    assert b"413" in server.take()
    assert server.session.close_reason is reasons.COMPLETED
    assert server.last.reset_code() is None


def test_a_lost_transport_is_told_to_the_stream() -> None:
    server = Server().feed(GET)
    server.session.connection_lost(reasons.CLIENT_CONNECTION_LOST)
    assert server.last.reset_code() == "client_connection_lost"
    assert server.session.closed
    assert server.session.active_streams == 0


def test_shutdown_closes_an_idle_connection_at_once() -> None:
    server = Server()
    server.session.shutdown()
    assert server.session.closed
    assert server.wakes > 0
    assert server.session.close_reason is reasons.DRAINING


def test_shutdown_lets_the_current_response_end_and_takes_no_other_request() -> None:
    server = Server().feed(GET + GET)
    server.session.shutdown()
    assert not server.session.closed
    assert b"connection: close" in answer(server)
    assert server.session.closed
    assert server.session.close_reason is reasons.DRAINING
    assert len(server.requests) == 1


def test_shutdown_in_the_middle_of_a_response_closes_after_it() -> None:
    server = Server().feed(GET)
    server.stream.send_head(response_head(b"200"), False)
    server.session.shutdown()
    server.stream.send_data(b"abc", True)
    assert server.take().endswith(b"0\r\n\r\n")
    assert server.session.closed
    assert not server.session.truncated


def test_terminate_answers_what_has_no_response_yet() -> None:
    server = Server().feed(GET)
    server.session.terminate(reasons.DRAIN_TIMEOUT)
    assert server.take().startswith(b"HTTP/1.1 503 ")
    assert server.last.reset_code() == "drain_timeout"


def test_terminate_answers_a_head_that_did_not_arrive_in_time() -> None:
    """RFC 9110 section 15.5.9, attack 10."""
    server = Server().feed(b"GET / HTTP/1.1\r\nx-slow: ")
    server.session.terminate(reasons.CLIENT_HEAD_TIMEOUT)
    written = server.take()
    assert written.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in written
    assert server.session.close_reason is reasons.CLIENT_HEAD_TIMEOUT


def test_terminate_answers_only_with_what_is_an_answer() -> None:
    server = Server().feed(b"GET / HTTP/1.1\r\nx-slow: ")
    server.session.terminate(reasons.IDLE_TIMEOUT)
    assert server.take() == b""


@pytest.mark.parametrize("reason", [reasons.DRAIN_TIMEOUT, reasons.IDLE_TIMEOUT])
def test_terminate_says_nothing_to_a_client_that_asked_nothing(reason: reasons.Reason) -> None:
    """It would take an unsolicited response for that to its next request."""
    server = Server().feed(GET)
    answer(server)
    server.session.terminate(reason)
    assert server.take() == b""
    assert server.session.close_reason is reason


def test_terminate_cuts_a_response_that_has_begun() -> None:
    server = Server().feed(GET)
    server.stream.send_head(response_head(b"200"), False)
    server.take()
    server.session.terminate(reasons.DRAIN_TIMEOUT)
    assert server.take() == b""
    assert server.session.truncated
    assert server.last.reset_code() == "drain_timeout"
