"""How streams end before their time, from either side (RFC 9113 sections 5.4.2, 8.1 and 8.7)."""

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame

from spooky._core import reasons
from spooky._core.h2_gate import PREFACE
from spooky._core.h2_limits import RETIRE_AFTER_CUT_BODIES
from spooky._core.reasons import Reason
from spooky.protocol.h2.engine import EngineName
from spooky.protocol.h2.limits import Limits
from spooky.protocol.h2.server import ServerSession
from spooky.protocol.stream import Stream
from tests.protocol.h2.peers import (
    ENGINE_PAIRS,
    ENGINES,
    GET,
    OK,
    POST,
    ClientEnd,
    Feeder,
    RawPeer,
    Recorder,
    ServerEnd,
    data,
    goaway,
    of_type,
    pipe,
    raw_client,
    raw_server,
    rst_stream,
    settings,
    window_update,
)

pairs = pytest.mark.parametrize(("client", "server"), ENGINE_PAIRS)
engines = pytest.mark.parametrize("engine", ENGINES)

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 1, 2, 7, 8


# --- resets between our own ends ------------------------------------------------------------------


@pairs
def test_a_client_that_resets_is_heard(client: EngineName, server: EngineName) -> None:
    joined = pipe(client, server)
    response = joined.client.request(POST, end=False)
    response.send_data(b"x")
    joined.run()
    response.reset(reasons.CLIENT_RESET)
    joined.run()
    (request,) = joined.server.requests
    assert request.reason is reasons.CLIENT_RESET
    assert response.reason is None
    assert joined.client.session.active_streams == joined.server.session.active_streams == 0
    assert joined.client.session.capacity == 100


@pairs
@pytest.mark.parametrize(
    ("cause", "effect"),
    [
        (reasons.UPSTREAM_BODY_CUT_SHORT, reasons.UPSTREAM_RESET),
        (reasons.GLOBAL_INFLIGHT, reasons.UPSTREAM_REFUSED),
    ],
)
def test_a_server_that_resets_is_heard(
    client: EngineName, server: EngineName, cause: Reason, effect: Reason
) -> None:
    joined = pipe(client, server)
    response = joined.client.request(POST, end=False)
    joined.run()
    joined.server.requests[0].reset(cause)
    joined.run()
    assert response.events == [("reset", effect)]
    assert joined.server.requests[0].reason is None
    assert joined.client.session.active_streams == joined.server.session.active_streams == 0


@pairs
def test_a_reset_overtakes_the_queue(client: EngineName, server: EngineName) -> None:
    """A body that was cut short upstream is never passed off as complete."""

    def answer(recorder: Recorder, upcall: str) -> None:
        recorder.send_head([*OK, (b"content-type", b"text/plain")])
        recorder.send_data(bytes(600_000), end=False)

    joined = pipe(client, server, hook=answer)
    response = joined.client.request(GET, consumes=False)
    joined.run()
    joined.server.requests[0].reset(reasons.UPSTREAM_BODY_CUT_SHORT)
    joined.run()
    assert response.reason is reasons.UPSTREAM_RESET
    assert not response.ended


@engines
def test_the_reason_chooses_the_code(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    for index, (reason, code) in enumerate(
        [
            (reasons.UPSTREAM_BODY_CUT_SHORT, INTERNAL_ERROR),
            (reasons.BAD_PATH, PROTOCOL_ERROR),
            (reasons.GLOBAL_INFLIGHT, REFUSED_STREAM),
            (reasons.CLIENT_BODY_TIMEOUT, CANCEL),
        ]
    ):
        peer.send(peer.headers(2 * index + 1, POST))
        end.requests[-1].reset(reason)
        assert [frame.error_code for frame in of_type(peer.take(), RstStreamFrame)] == [code]


@engines
def test_nothing_is_delivered_after_a_reset(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST), data(1, b"x"))
    (request,) = end.requests
    request.reset(reasons.REQUEST_TIMEOUT)
    peer.send(data(1, b"late"), peer.headers(1, [(b"x-late", b"1")], end=True))
    peer.take()
    peer.send(rst_stream(1))
    assert request.names == ["head", "data"]
    assert not end.session.closed


