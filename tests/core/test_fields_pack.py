"""HTTP/1.1 heads as they are written, read back by h11."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.fields import (
    ForwardingPolicy,
    forward_request,
    forward_response,
    pack_http1_request,
    pack_http1_response,
)
from spooky._core.validate import (
    HTTP_3,
    Limits,
    Request,
    Response,
    validate_request,
    validate_response,
)
from tests.core.strategies_head import Field, get, request_heads, response_heads


def lines(head: bytes) -> list[bytes]:
    """Return the lines of a head, which ends with an empty one."""
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def test_a_request_head_is_in_origin_form_with_host_first() -> None:
    """RFC 9112 sections 3.2.1 and 3.2."""
    head = pack_http1_request(
        get((b"accept", b"*/*"), (b"content-length", b"5"), method=b"POST", path=b"/a?b"), False
    )
    assert lines(head) == [
        b"POST /a?b HTTP/1.1",
        b"host: example.com",
        b"accept: */*",
        b"content-length: 5",
    ]


def test_pseudo_headers_come_in_any_order() -> None:
    assert pack_http1_request(get()[::-1], False) == pack_http1_request(get(), False)


def test_an_asterisk_is_a_target() -> None:
    head = pack_http1_request(get(method=b"OPTIONS", path=b"*"), False)
    assert lines(head)[0] == b"OPTIONS * HTTP/1.1"


def test_exactly_one_host_is_sent() -> None:
    """Attack 31."""
    head = pack_http1_request(get((b"host", b"other"), (b"x", b"y"), (b"host", b"third")), False)
    assert lines(head) == [b"GET / HTTP/1.1", b"host: example.com", b"x: y"]


def test_chunked_replaces_a_length() -> None:
    """RFC 9112 section 6.2: never both (attacks 27 and 29)."""
    head = pack_http1_request(get((b"content-length", b"5"), (b"x", b"y")), True)
    assert lines(head)[2:] == [b"x: y", b"transfer-encoding: chunked"]


def test_te_is_announced_as_the_connections() -> None:
    """RFC 9110 section 10.1.4."""
    head = pack_http1_request(get((b"te", b"trailers"), (b"x", b"y")), False)
    assert lines(head)[2:] == [b"te: trailers", b"connection: TE", b"x: y"]


@pytest.mark.parametrize(
    ("crumbs", "cookie"),
    [
        ([b"a=b"], b"a=b"),
        ([b"a=b", b"c=d", b"e=f"], b"a=b; c=d; e=f"),
        ([b"a=b; c=d", b""], b"a=b; c=d; "),
    ],
)
def test_cookie_crumbs_are_joined(crumbs: list[bytes], cookie: bytes) -> None:
    """RFC 9113 section 8.2.3, at the place of the first."""
    fields = [(b"x", b"1")]
    for crumb in crumbs:
        fields += [(b"cookie", crumb), (b"y", b"2")]
    sent = lines(pack_http1_request(get(*fields), False))[2:]
    assert sent == [b"x: 1", b"cookie: " + cookie] + [b"y: 2"] * len(crumbs)


def test_a_request_without_its_pseudo_headers_is_an_error() -> None:
    for missing in (b":method", b":path", b":authority"):
        with pytest.raises(KeyError):
            pack_http1_request([field for field in get() if field[0] != missing], False)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (b"200", b"HTTP/1.1 200 OK"),
        (b"103", b"HTTP/1.1 103 Early Hints"),
        (b"404", b"HTTP/1.1 404 Not Found"),
        (b"599", b"HTTP/1.1 599 "),
    ],
)
def test_a_status_line_has_its_phrase_or_none(status: bytes, line: bytes) -> None:
    """RFC 9112 section 4: the space stays."""
    assert lines(pack_http1_response([(b":status", status)], False, False)) == [line]


def test_a_response_head_keeps_its_fields_apart() -> None:
    fields = [(b":status", b"200"), (b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"x", b"")]
    head = pack_http1_response(fields, False, False)
    assert lines(head)[1:] == [b"set-cookie: a", b"set-cookie: b", b"x: "]


def test_a_response_says_how_it_is_framed_and_whether_it_is_the_last() -> None:
    fields = [(b":status", b"200"), (b"content-length", b"5")]
    assert lines(pack_http1_response(fields, False, False))[1:] == [b"content-length: 5"]
    assert lines(pack_http1_response(fields, True, True))[1:] == [
        b"transfer-encoding: chunked",
        b"connection: close",
    ]


@given(request_heads(), st.booleans())
def test_h11_reads_every_forwarded_request(fields: list[Field], chunked: bool) -> None:
    """What was validated cannot break a head apart (attack 30)."""
    request = validate_request(fields, HTTP_3, Limits())
    if not isinstance(request, Request):
        return
    head = forward_request(request, ForwardingPolicy(), b"::1", b"https", b"http", b"backend")
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(pack_http1_request(head, chunked))
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (head[0][1], head[3][1])
    names = [name for name, _ in event.headers]
    assert names.count(b"host") == 1
    assert names.count(b"cookie") <= 1
    assert (b"transfer-encoding" in names) == chunked
    assert (b"content-length" in names) == (request.content_length >= 0 and not chunked)
    ours = {b"host", b"cookie", b"transfer-encoding", b"connection"}
    sent = [(n, v) for n, v in event.headers if n not in ours]
    skipped = ours | ({b"content-length"} if chunked else set())
    assert sent == [(n, v) for n, v in head[4:] if n not in skipped]


@given(response_heads(), st.booleans(), st.booleans())
def test_h11_reads_every_forwarded_response(
    fields: list[Field], chunked: bool, close: bool
) -> None:
    response = validate_response(fields, 100, 10_000)
    if not isinstance(response, Response):
        return
    head = forward_response(response, ((b"alt-svc", b"clear"),))
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(pack_http1_response(head, chunked, close))
    event = connection.next_event()
    assert isinstance(event, h11.InformationalResponse | h11.Response)
    assert event.status_code == response.status
    expected = [(n, v) for n, v in head[1:] if not (chunked and n == b"content-length")]
    if chunked:
        expected.append((b"transfer-encoding", b"chunked"))
    if close:
        expected.append((b"connection", b"close"))
    assert list(event.headers) == expected
