"""HTTP/3 over each pair of engines, on networks that misbehave (RFC 9114)."""

from typing import Any, Self

import pytest

from spooky._core import h3_errors as errors
from spooky._core import reasons
from spooky._core.h3_client import ClientSession
from spooky.protocol.h3.limits import Limits
from spooky.protocol.h3.server import ServerSession
from spooky.protocol.quic.aioquic_session import AioquicSession
from spooky.protocol.quic.packet import PacketHeader
from spooky.protocol.quic.session import Datagram, QuicSession
from spooky.protocol.stream import Stream, StreamHandler
from tests.protocol.h3.peers import GET, OK, POST, Owner, Recorder, headers
from tests.protocol.h3.test_h3_pair import Body, Echo, Sender
from tests.protocol.quic.support import pattern
from tests.scenario.endpoints import Engines, Scenario
from tests.simnet import Link

ROUGH = Link(loss=0.05, duplicate=0.02, reorder=0.05, corrupt=0.01, jitter=0.004)


class Download(Sender):
    """Answers with a body of 2 MB."""

    def on_head(self, fields: list[Any], end: bool) -> None:
        super().on_head(fields, end)
        assert self.stream is not None
        self.stream.send_head(OK, False)
        self.sender = Body(self.stream, b"x" * 2_000_000, 16_384, trailers=False)
        self.sender.send()


class Http3(Scenario):
    """A client and a server session over QUIC."""

    def __init__(
        self, engines: Engines, seed: int = 1, link: Link | None = None, **server: Any
    ) -> None:
        self.owners = Owner(), Owner()
        self.taken: list[Recorder] = []
        self.kind: type[Recorder] = Echo
        self.server_http3: ServerSession
        super().__init__(engines, seed, link=link, server=server)
        self.http3 = ClientSession(self.client, Limits(), self.owners[0])

    def begin(
        self, first: Datagram, header: PacketHeader, now: float, **connection_ids: bytes
    ) -> QuicSession:
        session = super().begin(first, header, now, **connection_ids)
        self.server_http3 = ServerSession(session, self._on_stream, Limits(), self.owners[1])
        return session

    def _on_stream(self, stream: Stream) -> StreamHandler:
        recorder = self.kind()
        recorder.stream = stream
        self.taken.append(recorder)
        return recorder

    def establish(self) -> Self:
        assert self.run(lambda: bool(self.http3.capacity), 30)
        return self

    def get(self) -> Recorder:
        request = Recorder()
        request.stream = self.http3.open(request)
        request.stream.send_head(GET, True)
        return request

    def post(self, body: bytes, trailers: bool = False) -> Sender:
        request = Sender()
        request.stream = self.http3.open(request)
        request.stream.send_head(POST, False)
        request.sender = Body(request.stream, body, 16_384, trailers)
        request.sender.send()
        return request

    def assert_clean(self) -> None:
        """Nothing is left on either side, in HTTP/3 or in QUIC."""
        self.run(seconds=5)
        assert self.http3.active_streams == self.server_http3.active_streams == 0
        for session in (self.client, self.server):
            if not isinstance(session, AioquicSession):
                continue
            left = [key for key in session._quic.inbound if not key & 2]
            assert left == []


@pytest.mark.parametrize("seed", range(4))
def test_http3(engines: Engines, seed: int) -> None:
    """The interop runner's case, over a rough network: bodies arrive whole, both ways."""
    pair = Http3(engines, seed, ROUGH).establish()
    bodies = [pattern(size, seed) for size in (1, 5_000, 120_000)]
    requests = [pair.post(body, trailers=True) for body in bodies]
    assert pair.run(lambda: all(request.ended for request in requests), 120)
    assert [request.body for request in requests] == bodies
    assert [request.trailers for request in requests] == [[(b"x-trailer", b"1")]] * 3
    pair.assert_clean()


def test_more_requests_than_streams_at_once(engines: Engines) -> None:
    """MAX_STREAMS grows as streams end; capacity tells when."""
    pair = Http3(engines, max_streams_bidi=10).establish()
    requests: list[Recorder] = []

    def more() -> bool:
        while len(requests) < 300 and pair.http3.capacity:
            requests.append(pair.get())
        return len(requests) == 300 and all(request.ended for request in requests)

    assert pair.run(more)
    assert len(pair.taken) == 300
    pair.assert_clean()


