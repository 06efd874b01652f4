"""How connections end: GOAWAY from either side, capacity, pings (RFC 9113 sections 6.7 and 6.8)."""

import pytest
from hyperframe.frame import GoAwayFrame, HeadersFrame, PingFrame

from spooky._core import reasons
from spooky.protocol.h2.engine import EngineName
from spooky.protocol.h2.limits import Limits
from tests.protocol.h2.peers import (
    ENGINE_PAIRS,
    ENGINES,
    GET,
    OK,
    POST,
    ClientEnd,
    ServerEnd,
    data,
    goaway,
    of_type,
    pipe,
    raw_client,
    raw_frame,
    raw_server,
    settings,
)

pairs = pytest.mark.parametrize(("client", "server"), ENGINE_PAIRS)
engines = pytest.mark.parametrize("engine", ENGINES)

MAX_STREAM_ID = 2**31 - 1


def ping_answers(frames: list[object]) -> bytes:
    """Return the answers to the pings among frames."""
    return b"".join(
        PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"]).serialize()
        for frame in frames
        if isinstance(frame, PingFrame) and "ACK" not in frame.flags
    )


# --- the server shuts down ------------------------------------------------------------------------


@pairs
def test_a_server_shuts_down_behind_its_last_response(
    client: EngineName, server: EngineName
) -> None:
    joined = pipe(client, server)
    response = joined.client.request(POST, end=False)
    joined.run()
    joined.server.session.shutdown()
    joined.run()
    assert joined.client.session.capacity == 0
    assert not joined.client.session.reusable
    assert not joined.server.session.closed
    (request,) = joined.server.requests
    response.send_data(b"rest", end=True)
    joined.run()
    request.send_head(OK)
    request.send_data(bytes(request.body), end=True)
    joined.run()
    assert response.body == b"rest"
    assert joined.server.session.closed
    assert joined.server.session.close_reason is reasons.DRAINING
    assert joined.client.session.closed
    assert joined.client.session.close_reason is reasons.COMPLETED


