"""Client and server against each other, over a link that cuts, delays and refuses at random."""

import random
from collections import deque
from typing import Any

import pytest

from spooky._core import reasons
from spooky.protocol.stream import Stream, StreamHandler
from tests.protocol.h3.peers import (
    GET,
    OK,
    POST,
    Client,
    Link,
    Recorder,
    Server,
    assert_clean,
    join,
)


class Body:
    """Sends a body as the stream accepts it, as an exchange would.

    Arguments:
        trailers: Whether trailers end it.
    """

    def __init__(self, stream: Stream, body: bytes, piece: int, trailers: bool) -> None:
        self._stream = stream
        self._pieces = deque(body[start : start + piece] for start in range(0, len(body), piece))
        self._trailers = trailers
        self.blocked = 0

    def send(self) -> None:
        while self._pieces:
            piece = self._pieces.popleft()
            end = not self._pieces and not self._trailers
            if not self._stream.send_data(piece, end) and not end:
                self.blocked += 1
                return
        if self._trailers:
            self._trailers = False
            self._stream.send_trailers([(b"x-trailer", b"1")])


class Sender(Recorder):
    """Records what comes and sends a body meanwhile."""

    sender: Body | None = None

    def on_writable(self) -> None:
        super().on_writable()
        if self.sender is not None and self.reset is None:
            self.sender.send()


class Echo(Sender):
    """Answers with the request's body, crediting the client only as its own bytes are accepted."""

    owed = 0

    def on_head(self, fields: list[Any], end: bool) -> None:
        super().on_head(fields, end)
        assert self.stream is not None
        self.stream.send_head(OK, end)

    def on_data(self, data: bytes, end: bool) -> None:
        self.consume = False
        super().on_data(data, end)
        assert self.stream is not None
        if self.stream.send_data(data, end):
            self.stream.consume(len(data))
        else:
            self.owed += len(data)

    def on_trailers(self, fields: list[Any]) -> None:
        super().on_trailers(fields)
        assert self.stream is not None
        self.stream.send_trailers(fields)

    def on_writable(self) -> None:
        super().on_writable()
        assert self.stream is not None
        owed, self.owed = self.owed, 0
        self.stream.consume(owed)


class Stuck(Recorder):
    """Reads, and credits nothing by itself."""

    def __init__(self) -> None:
        super().__init__(consume=False)


def serve(server: Server, kind: type[Recorder]) -> list[Recorder]:
    """Let handlers of this kind take the requests."""
    taken: list[Recorder] = []

    def on_stream(stream: Stream) -> StreamHandler:
        recorder = kind()
        recorder.stream = stream
        taken.append(recorder)
        return recorder

    server.session.on_stream = on_stream
    return taken


def post(client: Client, body: bytes, piece: int, trailers: bool) -> Sender:
    request = Sender()
    request.stream = client.session.open(request)
    request.stream.send_head(POST, False)
    request.sender = Body(request.stream, body, piece, trailers)
    request.sender.send()
    return request


@pytest.mark.parametrize("trailers", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_bodies_arrive_whole_both_ways(seed: int, trailers: bool) -> None:
    """With small windows, small send buffers, and pieces of any size."""
    rng = random.Random(seed)
    client, server, link = join(seed, window=rng.choice((50, 4000)), room=rng.choice((60, 9000)))
    serve(server, Echo)
    bodies = [rng.randbytes(rng.choice((1, 700, 20_000))) for _ in range(5)]
    requests = [post(client, body, rng.choice((13, 1500, 9000)), trailers) for body in bodies]
    link.run()
    for request, body in zip(requests, bodies, strict=True):
        assert request.body == body
        assert request.ended
        assert request.trailers == ([(b"x-trailer", b"1")] if trailers else None)
    assert_clean(client.session, server.session)


def test_a_reader_that_stops_holds_the_sender_back() -> None:
    """Credit follows consumption: at most a window is outstanding, and a buffer is held."""
    client, server, link = join(window=5000, room=3000)
    taken = serve(server, Stuck)
    request = post(client, b"x" * 100_000, 1000, trailers=False)
    link.run()
    [reader] = taken
    assert reader.stream is not None
    assert request.sender is not None
    assert request.sender.blocked
    assert len(reader.body) <= 5000
    framing = 3 * 100
    assert len(client.quic.sent[0]) <= 5000 + 3000 + framing
    while not reader.ended:
        reader.stream.consume(len(reader.body))
        link.run()
    assert len(reader.body) == 100_000


@pytest.mark.parametrize("seed", range(6))
def test_many_streams_with_aborts_from_all_sides(seed: int) -> None:
    """Whatever is reset, stopped or ended when, tables end empty and credit is returned."""
    rng = random.Random(seed)
    client, server, link = join(seed, window=300, room=200)
    taken = serve(server, Echo)
    requests: list[Sender] = []
    for _ in range(60):
        if client.session.capacity:
            requests.append(post(client, rng.randbytes(rng.choice((1, 2000))), 300, False))
        for _ in range(rng.randint(0, 4)):
            link._step()
        victim = rng.choice([*requests, *taken])
        assert victim.stream is not None
        victim.calling = True
        action = rng.randrange(6)
        if action == 0:
            victim.stream.reset(reasons.INTERNAL_ERROR)
        elif action == 1:
            victim.stream.stop_receiving()
        victim.calling = False
    for request in requests:
        # What was stopped on both sides has nobody left to end it.
        if not request.ended:
            assert request.stream is not None
            link.run()
            request.stream.reset(reasons.INTERNAL_ERROR)
    link.run()
    assert client.quic.closed is None
    assert server.quic.closed is None
    assert_clean(client.session, server.session)


def test_a_connection_carries_ten_thousand_requests() -> None:
    client, server, link = join()
    taken = serve(server, Echo)
    for _ in range(200):
        requests = [client.request(GET) for _ in range(50)]
        link.run()
        assert all(request.head == OK for request in requests)
        assert all(request.ended for request in requests)
        # What QUIC would have forgotten too.
        for quic in (client.quic, server.quic):
            for stream_id in [key for key in quic.sent if not key & 2]:
                del quic.sent[stream_id], quic.taken[stream_id]
                quic.ended.discard(stream_id)
            quic.delivered.clear()
            quic.credited.clear()
    assert len(taken) == 10_000
    assert_clean(client.session, server.session)


def test_shutdown_lets_both_finish() -> None:
    client, server, link = join()
    taken = serve(server, Recorder)
    request = client.request(GET)
    link.run()
    server.session.shutdown()
    late = client.request(GET)
    link.run()
    assert late.reset is reasons.UPSTREAM_REFUSED
    assert client.session.capacity == 0
    assert not server.session.drained
    assert taken[0].stream is not None
    taken[0].stream.send_head(OK, True)
    link.run()
    assert request.ended
    assert server.session.drained
    assert_clean(client.session, server.session)


def test_the_link_of_these_tests_cuts_and_refuses() -> None:
    """Without that they would prove little."""
    client, server, link = join(seed=3, window=50, room=60)
    serve(server, Echo)
    request = post(client, b"x" * 2000, 500, trailers=False)
    link.run()
    assert isinstance(link, Link)
    assert request.sender is not None
    assert request.sender.blocked
    assert len([event for event in request.events if event[0] == "data"]) > 40
