"""The counting HTTP/3 client, on a session that does nothing by itself."""

import pytest

from spooky import _core

if not _core.COMPILED:
    pytest.skip("the load generator is not compiled", allow_module_level=True)

from spooky._core.sections import encode_fields
from spooky.bench.counting import CountingClient, Request, Tally
from spooky.bench.plan import UNFINISHED
from spooky.protocol.quic.session import Close, Handshake

HEAD = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
AGREED = Handshake(1, "h3", None, False, None)


class Session:
    """Takes what is sent, as much as it is allowed to."""

    def __init__(self, streams: int = 100, room: int = 10**9) -> None:
        self.handler: CountingClient
        self.streams = streams
        self.room = room
        self.sent: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.consumed = 0
        self._next = 0

    def open_stream(self, unidirectional: bool) -> int | None:
        if unidirectional:
            return 2
        if self.streams == 0:
            return None
        self.streams -= 1
        self._next += 4
        return self._next - 4

    def send(self, stream_id: int, data: bytes, fin: bool) -> int:
        taken = min(len(data), self.room)
        self.room -= taken
        self.sent[stream_id] = self.sent.get(stream_id, b"") + data[:taken]
        if fin and taken == len(data):
            self.ended.add(stream_id)
        return taken

    def consume(self, stream_id: int, count: int) -> None:
        self.consumed += count


def frame(kind: int, payload: bytes) -> bytes:
    return bytes((kind, 0x40 | len(payload) >> 8, len(payload) & 0xFF)) + payload


def response(status: bytes = b"200", body: bytes = b"") -> bytes:
    head = frame(1, encode_fields([(b":status", status), (b"server", b"x" * 100)]))
    return head + (frame(0, body) if body else b"")


def client(
    session: Session,
    *,
    streams: int = 1,
    closed_loop: bool = True,
    body_size: int = 0,
    slow: bool = False,
) -> CountingClient:
    made = CountingClient(
        session,  # type: ignore[arg-type]
        (Request(HEAD, body_size),),
        Tally(),
        streams=streams,
        closed_loop=closed_loop,
        slow=slow,
    )
    made.now = 1.0
    made.on_handshake(AGREED)
    return made


def test_it_opens_a_control_stream_and_as_many_requests_as_it_has_streams() -> None:
    session = Session()
    client(session, streams=3)
    assert session.sent[2] == b"\x00\x04\x00"
    assert session.ended == {0, 4, 8}
    section = session.sent[0][2:]
    assert session.sent[0][:2] == bytes((1, len(section)))
    assert session.sent[4] == session.sent[0]


@pytest.mark.parametrize("piece", [1, 2, 7, 10_000])
def test_a_response_is_counted_however_it_is_cut(piece: int) -> None:
    session = Session()
    made = client(session)
    wire = response(body=b"b" * 900) + frame(0x21, b"grease") + frame(0, b"c" * 100)
    made.now = 1.25
    for start in range(0, len(wire), piece):
        made.on_stream_data(0, wire[start : start + piece], start + piece >= len(wire))
    tally = made.tally
    assert (tally.requests, tally.bytes_received, tally.errors) == (1, 1000, {})
    assert session.consumed == len(wire)
    assert tally.latencies.maximum == 250_000


def test_a_closed_loop_answers_a_response_with_a_request() -> None:
    session = Session()
    made = client(session)
    made.on_stream_data(0, response(), True)
    assert session.ended == {0, 4}
    made.stopping = True
    made.on_stream_data(4, response(), True)
    assert session.ended == {0, 4}


def test_informational_responses_and_trailers_are_not_counted() -> None:
    made = client(Session())
    trailers = frame(1, encode_fields([(b"grpc-status", b"0")]))
    made.on_stream_data(0, response(b"103") + response(body=b"x") + trailers, True)
    assert (made.tally.requests, made.tally.bytes_received, made.tally.errors) == (1, 1, {})


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (response(b"503"), "status 503"),
        (response(b"404", b"gone"), "status 404"),
        (b"", "the response was cut short"),
        (response(body=b"x" * 50)[:-1], "the response was cut short"),
        (response()[:20], "the response was cut short"),
        (response() + b"\x00", "the response was cut short"),
    ],
)
def test_what_is_no_success_is_an_error(wire: bytes, error: str) -> None:
    made = client(Session())
    made.on_stream_data(0, wire, True)
    assert (made.tally.requests, made.tally.errors) == (0, {error: 1})


def test_a_reset_and_a_lost_connection_are_errors() -> None:
    session = Session()
    made = client(session)
    made.on_stream_reset(0, 0x10C)
    assert made.tally.errors == {"reset with 0x10c": 1}
    assert session.ended == {0, 4}, "the stream's place was not used again"
    made.on_closed(Close(0x101, True, "", True, False))
    assert made.tally.errors["the connection was closed with 0x101"] == 1


