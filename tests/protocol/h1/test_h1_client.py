"""The client role: requests framed, responses delivered, connections reused only if clean.

RFC 9112 sections 6, 7 and 9; "a body cut short upstream is never passed off as complete".
"""

import pytest

from spooky._core import reasons
from spooky.protocol.h1.limits import DEFAULT_LIMITS, WINDOW_BYTES, Engine
from spooky.protocol.h1.outbox import HIGH_WATER_BYTES
from spooky.protocol.stream import Field
from tests.protocol.h1.peers import ENGINES, Client, Recorder, request_head, splits

MAX_INFORMATIONAL = DEFAULT_LIMITS.max_informational
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def send(client: Client, method: bytes, *fields: Field, end: bool = False) -> Recorder:
    recorder = client.open()
    assert recorder.stream is not None
    recorder.stream.send_head(request_head(method, *fields), end)
    return recorder


# --- requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"brew"])
def test_a_request_without_a_body_is_sent_as_one(method: bytes) -> None:
    """Issue of caddy#7835: no framing fields, or strict servers wait for a body."""
    client = Client()
    send(client, method, (b"a", b"b"), end=True)
    assert client.take() == method + b" / HTTP/1.1\r\nhost: example.com\r\na: b\r\n\r\n"


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH"])
def test_methods_that_anticipate_a_body_say_that_there_is_none(method: bytes) -> None:
    """RFC 9110 section 8.6."""
    client = Client()
    send(client, method, end=True)
    assert client.take().endswith(b"\r\ncontent-length: 0\r\n\r\n")


def test_a_declared_length_is_kept_when_it_is_zero() -> None:
    client = Client()
    send(client, b"POST", (b"content-length", b"0"), end=True)
    assert client.take().count(b"content-length") == 1


def test_a_body_of_declared_length_is_sent_as_it_is() -> None:
    client = Client()
    recorder = send(client, b"POST", (b"content-length", b"5"))
    assert recorder.stream is not None
    assert recorder.stream.send_data(b"abc", False)
    assert recorder.stream.send_data(b"de", True)
    assert client.take().endswith(b"content-length: 5\r\n\r\nabcde")


def test_a_body_of_unknown_length_is_chunked_with_its_trailers() -> None:
    client = Client()
    recorder = send(client, b"GET")
    assert recorder.stream is not None
    recorder.stream.send_data(b"abc", False)
    recorder.stream.send_trailers([(b"a", b"b")])
    assert client.take().endswith(
        b"\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\na: b\r\n\r\n"
    )


@pytest.mark.parametrize("data", [b"abcd", b"abcdef"])
def test_a_body_that_is_not_as_long_as_declared_loses_the_connection(data: bytes) -> None:
    """Attack 27: the rest would be the backend's next request."""
    client = Client()
    recorder = send(client, b"POST", (b"content-length", b"5"))
    assert recorder.stream is not None
    recorder.inside_downcall = True
    recorder.stream.send_data(data, True)
    recorder.inside_downcall = False
    assert client.session.closed
    assert not client.session.reusable
    assert client.take() == b""
    assert recorder.reset_code() == "internal_error"


def test_a_declared_body_that_never_comes_loses_the_connection() -> None:
    client = Client()
    recorder = send(client, b"POST", (b"content-length", b"5"), end=True)
    assert client.take() == b""
    assert client.session.closed
    assert recorder.reset_code() == "internal_error"


# --- responses --------------------------------------------------------------------------------