@engines
def test_requests_on_their_way_at_shutdown_are_served(engine: EngineName) -> None:
    """The notice refuses nothing; the GOAWAY that does comes a round trip later."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, GET, end=True))
    end.session.shutdown()
    end.session.shutdown()
    frames = peer.take()
    notices = of_type(frames, GoAwayFrame)
    assert [(each.last_stream_id, each.error_code) for each in notices] == [(MAX_STREAM_ID, 0)]
    assert isinstance(frames[-1], PingFrame), "the probe comes behind the notice"
    peer.send(peer.headers(3, GET, end=True))
    assert len(end.requests) == 2
    peer.send(ping_answers(frames))
    (final,) = of_type(peer.take(), GoAwayFrame)
    assert (final.last_stream_id, final.error_code) == (3, 0)
    peer.send(peer.headers(5, GET, end=True))
    assert len(end.requests) == 2
    for request in end.requests:
        assert not end.session.closed
        request.send_head(OK, end=True)
        peer.take()
    assert end.session.closed
    assert [request.reason for request in end.requests] == [None, None]


@engines
def test_an_idle_server_closes_a_round_trip_after_shutdown(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    end.session.shutdown()
    frames = peer.take()
    assert not end.session.closed
    peer.send(ping_answers(frames))
    peer.take()
    assert end.session.closed


@engines
def test_other_ping_answers_do_not_end_the_notice(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    end.session.shutdown()
    peer.take()
    peer.send(PingFrame(0, opaque_data=b"whatever", flags=["ACK"]).serialize())
    assert peer.take() == []
    assert not end.session.closed


# --- the client shuts down ------------------------------------------------------------------------


@pairs
def test_a_client_shuts_down_behind_its_last_response(
    client: EngineName, server: EngineName
) -> None:
    joined = pipe(client, server)
    response = joined.client.request(GET)
    joined.run()
    joined.client.session.shutdown()
    assert joined.client.session.capacity == 0
    assert not joined.client.session.closed
    joined.server.requests[0].send_head(OK, end=True)
    joined.run()
    assert response.events == [("head", OK, True)]
    for session in (joined.client.session, joined.server.session):
        assert session.closed
        assert session.close_reason is reasons.COMPLETED


@engines
def test_an_idle_client_closes_at_once(engine: EngineName) -> None:
    end = ClientEnd(engine)
    peer = raw_server(end)
    end.session.shutdown()
    assert end.session.closed
    assert [frame.error_code for frame in of_type(peer.take(), GoAwayFrame)] == [0]
    assert peer.take() == []


# --- the backend says GOAWAY ----------------------------------------------------------------------


@engines
def test_streams_above_the_last_are_refused_and_the_others_finish(engine: EngineName) -> None:
    end = ClientEnd(engine)
    peer = raw_server(end)
    responses = [end.request() for _ in range(3)]
    peer.take()
    peer.send(goaway(MAX_STREAM_ID))
    assert [response.names for response in responses] == [[], [], []]
    assert end.session.capacity == 0
    peer.send(peer.headers(1, OK), goaway(3))
    assert responses[2].events == [("reset", reasons.UPSTREAM_GOING_AWAY)]
    peer.send(data(1, b"x", end=True), peer.headers(3, OK, end=True))
    assert responses[0].ended
    assert responses[1].ended
    peer.take()
    assert end.session.closed
    assert end.session.close_reason is reasons.COMPLETED


@engines
def test_a_stream_opened_while_goaway_is_delivered_is_refused(engine: EngineName) -> None:
    """It was never sent, so another connection may take it; and nobody is called back inside."""
    end = ClientEnd(engine)
    peer = raw_server(end)
    late = []

    def retry(recorder: object, upcall: str) -> None:
        late.append(end.request(POST, end=False))
        late[0].send_data(b"x", end=True)

    end.request(hook=retry)
    peer.take()
    peer.send(peer.headers(1, OK), goaway(1), data(1, b"", end=True))
    peer.take()
    assert late[0].events == [("reset", reasons.UPSTREAM_GOING_AWAY)]
    assert end.session.active_streams == 0


@engines
def test_a_stream_without_head_at_goaway_is_refused(engine: EngineName) -> None:
    end = ClientEnd(engine)
    peer = raw_server(end)
    stream = end.open()
    peer.send(goaway(0))
    assert stream.events == [("reset", reasons.UPSTREAM_GOING_AWAY)]
    assert end.session.close_reason is reasons.COMPLETED


@engines
def test_goaway_with_an_error_still_lets_streams_finish(engine: EngineName) -> None:
    end = ClientEnd(engine)
    peer = raw_server(end)
    first, second = end.request(), end.request()
    peer.take()
    peer.send(goaway(1, code=0xB))
    assert second.reason is reasons.UPSTREAM_GOING_AWAY
    peer.send(peer.headers(1, OK, end=True))
    assert first.ended
    peer.take()
    assert end.session.closed


# --- capacity -------------------------------------------------------------------------------------


@engines
def test_capacity_is_what_backend_and_limits_allow(engine: EngineName) -> None:
    end = ClientEnd(engine, limits=Limits(max_concurrent_streams=50))
    assert end.session.capacity == 50, "before the settings arrive"
    peer = raw_server(end, {3: 20})
    assert end.session.capacity == 20
    streams = [end.request() for _ in range(5)]
    assert end.session.capacity == 15
    assert end.session.active_streams == 5
    peer.take()
    peer.send(settings({3: 1_000}))
    assert end.session.capacity == 45
    peer.send(settings({3: 2}))
    assert end.session.capacity == 0
    assert end.session.reusable
    for stream in streams:
        stream.reset(reasons.CLIENT_RESET)
    assert end.session.capacity == 2


def test_streams_beyond_what_the_backend_turns_out_to_allow_wait() -> None:
    """Its settings come after the first requests; ngh2 holds what is not on the wire yet."""
    end = ClientEnd("ngh2")
    peer = raw_server(end, {3: 1})
    end.session._max_streams = 100
    responses = [end.request(POST, end=False) for _ in range(2)]
    for response in responses:
        response.send_data(b"body", end=True)
    frames = peer.take()
    assert {frame.stream_id for frame in frames} == {1}
    peer.send(peer.headers(1, OK, end=True))
    frames = peer.take()
    assert {frame.stream_id for frame in frames} == {3}
    assert frames[-1].data == b"body"
    peer.send(peer.headers(3, OK, end=True))
    assert [response.ended for response in responses] == [True, True]


@engines
def test_identifiers_follow_the_order_of_the_heads(engine: EngineName) -> None:
    """RFC 9113 section 5.1.1, whatever the order in which streams were opened."""
    end = ClientEnd(engine)
    peer = raw_server(end)
    first, second = end.open(), end.open()
    second.send_head(GET, end=True)
    first.send_head(GET, end=True)
    assert [frame.stream_id for frame in of_type(peer.take(), HeadersFrame)] == [1, 3]
    peer.send(peer.headers(1, OK, end=True))
    assert second.ended
    assert not first.ended


@engines
def test_a_stream_given_up_before_its_head_was_never_there(engine: EngineName) -> None:
    end = ClientEnd(engine)
    peer = raw_server(end)
    stream = end.open()
    assert end.session.active_streams == 1
    stream.reset(reasons.CLIENT_RESET)
    assert end.session.active_streams == 0
    stream.send_head(GET, end=True)
    assert peer.take() == []


# --- pings ----------------------------------------------------------------------------------------


@pairs
def test_pings_are_counted_until_answered(client: EngineName, server: EngineName) -> None:
    joined = pipe(client, server)
    session = joined.client.session
    assert session.ping(b"12345678")
    assert session.ping(b"12345679")
    assert session.unanswered_pings == 2
    joined.run()
    assert session.unanswered_pings == 0


@engines
def test_answers_nobody_asked_for_count_for_nothing(engine: EngineName) -> None:
    end = ClientEnd(engine)
    peer = raw_server(end)
    peer.send(raw_frame(6, 1, 0, b"12345678"))
    assert end.session.unanswered_pings == 0
    end.session.ping(b"12345678")
    assert end.session.unanswered_pings == 1
