"""Clients that are held to a rate, in simulated time: only they are charged, for their own time."""

from itertools import cycle
from typing import Any

import h2.config
import h2.connection
import h2.settings
import pytest

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.terms import Client
from spooky._core.validate import HTTP_1, HTTP_2
from spooky.protocol.h1.server import ServerSession as Http1Session
from spooky.protocol.h2.server import ServerSession as Http2Session
from tests.support.tried import FakeStream, Upstream, World

GRACE = 10.0
RATE = 100
IDLE = 20.0
DECLARED = (b"content-length", b"1000000")

HELD: dict[str, Any] = {
    "client_min_request_bytes_per_sec": RATE,
    "client_min_stream_bytes_per_sec": RATE,
    "client_min_response_bytes_per_sec": RATE,
    "client_rate_grace_ms": int(GRACE * 1000),
    "client_body_idle_timeout_ms": int(IDLE * 1000),
    "backend_body_idle_timeout_ms": 3_600_000,
    "backend_timeout_ms": 3_600_000,
}


def world(**performance: Any) -> World:
    return World(performance=HELD | performance)


def upload(at: World, *more: tuple[bytes, bytes]) -> tuple[FakeStream, Upstream]:
    """Begin a request whose body follows, and have a backend take it."""
    client = at.request("POST", b"", *more, ends=False)
    return client, at.connect()


def download(at: World, beside: int = -1) -> tuple[FakeStream, Upstream]:
    """Begin a response that the client does not take."""
    client = at.request()
    client.beside = beside
    backend = at.connect()
    client.accepts = False
    backend.answer(200, bytes(100_000), ends=False)
    return client, backend


def drip(at: World, client: FakeStream, size: int, seconds: float, every: float = 1.0) -> None:
    """Have a client send so much at once, again and again, as long as it is let."""
    end = at.runtime.time + seconds
    while at.runtime.time < end and not client.is_over:
        client.handler.on_data(bytes(size), False)
        at.runtime.sleep(every)


def sip(at: World, client: FakeStream, size: int, seconds: float, every: float = 1.0) -> None:
    """Have a client take so much at once, again and again, as long as it is let."""
    end = at.runtime.time + seconds
    while at.runtime.time < end and client.was_reset is None:
        client.untaken -= size
        at.runtime.sleep(every)


def ended_for(at: World, reason: Reason) -> bool:
    return at.counted("requests_total", reason=reason.code) == 1