CLOSES = [
    (Close(0x101, True, "", True, False), "the connection was closed with 0x101"),
    (Close(0, False, "", False, True), "the connection timed out"),
    (Close(0x7, False, "bad frame", False, False), "the connection was closed with 0x7"),
]


@pytest.mark.parametrize(("close", "error"), CLOSES)
def test_every_request_that_a_lost_connection_takes_along_is_an_error(
    close: Close, error: str
) -> None:
    made = client(Session(), streams=3)
    made.on_closed(close)
    assert (made.tally.errors, made.in_flight) == ({error: 3}, 0)


@pytest.mark.parametrize(("close", "error"), CLOSES)
def test_what_waits_for_a_stream_or_comes_after_the_end_of_an_open_loops_connection_is_an_error(
    close: Close, error: str
) -> None:
    made = client(Session(), streams=2, closed_loop=False)
    for _ in range(5):
        made.offer(1.0)
    made.on_closed(close)
    assert made.tally.errors == {error: 5}
    made.offer(1.0)
    assert (made.tally.errors, made.unanswered) == ({error: 6}, 0)


def test_the_end_of_a_connection_that_did_nothing_is_an_error_unless_we_end_it() -> None:
    for stopping in (False, True):
        made = client(Session(), closed_loop=False)
        made.stopping = stopping
        made.on_closed(CLOSES[0][0])
        assert sum(made.tally.errors.values()) == (not stopping)


def test_what_is_given_up_has_waited_and_is_unfinished() -> None:
    made = client(Session(), closed_loop=False)
    made.tally.reset(since=1.5)
    for due in (1.0, 2.0, 3.0):
        made.offer(due)
    made.now = 4.0
    made.give_up()
    assert made.tally.errors == {UNFINISHED: 2}, "one was due before it was measured"
    assert [highest for highest, _ in made.tally.latencies.buckets()] == [
        pytest.approx(1_000_000, rel=1 / 256), 2_000_000,
    ]  # fmt: skip
    assert made.unanswered == 0


def test_an_upload_goes_on_where_the_session_refused() -> None:
    session = Session(room=70_000)
    made = client(session, body_size=200_000)
    assert 0 not in session.ended
    while 0 not in session.ended:
        session.room = 10_000
        made.on_stream_writable(0)
    head, _, body = session.sent[0].partition(b"\x00\x80\x03\x0d\x40")
    assert head == request_head()
    assert body == bytes(200_000)
    made.on_stream_data(0, response(), True)
    assert made.tally.bytes_sent == 200_000


def request_head() -> bytes:
    return Request(HEAD).pieces[0]


def test_requests_that_find_no_stream_begin_when_there_are_some() -> None:
    session = Session(streams=1)
    made = client(session, streams=2)
    assert session.ended == {0}
    session.streams = 5
    made.on_streams_available()
    assert session.ended == {0, 4}


def test_the_latency_of_an_open_loop_counts_from_when_a_request_was_due() -> None:
    """Coordinated omission: a stalled server must not stall the measuring of the stall."""
    session = Session()
    made = client(session, closed_loop=False)
    for due in (1.0, 1.1, 1.2):
        made.now = due
        made.offer(due)
    assert session.ended == {0}, "the one stream is taken, the others wait"
    made.now = 2.0
    for stream_id in (0, 4, 8):
        made.on_stream_data(stream_id, response(), True)
    assert [highest for highest, _ in made.tally.latencies.buckets()] == [
        pytest.approx(latency, rel=1 / 256) for latency in (800_000, 900_000, 1_000_000)
    ]


def test_a_slow_client_consumes_only_what_it_reads_the_oldest_first() -> None:
    session = Session()
    made = client(session, slow=True)
    first, second = response(body=b"x" * 900), response(body=b"y" * 50)
    made.on_stream_data(0, first[:500], False)
    made.on_stream_data(0, first[500:], True)
    made.on_stream_data(4, second, False)
    assert session.consumed == 0
    made.read(600)
    assert session.consumed == 600
    made.read(10_000)
    assert session.consumed == len(first) + len(second)
    made.read(1)
    assert session.consumed == len(first) + len(second)
    assert made.tally.requests == 1


def test_an_open_loop_begins_nothing_by_itself() -> None:
    session = Session()
    made = client(session, streams=4, closed_loop=False)
    assert session.ended == set()
    made.offer(1.0)
    made.on_stream_data(0, response(), True)
    assert session.ended == {0}
    assert made.in_flight == 0


def test_a_client_needs_something_to_request() -> None:
    with pytest.raises(ValueError, match="something to request"):
        CountingClient(Session(), (), Tally(), streams=1, closed_loop=True)  # type: ignore[arg-type]
