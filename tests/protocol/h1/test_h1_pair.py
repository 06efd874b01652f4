"""Both roles against each other and against h11, over a pipe that cuts bytes where it likes."""

import random
from dataclasses import dataclass

import h11
import pytest

from spooky._core import reasons
from spooky.protocol.h1.limits import WINDOW_BYTES, Engine
from spooky.protocol.h1.outbox import HIGH_WATER_BYTES
from spooky.protocol.stream import Field
from tests.protocol.h1.peers import (
    ENGINES,
    Client,
    Recorder,
    Server,
    request_head,
    response_head,
    splits,
)


class Pipe:
    """Carries bytes both ways in random pieces through socket buffers, heeding ``want_read``."""

    SOCKET_BUFFER = 256 * 1024

    def __init__(self, client: Client, server: Server, seed: int) -> None:
        self.client = client
        self.server = server
        self.random = random.Random(seed)
        self.to_server = bytearray()
        self.to_client = bytearray()
        self.most_in_flight = 0

    def run(self, turns: int = 100_000) -> None:
        """Carry on until nothing moves."""
        for _ in range(turns):
            self.to_server += self.client.session.transmit()
            self.to_client += self.server.session.transmit()
            self.most_in_flight = max(
                self.most_in_flight,
                self.client.session.outbox.size,
                self.server.session.outbox.size,
            )
            moved = self._move(self.to_server, self.server)
            moved |= self._move(self.to_client, self.client)
            self._heed_buffer(self.client, self.to_server)
            self._heed_buffer(self.server, self.to_client)
            if not moved:
                return
        pytest.fail("the pipe does not come to rest")

    def _heed_buffer(self, sender: Client | Server, pending: bytearray) -> None:
        has_room = len(pending) < self.SOCKET_BUFFER
        if has_room is not sender.session.outbox.writable:
            sender.session.set_transport_writable(has_room)

    def _move(self, pending: bytearray, receiver: Client | Server) -> bool:
        if not pending or not receiver.session.want_read:
            return False
        size = self.random.choice((1, 7, 100, 5_000, 65_536))
        piece = bytes(pending[:size])
        del pending[:size]
        receiver.session.receive(piece, 0.0)
        return True


@dataclass
class Case:
    """A request and its response: bodies as pieces, and how their lengths are told."""

    method: bytes = b"GET"
    request: tuple[bytes, ...] = ()
    response: tuple[bytes, ...] = ()
    status: bytes = b"200"
    lengths: bool = False
    trailers: tuple[Field, ...] = ()


CASES = {
    "GET": Case(response=(b"hello",)),
    "GET, length": Case(response=(b"hello",), lengths=True),
    "empty": Case(),
    "one byte": Case(b"POST", (b"a",), (b"b",)),
    "16 KiB": Case(b"POST", (bytes(16384),), (bytes(16384),), lengths=True),
    "1 MiB in pieces": Case(b"PUT", (bytes(10_000),) * 105, (bytes(50_000),) * 21),
    "trailers": Case(b"POST", (b"abc", b"de"), (b"fgh",), trailers=((b"sum", b"1"),)),
    "trailers without a body": Case(b"POST", (), (), trailers=((b"sum", b"1"),)),
    "HEAD": Case(b"HEAD", (), (b"dropped",), lengths=True),
    "204": Case(b"DELETE", status=b"204"),
    "304": Case(status=b"304"),
    "CRLF and look-alikes": Case(
        b"POST", (b"\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"), (b"\r\n",)
    ),
}


class Sender:
    """Sends a message as fast as the stream accepts it."""

    def __init__(self, recorder: Recorder, head: list[Field], pieces: tuple[bytes, ...],
                 case: Case) -> None:  # fmt: skip
        self.recorder = recorder
        self.pieces = list(pieces)
        self.trailers = list(case.trailers)
        if case.lengths and (pieces or head[0][0] == b":status"):
            head = [*head, (b"content-length", b"%d" % sum(map(len, pieces)))]
        self.at_once = not pieces and not self.trailers
        assert recorder.stream is not None
        self.stream = recorder.stream
        self.stream.send_head(head, self.at_once)
        if not self.at_once:
            self.pump()

    def pump(self) -> None:
        while self.pieces:
            piece = self.pieces.pop(0)
            end = not self.pieces and not self.trailers
            if not self.stream.send_data(piece, end):
                return
        if self.trailers:
            self.stream.send_trailers(self.trailers)
            self.trailers = []