def test_a_download_is_held_back_by_a_reader_that_stops(engines: Engines) -> None:
    """Credit follows consumption, end to end: what is outstanding is bounded by the windows."""
    pair = Http3(engines).establish()
    pair.kind = Download
    request = pair.get()
    request.consume = False
    pair.run(seconds=10)
    [download] = pair.taken
    assert isinstance(download, Download)
    assert download.sender is not None
    assert download.sender.blocked
    stuck = len(request.body)
    assert stuck <= 512 * 1024
    assert request.stream is not None
    request.consume = True
    request.stream.consume(stuck)
    assert pair.run(lambda: request.ended)
    assert len(request.body) == 2_000_000
    pair.assert_clean()


@pytest.mark.parametrize("who", ["client", "server", "client stops", "server stops"])
def test_aborts_reach_the_other_side(engines: Engines, who: str) -> None:
    pair = Http3(engines).establish()
    pair.kind = Recorder
    request = pair.post(b"x" * 1000, trailers=False)
    request.stream, stream = None, request.stream
    assert stream is not None
    pair.run(lambda: bool(pair.taken), 5)
    [taken] = pair.taken
    assert taken.stream is not None
    if who == "client":
        stream.reset(reasons.CLIENT_RESET)
        pair.run(seconds=1)
        assert taken.reset is reasons.CLIENT_RESET
    elif who == "server":
        taken.stream.reset(reasons.UPSTREAM_BODY_CUT_SHORT)
        pair.run(seconds=1)
        assert request.reset is reasons.UPSTREAM_RESET
    elif who == "client stops":
        stream.stop_receiving()
        pair.run(seconds=1)
        assert taken.reset is reasons.CLIENT_RESET
    else:
        endless = pair.post(b"", trailers=False)
        assert pair.run(lambda: len(pair.taken) == 2)
        late = pair.taken[1].stream
        assert late is not None
        late.send_head(OK, True)
        late.stop_receiving()
        pair.run(seconds=1)
        assert endless.ended
        assert endless.stopped
        taken.stream.send_head(OK, True)
    pair.assert_clean()


@pytest.mark.parametrize("seed", range(3))
def test_draining_ends_when_the_client_has_everything(engines: Engines, seed: int) -> None:
    """RFC 9114 section 5.2: what was accepted but not delivered is not cut off by the close.

    Nor is a request that was under way when the word of it was.
    """
    pair = Http3(engines, seed, Link(loss=0.02)).establish()
    pair.kind = Download
    request = pair.get()
    assert pair.run(lambda: len(request.body) > 100_000, 10)
    pair.server_http3.shutdown()
    crossing = pair.get()

    def settle_and_flush(session: QuicSession, now: float) -> Any:
        """As the edge does: the second GOAWAY follows once the first is acknowledged."""
        if session is pair.server:
            pair.server_http3.settle()
        return session.flush(now)

    pair.network.flush = settle_and_flush
    assert pair.run(lambda: pair.server_http3.drained, 60)
    pair.server.close(errors.H3_NO_ERROR, "", is_application=True)
    assert pair.run(lambda: all(owner.closed for owner in pair.owners), 5)
    assert request.ended
    assert len(request.body) == 2_000_000
    assert crossing.ended
    assert len(crossing.body) == 2_000_000
    for owner in pair.owners:
        assert owner.closed is not None
        assert owner.closed[1] is reasons.COMPLETED


def test_a_session_that_closes_tells_the_other_side(engines: Engines) -> None:
    pair = Http3(engines).establish()
    pair.kind = Recorder
    request = pair.get()
    assert pair.run(lambda: bool(pair.taken), 5)
    pair.server_http3.terminate(reasons.DRAIN_TIMEOUT)
    assert pair.taken[0].reset is reasons.DRAIN_TIMEOUT
    assert pair.run(lambda: all(owner.closed for owner in pair.owners), 5)
    assert request.reset is reasons.UPSTREAM_CONNECTION_LOST
    client, server = pair.owners
    assert client.closed is not None
    assert client.closed[0].error_code == reasons.DRAIN_TIMEOUT.h3_error
    assert client.closed[1] is reasons.UPSTREAM_CONNECTION_LOST
    assert server.closed is not None
    assert server.closed[1] is reasons.DRAIN_TIMEOUT


def test_the_end_of_a_protocol_breach(engines: Engines) -> None:
    pair = Http3(engines).establish()
    stream_id = pair.client.open_stream(unidirectional=False)
    assert stream_id is not None
    pair.client.send(stream_id, headers(POST) + b"\x02\x00", False)
    assert pair.run(lambda: all(owner.closed for owner in pair.owners), 5)
    assert pair.owners[1].closed is not None
    assert pair.owners[1].closed[1] is reasons.CLIENT_PROTOCOL_ERROR
    assert pair.taken[0].reset is reasons.CLIENT_PROTOCOL_ERROR
