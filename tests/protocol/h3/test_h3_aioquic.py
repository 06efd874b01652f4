"""HTTP/3 against aioquic's own."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.events import StreamDataReceived

from tests.protocol.h3.peers import OK, POST, FakeQuic, make_client, make_server


@dataclass
class Stock:
    """aioquic's HTTP/3 connection, fed from and feeding a fake QUIC.

    It uses a dynamic table where it may, so this shows that it does not for us.
    """

    quic: FakeQuic
    is_client: bool
    out: list[tuple[int, bytes, bool]] = field(default_factory=list)
    events: list[H3Event] = field(default_factory=list)
    taken: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.configuration = SimpleNamespace(is_client=self.is_client)
        self._quic_logger = None
        self._remote_max_datagram_frame_size = None
        self._next = {False: 0, True: 2 if self.is_client else 3}
        self.http3 = H3Connection(self)  # type: ignore[arg-type]

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        stream_id = self._next[is_unidirectional]
        self._next[is_unidirectional] += 4
        return stream_id

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        self.out.append((stream_id, data, end_stream))

    def close(self, **arguments: Any) -> None:
        raise AssertionError(arguments)

    def exchange(self) -> None:
        """Move what both sides have to say."""
        while True:
            out, self.out = self.out, []
            for stream_id, data, end in out:
                self.quic.deliver(stream_id, data, end)
            news = [key for key, sent in self.quic.sent.items() if self.taken.get(key) != len(sent)]
            if not news and not self.out:
                return
            for stream_id in news:
                sent = bytes(self.quic.sent[stream_id])
                data = sent[self.taken.get(stream_id, 0) :]
                self.taken[stream_id] = len(sent)
                end = stream_id in self.quic.ended
                event = StreamDataReceived(data=data, end_stream=end, stream_id=stream_id)
                self.events += self.http3.handle_event(event)

    def heads(self) -> list[list[tuple[bytes, bytes]]]:
        return [event.headers for event in self.events if isinstance(event, HeadersReceived)]

    def body(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, DataReceived))


def test_aioquic_as_a_client() -> None:
    server = make_server()
    stock = Stock(server.quic, is_client=True)
    stock.exchange()
    for number in range(3):
        stream_id = stock.get_next_available_stream_id()
        stock.http3.send_headers(stream_id, [*POST, (b"x-repeated", b"value")])
        stock.http3.send_data(stream_id, b"abc", False)
        stock.http3.send_headers(stream_id, [(b"x-trailer", b"1")], end_stream=True)
        stock.exchange()
        request = server.requests[number]
        assert request.head == [*POST, (b"x-repeated", b"value")]
        assert request.body == b"abc"
        assert request.trailers == [(b"x-trailer", b"1")]
        assert request.stream is not None
        request.stream.send_head([*OK, (b"x-answer", b"1")], False)
        request.stream.send_data(b"defg", False)
        request.stream.send_trailers([(b"x-trailer", b"2")])
        stock.exchange()
    assert stock.heads() == [[*OK, (b"x-answer", b"1")], [(b"x-trailer", b"2")]] * 3
    assert stock.body() == b"defg" * 3
    assert server.quic.closed is None


def test_aioquic_as_a_server() -> None:
    client = make_client()
    stock = Stock(client.quic, is_client=False)
    stock.exchange()
    for _ in range(3):
        request = client.request(POST, end=False)
        assert request.stream is not None
        request.stream.send_data(b"abc", True)
        stock.exchange()
        event = [event for event in stock.events if isinstance(event, HeadersReceived)][-1]
        stock.http3.send_headers(event.stream_id, [*OK, (b"x-repeated", b"value")])
        stock.http3.send_data(event.stream_id, b"defg", True)
        stock.exchange()
        assert request.head == [*OK, (b"x-repeated", b"value")]
        assert request.body == b"defg"
        assert request.ended
    assert stock.heads() == [POST] * 3
    assert stock.body() == b"abc" * 3
    assert client.quic.closed is None