def run_case(case: Case, client: Client, pipe: Pipe) -> tuple[Recorder, Recorder]:
    senders: dict[int, Sender] = {}

    def serve(recorder: Recorder, name: str) -> None:
        if name == "writable":
            senders[id(recorder)].pump()
        elif recorder.ended():
            senders[id(recorder)] = Sender(
                recorder, response_head(case.status), case.response, case
            )

    def ask(recorder: Recorder, name: str) -> None:
        if name == "writable":
            senders[id(recorder)].pump()

    pipe.server.hook = serve
    asked = client.open(ask)
    senders[id(asked)] = Sender(asked, request_head(case.method), case.request, case)
    pipe.run()
    return asked, pipe.server.last


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_one_side_sends_the_other_gets(case: Case, engine: Engine) -> None:
    """Three times on one connection, cut differently each time."""
    for seed in range(3):
        client, server = Client(engine=engine), Server(engine=engine)
        pipe = Pipe(client, server, seed)
        for _ in range(3):
            asked, served = run_case(case, client, pipe)
            without_body = case.method == b"HEAD" or case.status in (b"204", b"304")
            assert served.head()[0] == (b":method", case.method)
            assert served.body() == b"".join(case.request)
            assert served.ended()
            assert asked.head()[0] == (b":status", case.status)
            assert asked.body() == (b"" if without_body else b"".join(case.response))
            assert asked.ended()
            if case.trailers:
                assert served.events[-1] == ("trailers", list(case.trailers))
                assert asked.events[-1] == ("trailers", list(case.trailers))
            assert client.session.capacity == 1
            assert server.session.active_streams == 0
        assert pipe.most_in_flight < HIGH_WATER_BYTES + 70_000


def test_a_slow_reader_slows_its_writer() -> None:
    """Credit follows consumption: what all of us hold is bounded by windows, not by the body."""
    size, count = 16_384, 640
    client, server = Client(), Server(consumes=False)
    pipe = Pipe(client, server, 1)
    sent = 0

    def pump(recorder: Recorder, name: str) -> None:
        nonlocal sent
        assert recorder.stream is not None
        while name == "writable" and sent < count:
            sent += 1
            if not recorder.stream.send_data(bytes(size), sent == count):
                return

    asked = client.open(pump)
    assert asked.stream is not None
    asked.stream.send_head(request_head(b"POST"), False)
    pump(asked, "writable")
    consumed = 0
    while consumed < size * count:
        pipe.run()
        received = len(server.last.body())
        assert received - consumed <= 2 * WINDOW_BYTES
        assert sent * size - received <= pipe.SOCKET_BUFFER + 2 * HIGH_WATER_BYTES
        assert received > consumed, "nobody may starve"
        server.stream.consume(received - consumed)
        consumed = received
    assert server.last.ended()


@pytest.mark.parametrize("seed", range(10))
def test_a_reset_response_reaches_the_other_side_as_cut_short(seed: int) -> None:
    client, server = Client(), Server()
    pipe = Pipe(client, server, seed)
    asked = client.open()
    assert asked.stream is not None
    asked.stream.send_head(request_head(), True)
    pipe.run()
    server.stream.send_head(response_head(b"200"), False)
    server.stream.send_data(b"abc", False)
    server.stream.reset(reasons.UPSTREAM_RESET)
    pipe.run()
    assert server.session.closed
    client.session.receive_eof()
    assert asked.body() == b"abc"
    assert asked.reset_code() == "upstream_body_cut_short"


# --- h11 on the other side --------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(6))
def test_h11_as_client_is_served(engine: Engine, seed: int) -> None:
    def echo(recorder: Recorder, name: str) -> None:
        if recorder.ended():
            assert recorder.stream is not None
            recorder.stream.send_head(response_head(b"201"), False)
            recorder.stream.send_data(recorder.body(), False)
            recorder.stream.send_trailers([(b"sum", b"1")])

    server = Server(echo, engine=engine)
    peer = h11.Connection(h11.CLIENT)
    for body in (b"", b"x", bytes(30_000)):
        framing = [("Content-Length", str(len(body)))] if seed % 2 else [
            ("Transfer-Encoding", "chunked")]  # fmt: skip
        wire = peer.send(h11.Request(method="POST", target="/p", headers=[("Host", "h"), *framing]))
        wire = (wire or b"") + (peer.send(h11.Data(data=body)) or b"")
        wire += peer.send(h11.EndOfMessage()) or b""
        server.feed(*splits(wire, seed))
        for piece in splits(server.take(), seed):
            peer.receive_data(piece)
        response = peer.next_event()
        assert isinstance(response, h11.Response)
        assert response.status_code == 201
        received = b""
        while isinstance(event := peer.next_event(), h11.Data):
            received += event.data
        assert received == body
        assert isinstance(event, h11.EndOfMessage)
        assert list(event.headers) == [(b"sum", b"1")]
        peer.start_next_cycle()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(6))
def test_h11_as_backend_answers(engine: Engine, seed: int) -> None:
    client = Client(engine=engine)
    peer = h11.Connection(h11.SERVER)
    for body in (b"", b"x", bytes(30_000)):
        asked = client.open()
        assert asked.stream is not None
        asked.stream.send_head(request_head(b"POST", path=b"/p"), not body)
        if body:
            asked.stream.send_data(body, True)
        for piece in splits(client.take(), seed):
            peer.receive_data(piece)
        request = peer.next_event()
        assert isinstance(request, h11.Request)
        assert (request.method, request.target) == (b"POST", b"/p")
        received = b""
        while isinstance(event := peer.next_event(), h11.Data):
            received += event.data
        assert received == body
        framing = [("Content-Length", str(len(body)))] if seed % 2 else []
        wire = peer.send(h11.Response(status_code=200, headers=framing)) or b""
        wire += (peer.send(h11.Data(data=body)) or b"") + (peer.send(h11.EndOfMessage()) or b"")
        client.feed(*splits(wire, seed))
        assert asked.body() == body
        assert asked.ended()
        peer.start_next_cycle()