RESPONSES: dict[str, tuple[bytes, bytes, list[Field], bytes, list[Field]]] = {
    "length": (
        b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello",
        [(b":status", b"200"), (b"content-length", b"5"), (b"x-a", b"b")], b"hello", []),
    "length 0": (
        b"GET", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        [(b":status", b"404"), (b"content-length", b"0")], b"", []),
    "chunked": (
        b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        [(b":status", b"200"), (b"transfer-encoding", b"chunked")], b"abc", []),
    "trailers": (
        b"GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nSum: 1\r\n\r\n",
        [(b":status", b"200"), (b"transfer-encoding", b"chunked")], b"abc", [(b"sum", b"1")]),
    # RFC 9112 section 6.3 item 1.
    "HEAD": (
        b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        [(b":status", b"200"), (b"content-length", b"5")], b"", []),
    "HEAD, chunked": (
        b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        [(b":status", b"200"), (b"transfer-encoding", b"chunked")], b"", []),
    "204": (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", [(b":status", b"204")], b"", []),
    "204 of length 0": (
        b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        [(b":status", b"204"), (b"content-length", b"0")], b"", []),
    "304": (
        b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        [(b":status", b"304"), (b"content-length", b"5")], b"", []),
    "no reason phrase": (
        b"GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        [(b":status", b"200"), (b"content-length", b"0")], b"", []),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("method", "wire", "head", "body", "trailers"), RESPONSES.values(), ids=RESPONSES
)
def test_a_response_is_delivered_and_the_connection_serves_another(
    engine: Engine, method: bytes, wire: bytes, head: list[Field], body: bytes,
    trailers: list[Field],
) -> None:  # fmt: skip
    for seed in range(6):
        client = Client(engine=engine)
        recorder = client.get(method)
        assert client.session.capacity == 0
        client.feed(*splits(wire, seed))
        assert recorder.head() == head
        assert recorder.body() == body
        assert recorder.ended()
        assert recorder.names().count("trailers") == bool(trailers)
        if trailers:
            assert recorder.events[-1] == ("trailers", trailers)
        assert client.session.capacity == 1
        assert client.session.reusable
        assert client.session.active_streams == 0
        assert client.get().stream is not None


def test_a_body_without_framing_ends_with_the_connection() -> None:
    """RFC 9112 section 6.3 item 8: only there is the end of the connection an end."""
    client = Client()
    recorder = client.get()
    client.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert not recorder.ended()
    assert not client.session.reusable
    client.session.receive_eof()
    assert recorder.body() == b"abc"
    assert recorder.ended()
    assert recorder.reset_code() is None
    assert client.session.closed
    assert client.session.close_reason is reasons.COMPLETED


def test_an_end_that_may_be_a_cut_ends_no_body() -> None:
    """RFC 9112 section 9.8: TLS without close_notify."""
    client = Client()
    recorder = client.get()
    client.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    client.session.receive_eof(clean=False)
    assert recorder.reset_code() == "upstream_body_cut_short"
    assert not recorder.ended()


CUT = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
    "length, nothing of it": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
    "between chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n",
    "in the last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    "in trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\r\n",
    "behind 100": b"HTTP/1.1 100 Continue\r\n\r\n",
}


def test_a_connection_that_ends_within_the_head_is_lost_before_it() -> None:
    client = Client()
    recorder = client.get()
    client.feed(b"HTTP/1.1 200 OK\r\nContent-Le")
    client.session.receive_eof()
    assert recorder.reset_code() == "upstream_connection_lost"


@pytest.mark.parametrize("wire", CUT.values(), ids=CUT)
def test_a_response_cut_short_is_never_complete(wire: bytes) -> None:
    """RFC 9112 section 8."""
    client = Client()
    recorder = client.get()
    client.feed(wire)
    client.session.receive_eof()
    assert recorder.reset_code() == "upstream_body_cut_short"
    assert "trailers" not in recorder.names()
    assert True not in [event[-1] for event in recorder.events]
    assert client.session.closed
    assert not client.session.reusable


def test_a_connection_lost_before_any_response_says_so() -> None:
    """What the retry of an idempotent request stands on."""
    client = Client()
    recorder = client.get()
    client.session.receive_eof()
    assert recorder.events == [("reset", "upstream_connection_lost")]


def test_a_lost_transport_is_told_to_the_stream() -> None:
    """Also where the end of the connection would have ended the body: this was no end."""
    client = Client()
    recorder = client.get()
    client.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    client.session.connection_lost(reasons.UPSTREAM_CONNECTION_LOST)
    assert recorder.reset_code() == "upstream_connection_lost"


# --- 1xx --------------------------------------------------------------------------------------


def test_informational_responses_are_delivered_before_the_final_one() -> None:
    client = Client()
    recorder = client.get()
    client.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    assert recorder.names() == ["informational", "informational", "head", "data"]
    assert recorder.events[1] == ("informational", [(b":status", b"103"), (b"link", b"</a>")])
    assert client.session.capacity == 1


def test_informational_responses_are_counted_and_capped() -> None:
    """Attack 35."""
    client = Client()
    recorder = client.get()
    client.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n" * MAX_INFORMATIONAL)
    assert recorder.names() == ["informational"] * MAX_INFORMATIONAL
    client.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert recorder.reset_code() == "upstream_protocol_error"
    assert client.session.closed


def test_without_a_cap_informational_responses_have_no_end() -> None:
    """Attack 35."""
    client = Client(max_informational=10**9)
    recorder = client.get()
    client.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10 * MAX_INFORMATIONAL)
    assert recorder.names() == ["informational"] * 10 * MAX_INFORMATIONAL
    assert not client.session.closed