@pytest.mark.parametrize("fields", [[DECLARED], []], ids=["declared", "undeclared"])
def test_a_body_that_drips_in_is_a_408(fields: list[tuple[bytes, bytes]]) -> None:
    at = world()
    client, _ = upload(at, *fields)
    drip(at, client, RATE // 10, 3 * GRACE)
    assert client.status == 408
    assert ended_for(at, reasons.CLIENT_BODY_SLOW)
    at.check_idle()


@pytest.mark.parametrize("size", [RATE, 10 * RATE])
def test_a_body_that_is_fast_enough_takes_its_time(size: int) -> None:
    at = world()
    client, backend = upload(at, DECLARED)
    drip(at, client, size, 30 * GRACE)
    assert not client.is_over
    backend.answer(200, b"done")
    assert client.status == 200


def test_without_a_rate_a_body_that_drips_in_is_waited_for_without_end() -> None:
    """Attack 10 without its limit."""
    at = world(client_min_request_bytes_per_sec=None)
    client, _ = upload(at, DECLARED)
    drip(at, client, 1, 4 * 3600, every=IDLE / 2)
    assert not client.is_over


def test_without_a_rate_a_response_that_is_sipped_is_waited_for_without_end() -> None:
    """Attack 10 without its limit."""
    at = world(client_min_response_bytes_per_sec=None)
    client, _ = download(at)
    sip(at, client, 1, 4 * 3600, every=IDLE / 2)
    assert client.was_reset is None


def test_a_stream_that_says_little_is_no_slow_upload_by_default() -> None:
    at = World()
    client, backend = upload(at)
    drip(at, client, 5, 3600, every=30.0)
    assert not client.is_over
    backend.answer(200, b"done")
    assert client.status == 200


def test_by_default_a_declared_body_and_a_response_are_held_to_a_rate() -> None:
    at = World(performance={"backend_body_idle_timeout_ms": 3_600_000})
    client, _ = upload(at, DECLARED)
    drip(at, client, 5, 3600, every=30.0)
    assert client.status == 408
    reader, _ = download(at)
    sip(at, reader, 5, 3600, every=30.0)
    assert reader.was_reset is reasons.CLIENT_READ_SLOW


def test_a_slow_backend_is_not_charged_to_who_sends() -> None:
    at = world()
    client, backend = upload(at, DECLARED)
    for _ in range(20):
        backend.stream.accepts = False
        client.handler.on_data(bytes(10), False)
        at.runtime.sleep(3 * GRACE)
        backend.stream.accepts = True
        backend.caller.on_writable()
        at.runtime.sleep(0.05)
    assert not client.is_over


def test_a_connection_that_takes_long_is_not_charged_to_who_sends() -> None:
    at = world()
    client = at.request("POST", b"some", DECLARED, ends=False)
    at.runtime.sleep(6 * GRACE)
    at.connect()
    at.runtime.sleep(GRACE / 2)
    assert not client.is_over


def test_until_its_first_byte_a_body_may_wait_for_the_backend_to_ask_for_it() -> None:
    at = world()
    client, _ = upload(at, DECLARED, (b"expect", b"100-continue"))
    at.runtime.sleep(IDLE - 1)
    assert not client.is_over
    at.runtime.sleep(2)
    assert ended_for(at, reasons.CLIENT_BODY_TIMEOUT)


def test_once_the_response_began_a_body_may_be_silent() -> None:
    at = world()
    client, backend = upload(at, DECLARED)
    client.handler.on_data(b"some", False)
    backend.answer(200, b"some", ends=False)
    drip(at, client, 1, 20 * GRACE)
    assert not client.is_over


@pytest.mark.parametrize("has_ended", [False, True], ids=["going on", "all there"])
def test_a_response_that_is_sipped_is_reset(has_ended: bool) -> None:
    at = world()
    client, backend = download(at)
    if has_ended:
        backend.caller.on_data(bytes(10), True)
    sip(at, client, RATE // 10, 3 * GRACE)
    assert client.was_reset is reasons.CLIENT_READ_SLOW
    assert ended_for(at, reasons.CLIENT_READ_SLOW)
    at.check_idle()


def test_a_response_of_which_nothing_is_taken_is_reset() -> None:
    at = world(client_rate_grace_ms=3_600_000)
    client, _ = download(at)
    at.runtime.sleep(IDLE - 1)
    assert client.was_reset is None
    at.runtime.sleep(2)
    assert client.was_reset is reasons.CLIENT_READ_TIMEOUT


def test_a_response_that_is_read_fast_enough_takes_its_time() -> None:
    """Though it is told of no room for longer than any timeout."""
    at = world()
    client, _ = download(at)
    sip(at, client, RATE, 50 * GRACE)
    assert client.was_reset is None


def test_a_response_that_waits_for_its_turn_is_not_charged_to_who_takes_the_others() -> None:
    at = world()
    client, _ = download(at, beside=0)
    for second in range(500):
        client.beside = RATE * second
        at.runtime.sleep(1.0)
    assert client.was_reset is None
    client.beside = -1
    at.runtime.sleep(3 * GRACE)
    assert client.was_reset is reasons.CLIENT_READ_SLOW


def test_what_was_taken_beside_it_does_not_count_for_a_response_that_its_window_holds_up() -> None:
    """Else who opens a window by one byte now and then might keep it."""
    at = world()
    client, _ = download(at)
    for second in range(int(3 * GRACE)):
        client.beside = -1 if second % 2 else 1_000 * RATE * second
        at.runtime.sleep(1.0)
    assert client.was_reset is reasons.CLIENT_READ_SLOW


def test_an_event_stream_is_not_slow() -> None:
    at = world()
    client = at.request()
    backend = at.connect()
    backend.answer(200, b"first", ends=False)
    for _ in range(100):
        at.runtime.sleep(2 * GRACE)
        backend.caller.on_data(b"event", False)
    assert not client.is_over


def test_a_reader_that_was_fast_has_its_grace_again() -> None:
    at = world()
    client, backend = download(at)
    for _ in range(10):
        at.runtime.sleep(0.8 * GRACE)
        client.untaken = 0
        client.handler.on_writable()
        backend.caller.on_data(bytes(100_000), False)
    assert client.was_reset is None


def test_a_response_held_back_is_not_judged_by_the_deadline_of_the_body_it_overtakes() -> None:
    at = world(unknown_length_response_prebuffer_bytes=200_000, client_rate_grace_ms=3_600_000)
    client, backend = upload(at, DECLARED)
    client.handler.on_data(b"some", False)
    client.accepts = False
    at.runtime.sleep(IDLE - 1)
    backend.answer(200, bytes(100_000))
    at.runtime.sleep(IDLE - 1)
    assert client.was_reset is None
    at.runtime.sleep(2)
    assert client.was_reset is reasons.CLIENT_READ_TIMEOUT


@pytest.mark.parametrize("back", [0, 200_000], ids=["passed on", "held back"])
def test_a_response_with_trailers_is_timed_until_they_are_taken(back: int) -> None:
    at = world(unknown_length_response_prebuffer_bytes=back)
    client = at.request()
    backend = at.connect()
    backend.answer(200, bytes(1_000), ends=False)
    client.accepts = False
    backend.caller.on_trailers([(b"grpc-status", b"0")])
    client.untaken = 1_000
    sip(at, client, 1, 3 * GRACE)
    assert client.was_reset is reasons.CLIENT_READ_SLOW
    at.check_idle()


def test_a_response_with_trailers_is_over_when_they_are_taken() -> None:
    at = world()
    client, backend = download(at)
    backend.caller.on_trailers([(b"grpc-status", b"0")])
    at.runtime.sleep(GRACE / 2)
    client.handler.on_writable()
    assert ended_for(at, reasons.COMPLETED)
    at.check_idle()


def test_over_http1_a_response_with_trailers_that_was_written_is_over() -> None:
    at = world()
    client = Client(b"192.0.2.1", 50_000, HTTP_1, b"", (), b"192.0.2.1")
    session = Http1Session(lambda stream: at.service.accept(stream, client), lambda: None)
    session.receive(b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n", at.runtime.time)
    backend = at.connect()
    backend.answer(200, bytes(100_000), ends=False)
    backend.has_ended = True
    backend.caller.on_trailers([(b"x-checksum", b"1")])
    assert session.transmit().endswith(b"0\r\nx-checksum: 1\r\n\r\n")
    assert ended_for(at, reasons.COMPLETED)
    at.check_idle()


class Http2:
    """A client over HTTP/2 that opens windows of streams so far, and the connection's never."""

    def __init__(self, at: World, engine: str, window: int) -> None:
        client = Client(b"192.0.2.1", 50_000, HTTP_2, b"", (), b"192.0.2.1")
        self._at = at
        self.session = Http2Session(
            lambda stream: at.service.accept(stream, client), lambda: None, engine=engine
        )
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.client.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.client.initiate_connection()

    def move(self) -> None:
        """Move what there is, both ways."""
        for _ in range(2):
            self.session.receive(self.client.data_to_send(), self._at.runtime.time)
            while data := self.session.transmit():
                self.client.receive_data(data)

    def request(self) -> Upstream:
        """Begin an exchange; returns the request as a backend has it."""
        names = {":method": "GET", ":scheme": "https", ":authority": "www.example.com"}
        stream = self.client.get_next_available_stream_id()
        fields = [*names.items(), (":path", "/")]
        self.client.send_headers(stream, fields, end_stream=True)
        self.move()
        return self._at.connect()


engines = pytest.mark.parametrize("engine", ["ngh2", "h2"])


@engines
def test_over_http2_a_response_with_trailers_that_no_window_lets_go_is_reset(engine: str) -> None:
    at = world(client_rate_grace_ms=3_600_000)
    client = Http2(at, engine, window=0)
    backend = client.request()
    backend.answer(200, bytes(60_000), ends=False)
    backend.has_ended = True
    backend.caller.on_trailers([(b"grpc-status", b"0")])
    client.move()
    assert at.service.active == 1
    at.runtime.sleep(IDLE + 1)
    assert ended_for(at, reasons.CLIENT_READ_TIMEOUT)
    assert client.session.active_streams == 0
    at.check_idle()


@engines
def test_over_http2_answers_to_pings_are_no_part_of_a_response(engine: str) -> None:
    at = world()
    client = Http2(at, engine, window=1 << 20)
    for backend in [client.request() for _ in range(2)]:
        backend.answer(200, bytes(600_000), ends=False)
    client.move()
    for _ in range(int(3 * GRACE)):
        for _ in range(RATE // 10):
            client.client.ping(b"12345678")
        client.move()
        at.runtime.sleep(1.0)
    assert at.counted("requests_total", reason=reasons.CLIENT_READ_SLOW.code) == 2


@engines
def test_over_http2_the_windows_of_stream_and_connection_are_told_apart(engine: str) -> None:
    client = Http2(world(), engine, window=100_000)
    client.request().answer(200, bytes(200_000), ends=False)
    client.move()
    its = client.session._engine
    assert (its.remote_window_size, its.stream_remote_window_size(1)) == (0, 100_000 - 65_535)


@engines
def test_over_http2_what_is_acknowledged_again_and_again_counts_once(engine: str) -> None:
    """Who leaves answers to PINGs unread for a while, and reads them then, took no more."""
    at = world()
    client = Http2(at, engine, window=1 << 20)
    unread = cycle([20_000, 0])
    client.session.unwritten = lambda: next(unread)
    client.request().answer(200, bytes(600_000), ends=False)
    client.move()
    for _ in range(int(6 * GRACE)):
        client.client.increment_flow_control_window(1)
        client.move()
        at.runtime.sleep(1.0)
    assert ended_for(at, reasons.CLIENT_READ_SLOW)
