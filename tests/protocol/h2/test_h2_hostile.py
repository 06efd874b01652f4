"""Peers that break the rules, by hand-made frames (RFC 9113 sections 5, 6 and 8, attacks.md)."""

import random

import hpack
import pytest
from hyperframe.frame import GoAwayFrame, RstStreamFrame

from spooky._core import reasons
from spooky._core.h2_gate import PREFACE
from spooky.protocol.h2 import engine_h2
from spooky.protocol.h2.engine import EngineName
from spooky.protocol.h2.limits import DEFAULT_LIMITS, Limits
from spooky.protocol.stream import Field
from tests.protocol.h2.peers import (
    ENGINES,
    GET,
    OK,
    POST,
    ClientEnd,
    RawPeer,
    Recorder,
    ServerEnd,
    data,
    goaway,
    of_type,
    raw_client,
    raw_frame,
    raw_server,
    rst_stream,
    settings,
    window_update,
)

engines = pytest.mark.parametrize("engine", ENGINES)

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, ENHANCE_YOUR_CALM = 1, 3, 6, 0xB
HEADERS, PRIORITY, PUSH_PROMISE, PING, WINDOW_UPDATE, CONTINUATION = 1, 2, 5, 6, 8, 9


def codes(peer: RawPeer) -> list[int]:
    """Return the codes of the GOAWAY frames that a session sends."""
    return [frame.error_code for frame in of_type(peer.take(), GoAwayFrame)]


# --- connection errors ----------------------------------------------------------------------------

CONNECTION_ERRORS = {
    # RFC 9113 section 4.2
    "a frame that is too large": (data(1, bytes(16_385)), {FRAME_SIZE_ERROR}),
    "a CONTINUATION that is too large": (
        raw_frame(HEADERS, 0, 9, b"\x82") + raw_frame(CONTINUATION, 0, 9, bytes(16_385)),
        {FRAME_SIZE_ERROR},
    ),
    "a PING of seven bytes": (raw_frame(PING, 0, 0, bytes(7)), {FRAME_SIZE_ERROR}),
    # Section 6.4: on an idle stream.
    "RST_STREAM before the stream": (rst_stream(7), {PROTOCOL_ERROR}),
    "DATA before the stream": (data(7, b"x"), {PROTOCOL_ERROR}),
    # Section 6.5.2
    "a window beyond 2^31-1": (settings({4: 2**31}), {FLOW_CONTROL_ERROR}),
    "a frame size below 2^14": (settings({5: 100}), {PROTOCOL_ERROR}),
    "SETTINGS on a stream": (raw_frame(4, 0, 1, b""), {PROTOCOL_ERROR}),
    "SETTINGS of five bytes": (raw_frame(4, 0, 0, bytes(5)), {FRAME_SIZE_ERROR}),
    # Section 6.9
    "WINDOW_UPDATE by 0": (raw_frame(WINDOW_UPDATE, 0, 0, bytes(4)), {PROTOCOL_ERROR}),
    "WINDOW_UPDATE beyond 2^31-1": (window_update(0, 2**31 - 1) * 2, {FLOW_CONTROL_ERROR}),
    # Section 6.10
    "CONTINUATION without HEADERS": (raw_frame(CONTINUATION, 4, 1), {PROTOCOL_ERROR}),
    "anything inside a head": (raw_frame(HEADERS, 0, 9, b"\x82") + settings(), {PROTOCOL_ERROR}),
    # RFC 7541 section 2.3.3
    "an index that is not there": (raw_frame(HEADERS, 5, 9, b"\xff\xff\x7f"), {PROTOCOL_ERROR, 9}),
    # Section 8.4: only servers push.
    "PUSH_PROMISE": (raw_frame(PUSH_PROMISE, 4, 1, b"\0\0\0\x02\x82"), {PROTOCOL_ERROR}),
}


@engines
@pytest.mark.parametrize("kind", CONNECTION_ERRORS)
def test_connection_errors_end_the_connection(engine: EngineName, kind: str) -> None:
    if engine == "h2" and kind == "RST_STREAM before the stream":
        pytest.skip("h2 ignores it")
    frame, expected = CONNECTION_ERRORS[kind]
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST))
    peer.send(frame)
    assert set(codes(peer)) <= expected
    assert end.session.closed
    assert end.session.close_reason is reasons.CLIENT_PROTOCOL_ERROR
    assert end.requests[0].reason is reasons.CLIENT_PROTOCOL_ERROR
    before = list(end.requests[0].events)
    peer.send(data(1, b"late", end=True))
    assert end.requests[0].events == before
    assert peer.take() == []