@engines
def test_a_stream_may_be_reset_inside_its_own_upcalls(engine: EngineName) -> None:
    def give_up(recorder: Recorder, upcall: str) -> None:
        recorder.reset(reasons.BODY_TOO_LARGE)

    end = ServerEnd(engine, hook=give_up)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST), data(1, b"x"), data(1, b"y", end=True))
    peer.send(peer.headers(3, POST, end=True))
    assert [request.names for request in end.requests] == [["head"], ["head"]]
    assert {frame.stream_id for frame in of_type(peer.take(), RstStreamFrame)} == {1, 3}


@engines
def test_a_stream_may_be_reset_before_its_head_is_delivered(engine: EngineName) -> None:
    """As a draining worker does."""
    events = Recorder()

    def refuse(stream: Stream) -> Recorder:
        stream.reset(reasons.DRAINING)
        return events

    session = ServerSession(refuse, lambda: None, engine=engine)
    peer = RawPeer(session)
    peer.send(PREFACE, settings(), settings(ack=True), peer.headers(1, POST), data(1, b"x"))
    assert events.events == []
    assert peer.take()[-1].error_code == REFUSED_STREAM


@engines
def test_resets_by_the_peer_are_not_taken_for_provoked_ones(engine: EngineName) -> None:
    end = ServerEnd(engine, limits=Limits(provoked_resets=(1, 0)))
    peer = raw_client(end)
    for index in range(10):
        peer.send(peer.headers(2 * index + 1, POST))
        peer.send(rst_stream(2 * index + 1))
    assert not end.session.closed


# --- what a backend's codes mean ------------------------------------------------------------------


@engines
@pytest.mark.parametrize(
    ("code", "effect"),
    [
        (REFUSED_STREAM, reasons.UPSTREAM_REFUSED),
        (CANCEL, reasons.UPSTREAM_RESET),
        (0xD, reasons.UPSTREAM_RESET),
        (NO_ERROR, reasons.UPSTREAM_RESET),
        (0xFFFF, reasons.UPSTREAM_RESET),
    ],
)
def test_a_reset_without_a_complete_response_is_one(
    engine: EngineName, code: int, effect: Reason
) -> None:
    end = ClientEnd(engine)
    peer = raw_server(end)
    first, second = end.request(), end.request(POST, end=False)
    peer.take()
    peer.send(rst_stream(1, code), peer.headers(3, OK), rst_stream(3, code))
    assert first.events == [("reset", effect)]
    assert second.events == [("head", OK, False), ("reset", effect)]


@engines
def test_a_complete_response_may_stop_its_request(engine: EngineName) -> None:
    """RFC 9113 section 8.1: RST_STREAM with NO_ERROR is not an error."""
    end = ClientEnd(engine)
    peer = raw_server(end, {4: 100})
    response = end.request(POST, end=False)
    assert not response.send_data(bytes(300_000))
    peer.take()
    peer.send(peer.headers(1, OK), data(1, b"no", end=True), rst_stream(1, NO_ERROR))
    assert response.events == [("head", OK, False), ("data", 2, True), ("stopped",)]
    assert response.send_data(b"more") is True
    assert not of_type(peer.take(), DataFrame)
    assert end.session.active_streams == 0
    assert end.session.capacity == 100


# --- early responses ------------------------------------------------------------------------------