def test_the_cap_counts_per_request() -> None:
    client = Client()
    for _ in range(2 * MAX_INFORMATIONAL):
        recorder = client.get()
        client.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n", OK)
        assert recorder.ended()


def test_switching_protocols_is_an_error() -> None:
    """RFC 9110 section 15.2.2: nothing we forward asked for it (attack 33)."""
    client = Client()
    recorder = client.get()
    client.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw")
    assert recorder.events == [("reset", "upstream_protocol_error")]
    assert client.session.closed


# --- bad responses ----------------------------------------------------------------------------

BAD_RESPONSES = {
    # RFC 9112 section 6.3 item 3, section 11.1: response splitting.
    "length and coding": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "upstream_bad_response"),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "upstream_bad_response"),
    "other coding": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "upstream_bad_response"),
    "coding in HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "upstream_bad_response"),
    "signed length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "upstream_bad_response"),
    "version": (b"HTTP/2.0 200 OK\r\n\r\n", "upstream_bad_response"),
    "empty line first": (b"\r\n" + OK, "upstream_bad_response"),
    "status": (b"HTTP/1.1 20 OK\r\n\r\n", "upstream_bad_response"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "upstream_bad_response"),
    "bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "upstream_bad_response"),
    "bare LF in a field": (
        b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\nok", "upstream_bad_response"),
    "bare CR in a field": (
        b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 2\r\n\r\nok", "upstream_bad_response"),
    "space before colon": (
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", "upstream_bad_response"),
    "obs-fold": (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "upstream_bad_response"),
    "NUL": (b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", "upstream_bad_response"),
    "too many fields": (
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n", "upstream_fields_too_large"),
    "head too large": (
        b"HTTP/1.1 200 OK\r\na: " + b"x" * 3000, "upstream_fields_too_large"),
    "1xx too large": (
        b"HTTP/1.1 103 OK\r\na: " + b"x" * 3000, "upstream_fields_too_large"),
    "bad chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
        "upstream_protocol_error"),
    "chunk with bare LF": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
        "upstream_protocol_error"),
    "bad trailer": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na : b\r\n\r\n",
        "upstream_protocol_error"),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("wire", "code"), BAD_RESPONSES.values(), ids=BAD_RESPONSES)
def test_a_bad_response_resets_its_stream_and_ends_the_connection(
    engine: Engine, wire: bytes, code: str
) -> None:
    for seed in range(4):
        client = Client(engine=engine, max_headers_count=100, max_headers_bytes=2000)
        recorder = client.get()
        client.feed(*(splits(wire, seed) if seed else [wire]))
        assert recorder.reset_code() == code
        assert client.session.closed
        assert client.session.capacity == 0
        assert not client.session.reusable


# --- what is not reused -----------------------------------------------------------------------

ODD = {
    # RFC 9112 section 9.3.
    "connection: close": (b"GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\n"),
    "close among others": (b"GET", b"HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\n"),
    "HTTP/1.0": (b"GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"),
    "204 with a length": (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
    "204 with a coding": (b"GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "100 with a length": (
        b"GET",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\n",
    ),
    "CONNECT": (b"CONNECT", b"HTTP/1.1 200 OK\r\n"),
}


@pytest.mark.parametrize(("method", "wire"), ODD.values(), ids=ODD)
def test_a_response_with_anything_odd_about_it_is_the_last(method: bytes, wire: bytes) -> None:
    client = Client()
    recorder = client.get(method)
    client.feed(wire if wire.endswith(b"\r\n\r\n") else wire + b"Content-Length: 0\r\n\r\n")
    assert recorder.ended()
    assert recorder.reset_code() is None
    assert client.session.closed
    assert client.session.capacity == 0
    assert not client.session.reusable


@pytest.mark.parametrize("together", [True, False])
def test_bytes_behind_a_response_end_the_connection(together: bool) -> None:
    """RFC 9112 section 9.2: they would be the next client's response."""
    client = Client()
    recorder = client.get()
    client.feed(*([OK + b"H"] if together else [OK, b"H"]))
    assert recorder.ended()
    assert client.session.closed
    assert client.session.close_reason is reasons.UPSTREAM_PROTOCOL_ERROR
    assert client.session.capacity == 0


def test_the_session_is_closed_before_the_end_of_such_a_response_is_told() -> None:
    """Whoever asks for a connection inside the last upcall must not get this one."""
    seen = []
    client = Client()
    client.get(hook=lambda recorder, name: seen.append(client.session.capacity))
    client.feed(OK + OK)
    assert seen == [0, 0]
    assert client.session.closed


def test_the_session_is_free_before_the_end_of_a_clean_response_is_told() -> None:
    second: list[Recorder] = []

    def reuse(recorder: Recorder, name: str) -> None:
        if name == "data":
            second.append(client.open())

    client = Client()
    client.get(hook=reuse)
    client.feed(OK)
    assert second[0].stream is not None
    second[0].stream.send_head(request_head(), True)
    assert client.take().startswith(b"GET ")
    client.feed(OK)
    assert second[0].ended()


def test_bytes_that_nothing_asked_for_end_the_connection() -> None:
    client = Client().feed(OK)
    assert client.session.closed
    assert client.session.close_reason is reasons.UPSTREAM_PROTOCOL_ERROR


@pytest.mark.parametrize("sent", [False, True])
def test_a_response_that_was_there_before_its_request_left_is_none(sent: bool) -> None:
    """A desynchronised backend: the response belongs to whoever asked before."""
    client = Client()
    recorder = client.open()
    if sent:
        assert recorder.stream is not None
        recorder.stream.send_head(request_head(), True)
    client.feed(OK)
    assert recorder.events == [("reset", "upstream_protocol_error")]
    assert client.session.closed


def test_a_response_before_the_request_was_sent_is_delivered_and_the_last() -> None:
    """RFC 9112 section 9.3."""
    client = Client()
    recorder = send(client, b"POST", (b"content-length", b"5"))
    assert recorder.stream is not None
    recorder.stream.send_data(b"ab", False)
    client.take()
    client.feed(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
    assert recorder.names() == ["head", "stopped", "data"]
    assert recorder.ended()
    assert client.session.closed
    assert not client.session.reusable
    # What is still sent goes nowhere and is accepted.
    assert recorder.stream.send_data(b"cde", True)
    assert client.take() == b""


def test_a_request_given_up_on_hearing_that_it_is_moot_gets_no_response() -> None:
    def reset(recorder: Recorder, name: str) -> None:
        if name == "stopped":
            assert recorder.stream is not None
            recorder.stream.reset(reasons.CLIENT_RESET)

    client = Client()
    recorder = client.open(reset)
    assert recorder.stream is not None
    recorder.stream.send_head(request_head(b"POST"), False)
    client.take()
    client.feed(OK)
    assert recorder.names() == ["head", "stopped"]
    assert client.session.close_reason is reasons.CLIENT_RESET


def test_a_response_while_the_request_is_held_here_is_the_last() -> None:
    client = Client()
    recorder = send(client, b"POST", (b"content-length", b"5"))
    assert recorder.stream is not None
    client.take()
    recorder.stream.send_data(b"abcde", True)
    client.feed(OK)
    assert recorder.ended()
    assert client.session.closed


# --- credit -----------------------------------------------------------------------------------


def test_reading_stops_at_the_window_and_resumes_at_half() -> None:
    client = Client()
    recorder = client.open(consumes=False)
    assert recorder.stream is not None
    recorder.stream.send_head(request_head(), True)
    client.take()
    client.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(WINDOW_BYTES - 1))
    assert client.session.want_read
    client.feed(b"x")
    assert not client.session.want_read
    wakes = client.wakes
    recorder.stream.consume(WINDOW_BYTES // 2 - 1)
    assert not client.session.want_read
    recorder.stream.consume(1)
    assert client.session.want_read
    assert client.wakes > wakes


def test_an_idle_connection_is_read_whatever_was_left_unconsumed() -> None:
    client = Client()
    recorder = client.open(consumes=False)
    assert recorder.stream is not None
    recorder.stream.send_head(request_head(), True)
    client.take()
    client.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + bytes(70000))
    assert recorder.ended()
    assert client.session.want_read


def test_data_is_accepted_until_enough_is_held() -> None:
    client = Client()
    recorder = send(client, b"POST")
    assert recorder.stream is not None
    recorder.inside_downcall = True
    assert not recorder.stream.send_data(bytes(HIGH_WATER_BYTES), False)
    recorder.inside_downcall = False
    client.session.set_transport_writable(False)
    assert client.take() == b""
    assert recorder.names() == []
    client.session.set_transport_writable(True)
    assert len(client.take()) > HIGH_WATER_BYTES
    assert recorder.names() == ["writable"]
    assert recorder.stream.send_data(b"x", False)


# --- ends -------------------------------------------------------------------------------------


def test_a_request_given_up_before_it_left_is_not_sent() -> None:
    client = Client()
    recorder = send(client, b"POST", end=True)
    assert recorder.stream is not None
    recorder.stream.reset(reasons.CLIENT_RESET)
    assert client.take() == b""
    assert client.session.closed
    assert client.session.close_reason is reasons.CLIENT_RESET
    assert client.session.active_streams == 0
    assert recorder.events == []
    client.feed(OK)
    client.session.connection_lost(reasons.UPSTREAM_CONNECTION_LOST)
    assert recorder.events == []


def test_a_reset_inside_an_upcall_is_the_last_thing_delivered() -> None:
    def reset(recorder: Recorder, name: str) -> None:
        assert recorder.stream is not None
        recorder.stream.reset(reasons.CLIENT_RESET)

    for wire in (OK, b"HTTP/1.1 100 Continue\r\n\r\n" + OK):
        client = Client()
        recorder = client.get(hook=reset)
        client.feed(wire)
        assert len(recorder.events) == 1
        assert client.session.closed

    client = Client()
    recorder = client.get(hook=lambda recorder, name: name == "data" and reset(recorder, name))
    client.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.feed(b"3\r\nabc\r\n0\r\na: b\r\n\r\n")
    assert recorder.names() == ["head", "data"]
    assert client.session.close_reason is reasons.CLIENT_RESET


def test_a_response_that_is_unwanted_ends_the_connection() -> None:
    client = Client()
    recorder = client.get()
    client.feed(OK[:-1])
    events = len(recorder.events)
    assert recorder.stream is not None
    recorder.stream.stop_receiving()
    assert client.session.closed
    assert len(recorder.events) == events


def test_a_request_goes_on_while_its_response_is_dropped() -> None:
    client = Client()
    recorder = send(client, b"POST")
    assert recorder.stream is not None
    client.take()
    recorder.stream.stop_receiving()
    client.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + bytes(100_000))
    assert client.session.want_read
    assert not client.session.closed
    recorder.stream.send_data(b"abc", True)
    assert client.session.closed
    assert recorder.events == []


def test_a_dropped_response_is_not_delivered_when_it_ends_before_the_request() -> None:
    client = Client()
    recorder = send(client, b"POST")
    assert recorder.stream is not None
    client.take()
    recorder.stream.stop_receiving()
    client.feed(OK)
    assert recorder.names() == ["stopped"]
    assert client.session.closed


def test_an_idle_connection_ends_in_order() -> None:
    for end in ("receive_eof", "shutdown"):
        client = Client()
        getattr(client.session, end)()
        assert client.session.closed
        assert client.session.capacity == 0
    assert client.wakes > 0


def test_shutdown_lets_the_current_response_end() -> None:
    client = Client()
    recorder = client.get()
    client.session.shutdown()
    assert not client.session.closed
    assert not client.session.reusable
    client.feed(OK)
    assert recorder.ended()
    assert client.session.closed
    assert client.session.close_reason is reasons.DRAINING


def test_terminate_resets_the_stream() -> None:
    client = Client()
    recorder = client.get()
    client.session.terminate(reasons.UPSTREAM_HEAD_TIMEOUT)
    assert recorder.events == [("reset", "upstream_head_timeout")]
    assert client.session.closed


def test_there_is_no_ping() -> None:
    client = Client()
    assert not client.session.ping(b"12345678")
    assert client.session.unanswered_pings == 0
    assert client.take() == b""