@engines
@pytest.mark.parametrize(
    "hello",
    [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(100), PREFACE[:-1] + b"x", PREFACE + data(1, b"")],
)
def test_what_is_no_preface_ends_the_connection(engine: EngineName, hello: bytes) -> None:
    """RFC 9113 section 3.4: settings included, and GOAWAY may be left out."""
    end = ServerEnd(engine)
    end.session.receive(hello, 0.0)
    peer = RawPeer(end.session)
    assert codes(peer) in ([PROTOCOL_ERROR], [FRAME_SIZE_ERROR], [])
    assert end.session.closed
    assert end.session.close_reason is reasons.CLIENT_PROTOCOL_ERROR
    assert not end.requests


@engines
def test_a_server_that_pushes_breaks_the_protocol(engine: EngineName) -> None:
    """We said that we take none (RFC 9113 section 8.4)."""
    end = ClientEnd(engine)
    peer = raw_server(end)
    response = end.request()
    peer.take()
    peer.send(raw_frame(PUSH_PROMISE, 4, 1, b"\0\0\0\x02\x82"))
    assert codes(peer) == [PROTOCOL_ERROR]
    assert end.session.close_reason is reasons.UPSTREAM_PROTOCOL_ERROR
    assert response.reason is reasons.UPSTREAM_PROTOCOL_ERROR


