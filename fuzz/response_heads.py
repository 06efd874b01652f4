"""Response heads of backends, and trailers: kernel against twin, and what passes against others.

The first byte chooses how the head goes on to the client, the second the limits; the rest is
fields. Packed for a client of HTTP/1.1, a head that passes must be to h11 and to llhttp the one
that we judged.
"""

from collections.abc import Iterator

import h11
from httptools import HttpResponseParser

from fuzz._heads import Field, decode, encode, values
from spooky._core import fields as kernel_fields
from spooky._core import validate as kernel
from spooky._core.pure import fields as twin_fields
from spooky._core.pure import validate as twin
from spooky._core.reasons import Reason

RESPONSE = ("status", "fields", "content_length")
LIMITS = ((100, 10_000), (4, 40))
EXTRA: tuple[tuple[Field, ...], ...] = ((), ((b"alt-svc", b'h3=":443"'), (b"x-y", b"ours")))


def seeds() -> Iterator[bytes]:
    """Yield heads that pass, and some wrong in one place."""
    for status in (b"200", b"103", b"204", b"304", b"599", b"101", b"099", b"2e2", b"+20", b""):
        yield b"\0\0" + encode((b":status", status), (b"content-length", b"5"))
    fields = [
        (b"content-length", b"5, 5"), (b"transfer-encoding", b"chunked"), (b"set-cookie", b"a=b"),
        (b"connection", b"close, X-Y"), (b"x-y", b"1"), (b"te", b"x"), (b"upgrade", b"h2"),
        (b"trailer", b"x-y"), (b"x-y", b"a\xff\tb"),
    ]  # fmt: skip
    for number, field in enumerate(fields):
        yield bytes((number, number % 2)) + encode((b":status", b"200"), field)
    yield b"\7\0" + encode((b":status", b"200"), *fields)
    yield b"\0\0" + encode((b"x-checksum", b"1"), (b"te", b"x"))


def run(data: bytes) -> None:
    """Judge a head and the same fields as trailers in both builds, and pack what passes."""
    how, limits, *rest = data.ljust(2, b"\0")
    fields = decode(bytes(rest))
    most = LIMITS[limits % len(LIMITS)]
    assert kernel.validate_trailers(fields, *most) is twin.validate_trailers(fields, *most)
    ours = kernel.validate_response(fields, *most)
    theirs = twin.validate_response(fields, *most)
    assert values(ours, RESPONSE) == values(theirs, RESPONSE)
    if isinstance(ours, Reason) or isinstance(theirs, Reason):
        return
    extra = EXTRA[how % 2]
    head = kernel_fields.forward_response(ours, extra)
    assert head == twin_fields.forward_response(theirs, extra)
    assert not {b"connection", b"transfer-encoding", b"upgrade"} & {name for name, _ in head}
    chunked, close = bool(how & 2) and ours.status not in (204, 304), bool(how & 4)
    packed = kernel_fields.pack_http1_response(head, chunked, close)
    assert packed == twin_fields.pack_http1_response(head, chunked, close)
    ask_h11(head, packed)
    ask_llhttp(head, packed)


def ask_h11(head: list[Field], packed: bytes) -> None:
    """See that h11 reads the status and the fields that we sent."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    connection.receive_data(packed)
    event = connection.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse), event
    assert b"%d" % event.status_code == head[0][1]
    found = {bytes(name) for name, _ in event.headers}
    assert found <= {name for name, _ in head} | {b"transfer-encoding", b"connection"}
    assert not connection.trailing_data[0]


class Llhttp:
    """What llhttp says of a response."""

    def __init__(self) -> None:
        self.fields: list[Field] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def ask_llhttp(head: list[Field], packed: bytes) -> None:
    """See that llhttp reads the status and as many fields as we sent."""
    found = Llhttp()
    parser = HttpResponseParser(found)
    parser.feed_data(packed)
    assert b"%d" % parser.get_status_code() == head[0][1]
    assert len(found.fields) == packed.count(b"\r\n") - 2
