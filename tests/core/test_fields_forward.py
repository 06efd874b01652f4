"""What passes to the other side: stripping, host policy, forwarding fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.fields import (
    ForwardingPolicy,
    forward_request,
    forward_response,
    forward_trailers,
)
from spooky._core.validate import (
    HTTP_1,
    HTTP_3,
    Limits,
    Request,
    Response,
    validate_request,
    validate_response,
)
from tests.core.strategies_head import HTTP_1_GET, Field, get, request_heads

ADDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")


def request_of(fields: list[Field], version: int = HTTP_3) -> Request:
    """Return the canonical request; the head is valid."""
    request = validate_request(fields, version, Limits())
    assert isinstance(request, Request), request
    return request


def forward(
    fields: list[Field],
    policy: ForwardingPolicy | None = None,
    client: bytes = b"192.0.2.1",
    version: int = HTTP_3,
) -> list[Field]:
    """Return the head sent upstream for a client on TLS and a backend on http."""
    request = request_of(fields, version)
    policy = policy or ForwardingPolicy()
    return forward_request(request, policy, client, b"https", b"http", b"backend:8080")


def passed(*regular: Field, mode: str = "preserve", http_1: bool = False) -> list[Field]:
    """Return the regular fields sent upstream."""
    head = [*HTTP_1_GET, *regular] if http_1 else get(*regular)
    return forward(head, ForwardingPolicy(mode), version=HTTP_1 if http_1 else HTTP_3)[4:]


def respond(*regular: Field, status: bytes = b"200", extra: tuple[Field, ...] = ()) -> list[Field]:
    """Return the head sent to the client."""
    response = validate_response([(b":status", status), *regular], 100, 10_000)
    assert isinstance(response, Response), response
    return forward_response(response, extra)


# --- pseudo-headers ----------------------------------------------------------------------------
def test_the_head_begins_with_four_pseudo_headers() -> None:
    head = forward(get((b"accept", b"*/*"), method=b"PUT", path=b"/%61?x=%61"))
    assert head[:5] == [
        (b":method", b"PUT"),
        (b":scheme", b"http"),
        (b":authority", b"example.com"),
        (b":path", b"/a?x=%61"),
        (b"accept", b"*/*"),
    ]


@pytest.mark.parametrize(
    ("target", "sent"), [(b"/", b"/"), (b"/?", b"/?"), (b"/?a?b", b"/?a?b"), (b"//x", b"//x")]
)
def test_the_path_keeps_its_query(target: bytes, sent: bytes) -> None:
    assert forward(get(path=target))[3] == (b":path", sent)


@pytest.mark.parametrize(
    ("policy", "authority"),
    [
        (ForwardingPolicy(host_mode="pass_through"), b"Example.com:81"),
        (ForwardingPolicy(host_mode="rewrite", host=b"internal"), b"internal"),
        (ForwardingPolicy(host_mode="upstream"), b"backend:8080"),
    ],
)
def test_the_host_policy_chooses_the_authority(policy: ForwardingPolicy, authority: bytes) -> None:
    head = forward(get((b"host", b"example.com"), authority=b"Example.com:81"), policy)
    assert head[2] == (b":authority", authority)
    assert not [field for field in head if field[0] == b"host"]
    assert (b"x-forwarded-host", b"Example.com:81") in head


@pytest.mark.parametrize(
    "arguments", [("replace",), ("overwrite", "strict"), ("overwrite", "rewrite"), ("",)]
)
def test_unknown_modes_and_a_rewrite_without_host_are_errors(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="mode"):
        ForwardingPolicy(*arguments)


# --- stripping (attack 29; RFC 9110 section 7.6.1) ----------------------------------------------
def test_hop_by_hop_fields_end_here() -> None:
    kept = [(b"accept", b"*/*"), (b"cookie", b"a=b"), (b"trailer", b"x-checksum")]
    dropped = [
        (b"connection", b"keep-alive"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"keep-alive"),
        (b"proxy-authenticate", b"Basic"),
        (b"proxy-authorization", b"Basic x"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"websocket"),
    ]
    assert passed(*dropped, *kept, http_1=True) == kept


@pytest.mark.parametrize(
    "connection",
    [
        [b"x-hop"],
        [b"X-Hop"],
        [b"close, x-hop"],
        [b"close,x-hop ,"],
        [b"keep-alive", b"\tx-hop".strip()],
        [b"foo,\t x-HOP\t,bar"],
    ],
)
def test_fields_that_connection_names_end_here(connection: list[bytes]) -> None:
    fields = [(b"connection", value) for value in connection]
    assert passed((b"x-hop", b"1"), *fields, (b"x-hop", b"2"), (b"x", b"y"), http_1=True) == [
        (b"x", b"y")
    ]


def test_connection_names_whole_fields_only() -> None:
    fields = [(b"x-ho", b"1"), (b"x-hop-2", b"2"), (b"hop", b"3")]
    assert passed((b"connection", b"x-hop"), *fields, http_1=True) == fields


@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_connection_cannot_remove_what_the_proxy_adds(mode: str) -> None:
    """Nor the length and the authority, on which the framing and the routing stand."""
    named = b"forwarded, x-forwarded-for, x-forwarded-proto, x-forwarded-host, host"
    fields = [
        *HTTP_1_GET,
        (b"connection", named + b", content-length, te, :authority"),
        (b"x-forwarded-for", b"198.51.100.7"),
        (b"te", b"trailers"),
        (b"content-length", b"5"),
    ]
    head = forward(fields, ForwardingPolicy(mode), version=HTTP_1)
    assert dict(head) == {
        b":method": b"GET",
        b":scheme": b"http",
        b":authority": b"example.com",
        b":path": b"/",
        b"te": b"trailers",
        b"content-length": b"5",
        b"forwarded": b"for=192.0.2.1;host=example.com;proto=https",
        b"x-forwarded-for": b"192.0.2.1",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"example.com",
    }


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([b"trailers"], True),
        ([b"Trailers"], True),
        ([b"gzip, trailers"], True),
        ([b"gzip", b"trailers"], True),
        ([b"trailers", b"trailers"], True),
        ([b"gzip"], False),
        ([b"trailers;q=0"], False),
        ([b""], False),
    ],
)
def test_te_keeps_trailers_and_nothing_else(values: list[bytes], kept: bool) -> None:
    """RFC 9110 section 10.1.4."""
    fields = [(b"te", value) for value in values]
    assert passed(*fields, http_1=True) == ([(b"te", b"trailers")] if kept else [])


@pytest.mark.parametrize("length", [0, 5, 10, 99, 2**63 - 1])
def test_a_declared_length_is_put_back(length: int) -> None:
    """RFC 9110 section 8.6: once, in its plain form."""
    declared = b"00%d" % length
    assert passed((b"content-length", declared + b"," + declared)) == [
        (b"content-length", b"%d" % length)
    ]
    assert passed() == []


# --- forwarding fields (RFC 7239) ---------------------------------------------------------------
INBOUND = [
    (b"forwarded", b"for=203.0.113.9"),
    (b"x-forwarded-for", b"203.0.113.9, 203.0.113.10"),
    (b"accept", b"*/*"),
    (b"x-forwarded-proto", b"http"),
    (b"x-forwarded-for", b"203.0.113.11"),
    (b"x-forwarded-host", b"evil.example"),
    (b"x-forwarded-port", b"80"),
]


def test_overwrite_believes_nothing() -> None:
    assert passed(*INBOUND, mode="overwrite") == [
        (b"accept", b"*/*"),
        (b"forwarded", b"for=192.0.2.1;host=example.com;proto=https"),
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"example.com"),
    ]


def test_append_adds_at_the_end_and_joins_in_order() -> None:
    assert passed(*INBOUND, mode="append") == [
        (b"accept", b"*/*"),
        (b"x-forwarded-port", b"80"),
        (b"forwarded", b"for=203.0.113.9, for=192.0.2.1;host=example.com;proto=https"),
        (b"x-forwarded-for", b"203.0.113.9, 203.0.113.10, 203.0.113.11, 192.0.2.1"),
        (b"x-forwarded-proto", b"http, https"),
        (b"x-forwarded-host", b"evil.example, example.com"),
    ]


def test_preserve_passes_what_came_and_adds_nothing() -> None:
    assert passed(*INBOUND, mode="preserve") == INBOUND
    assert passed(mode="preserve") == []


def test_append_to_nothing_is_overwrite() -> None:
    empty = [(name, b"") for name in ADDED]
    assert passed(*empty, mode="append") == passed(mode="overwrite")


@pytest.mark.parametrize(
    ("value", "closed"),
    [
        (b'for="[2001:db8::1]:80"', True),
        (b'for="a\\"b"', True),
        (b'for="a\\\\"', True),
        (b'for=a\\"b"', True),
        (b'for="', False),
        (b'for="a\\"', False),
        (b'for="a";host="b', False),
        (b'for="a\\', False),
    ],
)
def test_an_open_quote_cannot_swallow_the_appended_element(value: bytes, closed: bool) -> None:
    """RFC 9110 section 5.6.4."""
    ours = b"for=192.0.2.1;host=example.com;proto=https"
    expected = value + b", " + ours if closed else ours
    assert dict(passed((b"forwarded", value), mode="append"))[b"forwarded"] == expected


@pytest.mark.parametrize(
    ("client", "authority", "element"),
    [
        (b"192.0.2.1", b"a.example", b"for=192.0.2.1;host=a.example;proto=https"),
        (b"192.0.2.1", b"a.example:81", b'for=192.0.2.1;host="a.example:81";proto=https'),
        (b"2001:db8::1", b"a.example", b'for="[2001:db8::1]";host=a.example;proto=https'),
        (b"::1", b"[::2]:443", b'for="[::1]";host="[::2]:443";proto=https'),
        (b"::1", b"[::2]", b'for="[::1]";host="[::2]";proto=https'),
        (b"unknown", b"a(b)", b'for=unknown;host="a(b)";proto=https'),
    ],
)
def test_forwarded_quotes_what_is_no_token(client: bytes, authority: bytes, element: bytes) -> None:
    """RFC 7239 section 4; IPv6 in brackets and quotes (section 6)."""
    head = dict(forward(get(authority=authority), client=client))
    assert head[b"forwarded"] == element
    assert head[b"x-forwarded-for"] == client
    assert head[b"x-forwarded-host"] == authority


@given(request_heads(), st.sampled_from(["overwrite", "append", "preserve"]))
def test_what_is_forwarded_is_a_valid_head_again(fields: list[Field], mode: str) -> None:
    request = validate_request(fields, HTTP_3, Limits())
    if not isinstance(request, Request):
        return
    policy = ForwardingPolicy(mode)
    head = forward_request(request, policy, b"192.0.2.1", b"https", b"https", b"backend")
    again = validate_request(head, HTTP_3, Limits())
    assert isinstance(again, Request)
    assert again.path == request.path
    assert again.query == request.query
    assert again.content_length == request.content_length
    if mode != "preserve":
        names = [name for name, _ in head]
        assert [names.count(name) for name in ADDED] == [1, 1, 1, 1]


# --- responses ----------------------------------------------------------------------------------
def test_a_response_begins_with_its_status_and_ends_with_what_is_added() -> None:
    extra = ((b"alt-svc", b'h3=":443"'), (b"x-request-id", b"1"))
    head = respond((b"server", b"x"), (b"content-length", b"5"), status=b"404", extra=extra)
    assert head == [
        (b":status", b"404"),
        (b"server", b"x"),
        (b"content-length", b"5"),
        (b"alt-svc", b'h3=":443"'),
        (b"x-request-id", b"1"),
    ]


def test_what_is_added_replaces_the_backends() -> None:
    fields = [(b"alt-svc", b'h3=":9"'), (b"alt-svc", b"clear"), (b"alt-svc2", b"x")]
    assert respond(*fields, extra=((b"alt-svc", b"ours"),))[1:] == [
        (b"alt-svc2", b"x"),
        (b"alt-svc", b"ours"),
    ]


def test_hop_by_hop_fields_of_a_response_end_here() -> None:
    kept = [(b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"trailer", b"x-checksum")]
    dropped = [
        (b"connection", b"close, X-Hop"),
        (b"x-hop", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-authenticate", b"Basic"),
        (b"proxy-connection", b"close"),
        (b"te", b"trailers"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
    ]
    assert respond(*dropped, *kept)[1:] == kept


@pytest.mark.parametrize(
    ("status", "kept"),
    [(b"100", False), (b"103", False), (b"200", True), (b"204", False), (b"304", True)],
)
def test_no_length_in_1xx_and_204(status: bytes, kept: bool) -> None:
    """RFC 9110 section 8.6; 304 may have one."""
    assert respond((b"content-length", b"0"), status=status)[1:] == (
        [(b"content-length", b"0")] if kept else []
    )


# --- trailers -----------------------------------------------------------------------------------
def test_hop_by_hop_trailers_end_here() -> None:
    kept = [(b"grpc-status", b"0"), (b"x", b"")]
    dropped = [(b"te", b"x"), (b"connection", b"x"), (b"keep-alive", b"x"), (b"upgrade", b"x")]
    assert forward_trailers([*dropped, *kept]) == kept
    assert forward_trailers([]) == []
