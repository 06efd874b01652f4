"""Requests and responses between our own ends, over every pair of engines (RFC 9113 section 8)."""

import random

import pytest

from spooky._core import reasons
from spooky.protocol.h2.engine import EngineName
from spooky.protocol.stream import Field
from tests.protocol.h2.peers import (
    ENGINE_PAIRS,
    GET,
    OK,
    POST,
    Feeder,
    Recorder,
    pipe,
)

pytestmark = pytest.mark.parametrize(("client", "server"), ENGINE_PAIRS)

TRAILERS: list[Field] = [(b"x-checksum", b"1"), (b"grpc-status", b"0")]


def echo(recorder: Recorder, upcall: str) -> None:
    """Answer with the request's body once it is complete."""
    if upcall in ("head", "data", "trailers") and recorder.ended:
        recorder.send_head(OK, end=not recorder.body)
        if recorder.body:
            Feeder(recorder, bytes(recorder.body))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [0, 1, 16_384, 65_536, 1_048_576])
def test_bodies_of_any_size_pass_both_ways(
    client: EngineName, server: EngineName, size: int, seed: int
) -> None:
    joined = pipe(client, server, seed=seed, hook=echo)
    body = random.Random(seed).randbytes(size)
    response = joined.client.request(POST, end=not size)
    if size:
        Feeder(response, body)
    joined.run()
    (request,) = joined.server.requests
    assert request.head() == POST
    assert request.body == body
    assert response.head() == OK
    assert response.body == body
    assert response.ended
    assert joined.client.session.active_streams == joined.server.session.active_streams == 0


@pytest.mark.parametrize("seed", range(3))
def test_many_streams_share_a_connection(client: EngineName, server: EngineName, seed: int) -> None:
    joined = pipe(client, server, seed=seed, hook=echo)
    source = random.Random(seed)
    bodies = [source.randbytes(source.choice((1, 100, 5_000, 70_000))) for _ in range(40)]
    responses = [joined.client.request(POST, end=False) for _ in bodies]
    for response, body in zip(responses, bodies, strict=True):
        Feeder(response, body, piece=3_000)
    joined.run()
    assert [bytes(response.body) for response in responses] == bodies
    assert joined.client.session.active_streams == joined.server.session.active_streams == 0


def test_trailers_pass_both_ways_with_and_without_a_body(
    client: EngineName, server: EngineName
) -> None:
    def answer(recorder: Recorder, upcall: str) -> None:
        if upcall == "trailers":
            recorder.send_head(OK)
            if recorder.body:
                Feeder(recorder, bytes(recorder.body), TRAILERS)
            else:
                recorder.send_trailers(TRAILERS)

    joined = pipe(client, server, hook=answer)
    empty = joined.client.request(POST, end=False)
    empty.send_trailers(TRAILERS)
    long = joined.client.request(POST, end=False)
    Feeder(long, b"x" * 300_000, TRAILERS)
    joined.run()
    for response in (empty, long, *joined.server.requests):
        assert response.events.count(("trailers", TRAILERS)) == 1
    assert empty.names == ["head", "trailers"]
    assert len(long.body) == len(joined.server.requests[1].body) == 300_000


def test_trailers_of_which_nothing_is_left_are_just_the_end(
    client: EngineName, server: EngineName
) -> None:
    def answer(recorder: Recorder, upcall: str) -> None:
        if recorder.ended:
            recorder.send_head(OK)
            recorder.send_data(bytes(recorder.body))
            recorder.send_trailers([])

    joined = pipe(client, server, hook=answer)
    response = joined.client.request(POST, end=False)
    response.send_data(bytes(100_000))
    response.send_trailers([])
    joined.run()
    assert len(response.body) == 100_000
    assert response.ended
    assert "trailers" not in response.names
    assert joined.client.session.active_streams == joined.server.session.active_streams == 0


def test_informational_heads_come_before_the_response(
    client: EngineName, server: EngineName
) -> None:
    hints: list[Field] = [(b":status", b"103"), (b"link", b"</a.css>")]

    def answer(recorder: Recorder, upcall: str) -> None:
        recorder.send_informational([(b":status", b"100")])
        recorder.send_informational(hints)
        recorder.send_head(OK, end=True)

    joined = pipe(client, server, hook=answer)
    response = joined.client.request(GET)
    joined.run()
    assert response.events == [
        ("informational", [(b":status", b"100")]),
        ("informational", hints),
        ("head", OK, True),
    ]


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", b"200"), (b"GET", b"204"), (b"GET", b"304")]
)
def test_responses_without_content_end_with_their_head(
    client: EngineName, server: EngineName, method: bytes, status: bytes
) -> None:
    """RFC 9110 sections 6.4.1 and 8.6: HEAD and 304 may tell the length of what is not there."""
    head = [(b":status", status)]
    if status != b"204":
        head.append((b"content-length", b"1234"))
    joined = pipe(client, server, hook=lambda recorder, _: recorder.send_head(head, end=True))
    response = joined.client.request([(b":method", method), *GET[1:]])
    joined.run()
    assert response.events == [("head", head, True)]


def test_the_first_byte_is_not_held_back(client: EngineName, server: EngineName) -> None:
    joined = pipe(client, server, hook=lambda recorder, _: recorder.send_head(OK))
    response = joined.client.request(GET)
    joined.run()
    (request,) = joined.server.requests
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        request.send_data(event)
        joined.run()
        assert response.body.endswith(event)
    request.send_data(b"", end=True)
    joined.run()
    assert response.events[-1] == ("data", 0, True)


def test_fields_are_delivered_as_they_came(client: EngineName, server: EngineName) -> None:
    """Never-indexed fields (RFC 7541 section 6.2.3) too are plain pairs; cookies are not joined."""
    fields = [
        *GET,
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"authorization", b"Basic eA=="),
        (b"x-empty", b""),
        (b"x-bytes", b"\xff\x80"),
    ]
    joined = pipe(client, server)
    joined.client.request(fields)
    joined.run()
    assert joined.server.requests[0].head() == fields


def test_output_is_announced_when_it_arises_outside_receive(
    client: EngineName, server: EngineName
) -> None:
    joined = pipe(client, server)
    joined.client.wake.count = 0
    response = joined.client.request(POST, end=False)
    assert joined.client.wake.count > 0
    joined.run()
    (request,) = joined.server.requests
    for call in (
        lambda: request.send_informational([(b":status", b"103")]),
        lambda: request.send_head(OK),
        lambda: request.send_data(b"x"),
        lambda: request.send_trailers(TRAILERS),
        lambda: response.reset(reasons.CLIENT_RESET),
    ):
        before = joined.server.wake.count + joined.client.wake.count
        call()
        assert joined.server.wake.count + joined.client.wake.count > before


def test_calls_on_a_dead_stream_are_ignored(client: EngineName, server: EngineName) -> None:
    joined = pipe(client, server, hook=echo)
    response = joined.client.request(POST, end=False)
    response.send_data(b"x", end=True)
    joined.run()
    for recorder in (response, joined.server.requests[0]):
        before = list(recorder.events)
        recorder.send_head(OK)
        recorder.send_informational(OK)
        assert recorder.send_data(b"more") is True
        recorder.send_trailers([])
        recorder.consume(100)
        recorder.stop_receiving()
        recorder.reset(reasons.INTERNAL_ERROR)
        joined.run()
        assert recorder.events == before
    assert not joined.client.session.closed
    assert joined.client.session.active_streams == joined.server.session.active_streams == 0