@pairs
def test_an_early_response_stops_the_upload(client: EngineName, server: EngineName) -> None:
    def refuse(recorder: Recorder, upcall: str) -> None:
        if upcall == "head":
            recorder.send_head([(b":status", b"413")])
            recorder.send_data(bytes(200_000), end=True)
            recorder.stop_receiving()

    joined = pipe(client, server, hook=refuse)
    response = joined.client.request(POST, end=False)
    Feeder(response, bytes(5_000_000))
    joined.run()
    assert response.names.count("head") == 1
    assert len(response.body) == 200_000
    assert response.ended
    assert response.names[-1] == "stopped"
    assert response.reason is None
    assert joined.server.requests[0].names.count("data") == 0
    assert joined.client.session.active_streams == joined.server.session.active_streams == 0


@engines
def test_a_response_is_whole_before_its_request_is_stopped(engine: EngineName) -> None:
    """Sent before, RST_STREAM would take the rest of the response with it."""
    end = ServerEnd(engine)
    peer = raw_client(end, {4: 10})
    peer.send(peer.headers(1, POST))
    (request,) = end.requests
    request.stop_receiving()
    assert peer.take() == []
    request.send_head(OK)
    request.send_data(bytes(30), end=True)
    assert not of_type(peer.take(), RstStreamFrame)
    peer.send(data(1, b"unwanted"))
    peer.send(window_update(1, 25))
    frames = peer.take()
    assert frames[-1].error_code == NO_ERROR
    assert "END_STREAM" in frames[-2].flags
    assert request.names == ["head"]
    assert end.session.active_streams == 0


@engines
def test_what_was_not_consumed_is_credited_when_the_rest_is_unwanted(engine: EngineName) -> None:
    """Else a client that writes before it reads would never get to the response."""
    end = ServerEnd(engine, consumes=False)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST), *(data(1, bytes(16_384)) for _ in range(16)))
    assert peer.take() == []
    end.requests[0].stop_receiving()
    assert [frame.stream_id for frame in peer.take()] == [1]


@engines
def test_an_empty_end_is_sent_before_its_request_is_stopped(engine: EngineName) -> None:
    """In nghttp2 it waits for the window to open; RST_STREAM would not."""
    end = ServerEnd(engine)
    peer = raw_client(end, {4: 10})
    peer.send(peer.headers(1, POST))
    (request,) = end.requests
    request.stop_receiving()
    request.send_head(OK)
    request.send_data(bytes(10))
    frames = peer.take()
    request.send_data(b"", end=True)
    frames += peer.take()
    peer.send(window_update(1, 10))
    end.wake.count = 0
    frames += peer.take()
    if end.wake.count:
        frames += peer.take()
    assert "END_STREAM" in frames[-2].flags
    assert frames[-1].error_code == NO_ERROR


@engines
def test_a_request_that_ends_by_itself_needs_no_reset(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST))
    (request,) = end.requests
    request.stop_receiving()
    peer.send(data(1, b"unwanted", end=True))
    request.send_head(OK, end=True)
    assert [type(frame) for frame in peer.take()] == [HeadersFrame]
    assert request.names == ["head"]
    assert end.session.active_streams == 0


@engines
def test_an_unwanted_response_is_cancelled_after_its_request(engine: EngineName) -> None:
    end = ClientEnd(engine)
    peer = raw_server(end)
    response = end.request(POST, end=False)
    response.stop_receiving()
    response.send_data(b"all of it")
    assert not of_type(peer.take(), RstStreamFrame)
    peer.send(peer.headers(1, OK), data(1, b"unwanted"))
    response.send_data(b"", end=True)
    frames = peer.take()
    assert "END_STREAM" in frames[0].flags
    assert frames[1].error_code == CANCEL
    assert response.names == []


# --- bodies that are not what their head says -----------------------------------------------------


@engines
@pytest.mark.parametrize("body", [b"four", b"sixsix"])
def test_a_response_unlike_its_content_length_is_not_complete(
    engine: EngineName, body: bytes
) -> None:
    """RFC 9113 section 8.1.1; ngh2 ends the stream for it, h2 the connection."""
    end = ClientEnd(engine)
    peer = raw_server(end)
    response = end.request()
    peer.take()
    peer.send(peer.headers(1, [*OK, (b"content-length", b"5")]), data(1, body, end=True))
    peer.take()
    expected = {
        "ngh2": reasons.UPSTREAM_BODY_CUT_SHORT,
        "h2": reasons.UPSTREAM_PROTOCOL_ERROR,
    }
    assert response.reason is expected[engine]
    assert not response.ended
    assert end.session.closed == (engine == "h2")