@engines
def test_a_window_that_is_exceeded_ends_the_connection(engine: EngineName) -> None:
    """Attack 11: what is not credited is not taken."""
    end = ServerEnd(engine, consumes=False)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST))
    for _ in range(DEFAULT_LIMITS.stream_window_bytes // 16_384):
        peer.send(data(1, bytes(16_384)))
    assert not end.session.closed
    peer.send(data(1, b"x"))
    assert codes(peer) == [FLOW_CONTROL_ERROR]
    assert len(end.requests[0].body) == DEFAULT_LIMITS.stream_window_bytes


@engines
def test_more_streams_than_advertised_end_the_connection(engine: EngineName) -> None:
    """Attack 9."""
    end = ServerEnd(engine, limits=Limits(max_concurrent_streams=3))
    peer = raw_client(end)
    for index in range(5):
        peer.send(peer.headers(2 * index + 1, POST))
    peer.take()
    assert len(end.requests) == 3
    assert end.session.closed


@engines
def test_without_a_limit_there_may_be_any_number_of_streams(engine: EngineName) -> None:
    """Attack 9."""
    end = ServerEnd(engine, limits=Limits(max_concurrent_streams=10**6))
    peer = raw_client(end)
    for index in range(300):
        peer.send(peer.headers(2 * index + 1, POST))
    peer.take()
    assert len(end.requests) == 300
    assert not end.session.closed


@engines
def test_a_streams_window_beyond_the_largest_is_the_clients_fault(engine: EngineName) -> None:
    """Attack 2; RFC 9113 section 6.9.1. h2 resets the stream, ngh2 ends the connection."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST), window_update(1, 2**31 - 1))
    peer.take()
    assert end.requests[0].reason is reasons.CLIENT_PROTOCOL_ERROR
    assert end.session.closed == (engine == "ngh2")


def test_the_peer_does_not_choose_the_size_of_our_compression_table() -> None:
    """Attack 6."""
    for engine in ENGINES:
        end = ServerEnd(engine)
        peer = raw_client(end, {1: 2**30})
        decoder = hpack.Decoder()
        decoder.max_allowed_table_size = 2**30
        for index in range(100):
            peer.send(peer.headers(2 * index + 1, GET, end=True))
            end.requests[-1].send_head([*OK, (b"x-%d" % index, b"y" * 100)], end=True)
            decoder.decode(peer.take()[0].data)
        assert decoder.header_table_size == 4_096


# --- malformed messages ---------------------------------------------------------------------------

MALFORMED: dict[str, list[Field]] = {
    "an uppercase name": [*GET, (b"Foo", b"x")],
    "a line end in a value": [*GET, (b"foo", b"x\r\nbar: y")],
    "no path": GET[:3],
    "a connection field": [*GET, (b"connection", b"close")],
    "a space in the path": [*GET[:3], (b":path", b"/a b")],
    "two hosts": [*GET, (b"host", b"a"), (b"host", b"b")],
    "a late pseudo-header": [*GET[:3], (b"a", b"b"), GET[3]],
    "extended CONNECT": [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]],
}


@engines
@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_request_costs_only_its_stream(engine: EngineName, kind: str) -> None:
    """ngh2 resets it (RFC 9113 section 8.1.1); h2 leaves it to our validator."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, MALFORMED[kind], end=True), peer.headers(3, GET, end=True))
    resets = of_type(peer.take(), RstStreamFrame)
    if engine == "ngh2":
        assert [(frame.stream_id, frame.error_code) for frame in resets] == [(1, PROTOCOL_ERROR)]
        assert [request.head() for request in end.requests] == [GET]
    else:
        assert [request.head() for request in end.requests] == [MALFORMED[kind], GET]
    assert not end.session.closed


@engines
@pytest.mark.parametrize(
    "fields", [[(b"foo", b"x")], [(b":status", b"20x")], [*OK, (b"Foo", b"x")]]
)
def test_a_malformed_response_costs_only_its_stream(
    engine: EngineName, fields: list[Field]
) -> None:
    end = ClientEnd(engine)
    peer = raw_server(end)
    first, second = end.request(), end.request()
    peer.take()
    peer.send(peer.headers(1, fields, end=True), peer.headers(3, OK, end=True))
    peer.take()
    assert first.events == (
        [("reset", reasons.UPSTREAM_BAD_RESPONSE)] if engine == "ngh2" else [("head", fields, True)]
    )
    assert second.ended
    assert not end.session.closed


@engines
def test_switching_protocols_has_no_meaning(engine: EngineName) -> None:
    """RFC 9113 section 8.6; attack 33."""
    end = ClientEnd(engine)
    peer = raw_server(end)
    response = end.request()
    peer.take()
    peer.send(peer.headers(1, [(b":status", b"101")]))
    assert [frame.error_code for frame in of_type(peer.take(), RstStreamFrame)] == [PROTOCOL_ERROR]
    assert response.names == ["reset"]


@engines
def test_a_backend_may_send_only_so_many_informational_heads(engine: EngineName) -> None:
    """Attack 35."""
    end = ClientEnd(engine, limits=Limits(max_informational=3))
    peer = raw_server(end)
    response = end.request()
    peer.take()
    for _ in range(4):
        peer.send(peer.headers(1, [(b":status", b"103")]))
    assert response.names == ["informational"] * 3 + ["reset"]
    assert response.reason is reasons.UPSTREAM_PROTOCOL_ERROR
    assert [frame.error_code for frame in peer.take()] == [PROTOCOL_ERROR]
    peer.send(peer.headers(1, OK), data(1, b"late", end=True))
    assert response.names[-1] == "reset"


# --- heads that are too large ---------------------------------------------------------------------


@engines
def test_a_head_beyond_the_validators_limits_still_reaches_it(engine: EngineName) -> None:
    """So that it can be answered with 431."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    many = [*GET, *((b"a", b"%d" % index) for index in range(300))]
    large = [*GET, *((b"a", bytes([97 + index]) * 3_900) for index in range(12))]
    peer.send(peer.headers(1, many, end=True))
    peer.send(continued(peer, 3, large))
    assert [request.head() for request in end.requests] == [many, large]


def continued(peer: RawPeer, stream_id: int, fields: list[Field]) -> bytes:
    """Return a head in frames of the usual largest size."""
    block = peer.encoder.encode(fields)
    pieces = [block[start : start + 16_384] for start in range(0, len(block), 16_384)]
    frames = raw_frame(HEADERS, 1 | 4 * (len(pieces) == 1), stream_id, pieces[0])
    for index, piece in enumerate(pieces[1:], 2):
        frames += raw_frame(CONTINUATION, 4 * (index == len(pieces)), stream_id, piece)
    return frames


@engines
@pytest.mark.parametrize("kind", ["count", "bytes", "bomb", "trailers"])
def test_a_head_far_beyond_the_limits_ends_the_connection(engine: EngineName, kind: str) -> None:
    """Attacks 4 and 5: an indexed field of 4,000 bytes costs one byte to repeat."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST))
    if kind == "count":
        head = peer.headers(3, [*GET, *((b"a", b"b"),) * 513])
    elif kind == "bytes":
        head = continued(peer, 3, [*GET, *((b"a", b"%04d" % index * 900) for index in range(25))])
    elif kind == "bomb":
        peer.send(peer.headers(3, [*GET, (b"a", bytes(4_000).replace(b"\0", b"b"))], end=True))
        index = peer.encoder.encode([(b"a", b"b" * 4_000)])
        assert len(index) == 1
        head = raw_frame(HEADERS, 5, 5, peer.encoder.encode(GET) + index * 16_000)
    else:
        head = peer.headers(1, ((b"a", b"b"),) * 513, end=True)
    peer.send(head)
    assert codes(peer) == [ENHANCE_YOUR_CALM]
    assert end.session.close_reason is reasons.CLIENT_EXCESSIVE_LOAD
    assert end.requests[0].reason is reasons.CLIENT_EXCESSIVE_LOAD


def test_a_head_that_is_too_large_to_be_sent_is_our_own_fault() -> None:
    """An embedded application may want to send one; ngh2 refuses, h2 sends it."""
    end = ServerEnd("ngh2")
    peer = raw_client(end)
    peer.send(peer.headers(1, GET, end=True), peer.headers(3, GET, end=True))
    first, second = end.requests
    first.send_head([*OK, (b"x", bytes(100_000).replace(b"\0", b"y"))])
    second.send_head(OK, end=True)
    (reset,) = of_type(peer.take(), RstStreamFrame)
    assert reset.stream_id == 1
    assert first.reason is reasons.INTERNAL_ERROR
    assert second.reason is None
    assert not end.session.closed


# --- floods ---------------------------------------------------------------------------------------


@engines
def test_rapid_reset_is_not_worked_for(engine: EngineName) -> None:
    """Attack 1: a request cancelled in the same read never becomes a stream."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST), data(1, b"x"), rst_stream(1), peer.headers(3, GET, end=True))
    assert [request.head() for request in end.requests] == [GET]
    assert end.session.active_streams == 1


def rapid_reset(peer: RawPeer, stream_id: int) -> None:
    peer.send(peer.headers(stream_id, POST))
    peer.send(rst_stream(stream_id))


def malformed(peer: RawPeer, stream_id: int) -> None:
    peer.send(peer.headers(stream_id, GET[:3], end=True))


def cut_short(peer: RawPeer, stream_id: int) -> None:
    peer.send(
        peer.headers(stream_id, [*POST, (b"content-length", b"5")]), data(stream_id, b"", True)
    )


def empty_data(peer: RawPeer, stream_id: int) -> None:
    peer.send(data(1))


def padding_only(peer: RawPeer, stream_id: int) -> None:
    peer.send(data(1, padding=200))


def ping(peer: RawPeer, stream_id: int) -> None:
    peer.send(raw_frame(PING, 0, 0, bytes(8)))


def change_settings(peer: RawPeer, stream_id: int) -> None:
    peer.send(settings({1: stream_id % 4_096, 4: 65_535}))


def half_closed_data(peer: RawPeer, stream_id: int) -> None:
    """MadeYouReset by data on a stream that was reset for it before."""
    peer.send(peer.headers(stream_id, [*POST, (b"content-length", b"0")]), data(stream_id, b"x"))


# How much of each ends the connection, per engine; 0 where the engine has other means.
FLOODS = [
    (rapid_reset, "ngh2"), (rapid_reset, "h2"),
    (malformed, "ngh2"),
    (cut_short, "ngh2"), (cut_short, "h2"),
    (half_closed_data, "ngh2"), (half_closed_data, "h2"),
    (empty_data, "ngh2"), (empty_data, "h2"),
    (padding_only, "ngh2"), (padding_only, "h2"),
    (ping, "ngh2"), (ping, "h2"),
    (change_settings, "ngh2"), (change_settings, "h2"),
]  # fmt: skip


@pytest.mark.parametrize(("flood", "engine"), FLOODS)
def test_floods_end_the_connection(flood: object, engine: EngineName) -> None:
    """Attacks 1, 2, 6 and 7, at the default budgets, and nobody reads what we answer."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST))
    count = 0
    while not end.session.closed:
        count += 1
        flood(peer, 2 * count + 1)  # type: ignore[operator]
        if count % 10 == 0:
            peer.take()
        assert count <= 1_100
    assert end.session.close_reason in (
        reasons.CLIENT_EXCESSIVE_LOAD,
        reasons.CLIENT_PROTOCOL_ERROR,
        reasons.DRAINING,
    )
    assert end.session.active_streams == 0
    for request in end.requests:
        assert request.names[-1] in ("reset", "data", "head")


@engines
def test_rapid_resets_end_in_our_words_whatever_the_engine_counts(engine: EngineName) -> None:
    """nghttp2 counts by whole seconds: it must not be the first to have enough, as it says that
    it failed."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    burst, per_second = DEFAULT_LIMITS.peer_resets
    count = 0
    while not end.session.closed:
        count += 1
        rapid_reset(peer, 2 * count + 1)
        # So fast that half of them are earned again, while for the engine hardly any time passes.
        peer.now += 0.5 / per_second
    assert burst < count < 2 * burst + 10
    assert end.session.close_reason is reasons.CLIENT_EXCESSIVE_LOAD
    assert codes(peer) == [ENHANCE_YOUR_CALM]


@engines
def test_streams_that_we_reset_are_no_floods_of_the_peers(engine: EngineName) -> None:
    """However many: backends fail, clients are told to stop sending."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    burst, _ = DEFAULT_LIMITS.peer_resets
    for count in range(3 * burst):
        peer.send(peer.headers(2 * count + 1, POST))
        end.requests.pop().reset(reasons.UPSTREAM_RESET)
        assert of_type(peer.take(), RstStreamFrame)
    assert not end.session.closed


@engines
def test_reading_a_response_earns_the_window_updates_for_it(engine: EngineName) -> None:
    end = ServerEnd(engine, limits=Limits(control_frames=(10, 0)))
    peer = raw_client(end)
    peer.send(peer.headers(1, GET, end=True))
    (request,) = end.requests
    request.send_head(OK)
    for _ in range(100):
        request.send_data(bytes(100))
        peer.take()
        peer.send(window_update(1, 100), window_update(0, 100))
    assert not end.session.closed


@engines
def test_answers_nobody_reads_are_bounded(engine: EngineName) -> None:
    """Attacks 6 and 7: what the budgets let through still must not pile up."""
    end = ServerEnd(engine, limits=Limits(max_pending_acks=50, control_frames=(10**6, 10**6)))
    peer = raw_client(end)
    end.session.set_transport_writable(False)
    for _ in range(60):
        peer.send(raw_frame(PING, 0, 0, bytes(8)))
    assert end.session.closed
    assert end.session.close_reason is reasons.CLIENT_EXCESSIVE_LOAD
    assert codes(peer) == [ENHANCE_YOUR_CALM]


def test_resets_that_h2_makes_for_closed_streams_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """h2 answers each late frame with one more RST_STREAM, and keeps them until they are read."""
    monkeypatch.setattr(engine_h2, "MAX_PENDING_OUTPUT_BYTES", 13_000)
    end = ServerEnd("h2")
    peer = raw_client(end)
    peer.send(peer.headers(1, POST))
    end.requests[0].reset(reasons.REQUEST_TIMEOUT)
    peer.take()
    end.session.set_transport_writable(False)
    peer.send(data(1) * 990)
    assert not end.session.closed
    peer.send(data(1) * 20)
    assert end.session.closed
    assert end.session.close_reason is reasons.CLIENT_EXCESSIVE_LOAD


@engines
@pytest.mark.parametrize("end_of_it", ["goaway", "too large a head"])
def test_upcalls_may_do_anything_while_the_end_is_delivered(
    engine: EngineName, end_of_it: str
) -> None:
    """The engine may be gone already when the events before its end are told."""

    def act(recorder: Recorder, upcall: str) -> None:
        recorder.send_data(bytes(10))
        recorder.send_data(bytes(70_000))
        recorder.consume(1)
        recorder.stop_receiving()
        end.session.ping(bytes(8))
        capacities.append(end.session.capacity)
        recorder.reset(reasons.CLIENT_RESET)

    capacities: list[int] = []
    end = ClientEnd(engine)
    peer = raw_server(end)
    end.request(POST, end=False, hook=act)
    peer.take()
    if end_of_it == "goaway":
        peer.send(peer.headers(1, OK), data(1, b"x"), rst_stream(1), goaway(1))
    else:
        peer.send(peer.headers(1, OK), data(1, b"x"), peer.headers(1, [(b"a", b"b")] * 600, True))
    peer.take()
    assert end.session.closed
    assert capacities in ([0], []), "no stream can be opened any more"


# --- anything at all ------------------------------------------------------------------------------


@engines
@pytest.mark.parametrize("seed", range(150))
def test_random_frames_never_break_the_session(engine: EngineName, seed: int) -> None:
    """Whatever comes, sessions do not raise, and close or go on with their books in order."""
    source = random.Random(seed)
    server = ServerEnd(engine)
    client = ClientEnd(engine)

    def act(recorder: Recorder, upcall: str) -> None:
        """Do anything a user may do inside an upcall."""
        choice = source.random()
        if choice < 0.2:
            recorder.send_head(OK if recorder in server.requests else POST)
            recorder.send_data(source.randbytes(source.choice((0, 10, 70_000))))
        elif choice < 0.4:
            recorder.send_data(source.randbytes(10), end=source.random() < 0.3)
        elif choice < 0.5:
            recorder.send_trailers([(b"x", b"y")])
        elif choice < 0.6:
            recorder.reset(reasons.INTERNAL_ERROR)
        elif choice < 0.7:
            recorder.stop_receiving()
        elif choice < 0.8 and client.session.capacity:
            client.request(POST, end=source.random() < 0.5, hook=act)
        elif choice < 0.81:
            client.session.shutdown()
        elif choice < 0.82:
            server.session.shutdown()
        elif choice < 0.83:
            client.session.ping(b"12345678")

    server.hook = act
    for end, peer in ((server, raw_client(server)), (client, raw_server(client))):
        if end is client:
            for _ in range(3):
                client.request(POST, end=False, hook=act)
        for _ in range(60):
            peer.now += 0.1
            peer.send(random_frames(source, peer))
            for request in server.requests if end is server else []:
                request.send_head(OK)
                request.send_data(source.randbytes(source.choice((0, 10, 70_000))), end=False)
            if source.random() < 0.5:
                end.session.transmit()
        session = end.session
        while session.transmit():
            pass
        open_streams = len(session._streams)
        assert session.active_streams == open_streams
        assert not (session.closed and open_streams)
        session.connection_lost(reasons.CLIENT_CONNECTION_LOST)
        assert session.active_streams == 0
        assert session._sender.backlog_bytes == 0


def random_frames(source: random.Random, peer: RawPeer) -> bytes:
    """Return frames that are sometimes right."""
    frames = b""
    for _ in range(source.randrange(1, 4)):
        stream_id = source.choice((0, 1, 1, 3, 3, 5, 7, 2, 2**31 - 1))
        choice = source.random()
        if choice < 0.3:
            fields = source.choice(
                (GET, POST, OK, [(b"x", b"y")], [*OK, (b"content-length", b"3")])
            )
            frames += peer.headers(stream_id, fields, end=source.random() < 0.3)
        elif choice < 0.6:
            content = source.randbytes(source.choice((0, 1, 3, 300, 16_384)))
            padding = source.choice((0, 0, 3))
            frames += data(stream_id, content, source.random() < 0.2, padding)
        elif choice < 0.7:
            frames += window_update(stream_id, source.choice((1, 1_000, 2**31 - 1)))
        elif choice < 0.8:
            frames += settings({source.randrange(1, 10): source.choice((0, 1, 16_384, 65_535))})
        elif choice < 0.9:
            frames += rst_stream(stream_id, source.randrange(20))
        elif choice < 0.91:
            frames += goaway(stream_id)
        else:
            kind, flags = source.randrange(12), source.randrange(256)
            frames += raw_frame(kind, flags, stream_id, source.randbytes(source.randrange(20)))
    return frames
