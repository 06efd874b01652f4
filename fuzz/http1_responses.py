"""What a backend sends on an HTTP/1.1 connection: both engines, cut anywhere, against h11.

The first byte chooses the request, the second says where it is cut; then the connection ends.
"""

from collections.abc import Iterator

import h11

from fuzz._wire import cut, heard
from tests.protocol.h1.peers import Client, Recorder

METHODS = (b"GET", b"HEAD", b"POST")


def seeds() -> Iterator[bytes]:
    """Yield responses that are right, and some that are nearly."""
    ok = b"HTTP/1.1 200 OK\r\n"
    chunked = ok + b"transfer-encoding: chunked\r\n\r\n"
    for wire in (
        ok + b"content-length: 5\r\n\r\nhello",
        ok + b"content-length: 5\r\n\r\nhello!",
        ok + b"content-length: 5\r\n\r\nhel",
        ok + b"content-length: 5, 5\r\n\r\nhello",
        ok + b"\r\nuntil the end",
        chunked + b"5\r\nhello\r\n0\r\n\r\n",
        chunked + b"5;x\r\nhello\r\n0\r\nx-t: 1\r\n\r\n",
        chunked + b"ffffffffffffffff\r\nhello",
        chunked + b"5\r\nhello0\r\n\r\n",
        ok + b"transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + ok + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\nconnection: close\r\n\r\n",
        ok + b"a: b\r\n c\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
    ):
        for method in range(len(METHODS)):
            yield bytes((method, method * 3)) + wire


def converse(pieces: Iterator[bytes], engine: str, method: bytes) -> tuple[Client, Recorder]:
    """Deliver pieces, and then the end, to a client that made a request."""
    client = Client(engine=engine)
    request = client.get(method)
    for piece in pieces:
        client.session.receive(piece, 0.0)
    client.session.receive_eof()
    client.take()
    return client, request


def run(data: bytes) -> None:
    """Receive an input with both engines, whole and cut, and with h11."""
    choice, seed, *rest = data.ljust(2, b"\0")
    method, wire = METHODS[choice % len(METHODS)], bytes(rest)
    client, request = converse(iter([wire]), "httptools", method)
    assert client.session.closed
    for engine in ("httptools", "h11"):
        other, again = converse(cut(wire, seed), engine, method)
        # Bytes behind a response that came with it speak against its connection, not against it.
        assert heard(request) == heard(again), engine
        assert other.session.closed
    assert request.ended() != (request.reset_code() is not None)
    if request.ended():
        compare(request, wire, method)


def compare(request: Recorder, wire: bytes, method: bytes) -> None:
    """See that h11 finds the same response in the bytes."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(wire)
    connection.receive_data(b"")
    body = b""
    try:
        while isinstance(event := connection.next_event(), h11.InformationalResponse):
            pass
        assert isinstance(event, h11.Response), event
        status = event.status_code
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
    except h11.RemoteProtocolError as error:
        raise AssertionError(f"h11 refuses what we let pass: {error}") from error
    assert (b":status", b"%d" % status) == request.head()[0]
    assert isinstance(event, h11.EndOfMessage), event
    assert body == request.body()