@engines
@pytest.mark.parametrize("body", [b"four", b"sixsix"])
def test_a_request_unlike_its_content_length_is_not_complete(
    engine: EngineName, body: bytes
) -> None:
    """Attack 28."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, [*POST, (b"content-length", b"5")]))
    peer.send(data(1, body, end=True))
    peer.take()
    (request,) = end.requests
    assert request.reason is reasons.CLIENT_PROTOCOL_ERROR
    assert not request.ended


def test_a_connection_with_many_cut_bodies_is_retired() -> None:
    """ngh2 never gives back the window that they took."""
    end = ClientEnd("ngh2")
    peer = raw_server(end)
    for index in range(RETIRE_AFTER_CUT_BODIES):
        assert end.session.reusable
        end.request()
        peer.take()
        stream_id = 2 * index + 1
        peer.send(
            peer.headers(stream_id, [*OK, (b"content-length", b"20000")]),
            data(stream_id, bytes(16_384), end=True),
        )
        peer.take()
    assert not end.session.reusable
    assert end.session.capacity == 0
    assert end.session.closed


# --- the transport goes away ----------------------------------------------------------------------


@engines
@pytest.mark.parametrize("how", ["lost", "eof"])
def test_a_lost_connection_ends_its_streams(engine: EngineName, how: str) -> None:
    server_end = ServerEnd(engine)
    peer = raw_client(server_end)
    peer.send(peer.headers(1, POST), data(1, b"x"), peer.headers(3, GET, end=True))
    client_end = ClientEnd(engine)
    backend = raw_server(client_end)
    responses = [client_end.request(), client_end.request(POST, end=False), client_end.open()]
    backend.take()
    backend.send(backend.headers(1, OK), data(1, b"half"))
    for session, reason in (
        (server_end.session, reasons.CLIENT_CONNECTION_LOST),
        (client_end.session, reasons.UPSTREAM_CONNECTION_LOST),
    ):
        if how == "lost":
            session.connection_lost(reason)
        else:
            session.receive_eof()
        assert session.closed
        assert session.close_reason is reason
        assert session.active_streams == 0
        assert session.transmit() == b""
    for request in server_end.requests:
        assert request.events[-1] == ("reset", reasons.CLIENT_CONNECTION_LOST)
    for response in responses:
        assert response.events[-1] == ("reset", reasons.UPSTREAM_CONNECTION_LOST)
    assert not responses[0].ended
    assert client_end.session.capacity == 0
    assert not client_end.session.reusable


@engines
def test_a_client_that_leaves_with_nothing_open_is_no_failure(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(goaway(0))
    end.session.receive_eof()
    assert end.session.close_reason is reasons.COMPLETED


@engines
def test_terminate_tells_the_peer_and_the_streams(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, POST), peer.headers(3, GET, end=True))
    end.session.set_transport_writable(False)
    end.session.terminate(reasons.DRAIN_TIMEOUT)
    assert end.session.closed
    assert end.session.close_reason is reasons.DRAIN_TIMEOUT
    assert [request.reason for request in end.requests] == [reasons.DRAIN_TIMEOUT] * 2
    (frame,) = peer.take()
    assert (frame.last_stream_id, frame.error_code) == (3, INTERNAL_ERROR)
    peer.send(peer.headers(5, GET, end=True))
    assert len(end.requests) == 2
    assert peer.take() == []
    end.session.terminate(reasons.IDLE_TIMEOUT)
    end.session.connection_lost(reasons.CLIENT_CONNECTION_LOST)
    assert end.session.close_reason is reasons.DRAIN_TIMEOUT
