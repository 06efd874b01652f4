"""What a client sends on an HTTP/1.1 connection: both engines, cut anywhere, against others.

The first byte says where it is cut. What the session makes of the bytes may depend on neither
engine nor cuts. And who answers every request as it comes must find the same requests with h11:
where we see two messages nobody else may see one, or three.
"""

from collections.abc import Iterator

import h11

from fuzz._wire import cut, heard
from tests.protocol.h1.peers import Event, Server, answer_ok

HEAD = b"host: example.com\r\n"


def seeds() -> Iterator[bytes]:
    """Yield requests that are right, and some that are nearly."""
    get = b"GET / HTTP/1.1\r\n" + HEAD
    post = b"POST /a?b HTTP/1.1\r\n" + HEAD
    chunked = post + b"transfer-encoding: chunked\r\n\r\n"
    for wire in (
        get + b"\r\n",
        get + b"\r\n" + get + b"connection: close\r\n\r\n" + get + b"\r\n",
        post + b"content-length: 5\r\n\r\nhello" + get + b"\r\n",
        chunked + b"5\r\nhello\r\n0\r\n\r\n" + get + b"\r\n",
        chunked + b'5;a=b;c="d"\r\nhello\r\n000\r\nx-t: 1\r\n\r\n',
        chunked + b"5\nhello\n0\n\n",
        post + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        post + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        post + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        post + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        post + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\nok",
        b"GET http://u@example.com:80/x HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"\r\nGET / HTTP/1.1\nhost: a\n\n",
        b"GET / HTTP/1.1\r\n" + HEAD + b"x: a\r\n b\r\n\r\n",
        b"HEAD / HTTP/1.1\r\n" + HEAD + b"upgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        yield b"\0" + wire
        yield b"\5" + wire


def converse(pieces: Iterator[bytes], engine: str) -> Server:
    """Deliver pieces to a server that answers each request when it is complete."""
    server = Server(hook=answer_ok, engine=engine)
    for piece in pieces:
        server.session.receive(piece, 0.0)
        server.take()
    return server


def seen(server: Server) -> list[list[Event]]:
    """Return what came of each request."""
    return [heard(request) for request in server.requests]


def run(data: bytes) -> None:
    """Receive an input with both engines, whole and cut, and with h11."""
    seed, wire = data[0] if data else 0, data[1:]
    whole = converse(iter([wire]), "httptools")
    for other in (converse(cut(wire, seed), "httptools"), converse(cut(wire, seed), "h11")):
        # How many are pipelined in one read is a limit that cuts do not reach.
        if (
            whole.session.close_reason is not None
            and "excessive" in whole.session.close_reason.code
        ):
            return
        assert seen(whole) == seen(other)
        assert whole.session.close_reason is other.session.close_reason
    compare(whole, wire)


def compare(server: Server, wire: bytes) -> None:
    """See that h11 finds the same requests in the bytes, as long as it goes on."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(wire)
    for request in server.requests:
        if not request.ended():
            return
        fields = request.head()
        try:
            head = connection.next_event()
            if head is h11.NEED_DATA:
                raise AssertionError("h11 does not see a whole request")
            assert isinstance(head, h11.Request)
            body = b""
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
        except h11.RemoteProtocolError:
            return
        assert isinstance(event, h11.EndOfMessage), event
        assert (b":method", head.method) in fields
        assert body == request.body()
        if connection.their_state is not h11.DONE:
            return
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE:
            return
        connection.start_next_cycle()
