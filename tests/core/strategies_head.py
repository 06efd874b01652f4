"""Heads for the tests of ``validate`` and ``fields``: valid, nearly valid, and hostile."""

from typing import TypeAlias, TypeVar

from hypothesis import strategies as st

Field: TypeAlias = tuple[bytes, bytes]
T = TypeVar("T")

GET: tuple[Field, ...] = (
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.com"),
    (b":path", b"/"),
)

HTTP_1_GET: tuple[Field, ...] = (
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/"),
    (b"host", b"example.com"),
)


def get(*regular: Field, **pseudo: bytes) -> list[Field]:
    """Return a GET request with other pseudo-headers and regular fields.

    A pseudo-header is named without its colon.
    """
    changed = {b":" + name.encode(): value for name, value in pseudo.items()}
    return [(name, changed.get(name, value)) for name, value in GET] + list(regular)


def without(name: bytes) -> list[Field]:
    """Return a GET request without one of its pseudo-headers."""
    return [field for field in GET if field[0] != name]


@st.composite
def _mostly(
    draw: st.DrawFn, usual: st.SearchStrategy[T], unusual: st.SearchStrategy[T], one_in: int = 12
) -> T:
    """Return the usual, now and then the unusual: heads wrong in one place test the most."""
    return draw(usual if draw(st.integers(1, one_in)) < one_in else unusual)


def _joined(*fragments: bytes) -> st.SearchStrategy[bytes]:
    """Return texts made from fragments that mean something to a parser, and from any byte."""
    fragment = _mostly(st.sampled_from(fragments), st.binary(min_size=1, max_size=2))
    return st.lists(fragment, max_size=8).map(b"".join)


METHODS = _mostly(
    st.sampled_from([b"GET", b"POST", b"OPTIONS", b"PATCH", b"connect"]),
    st.one_of(st.sampled_from([b"CONNECT", b"", b"G T"]), st.binary(max_size=4)),
)
SCHEMES = _mostly(
    st.sampled_from([b"https", b"http", b"HTTPS", b"Http"]),
    st.one_of(st.sampled_from([b"", b"ftp", b"httpss", b"ws"]), st.binary(max_size=5)),
)
GOOD_PATHS = st.one_of(
    st.sampled_from([b"/", b"*", b"/a/b?c=d", b"/a%20b", b"//", b"/.well-known/x", b"/%61%2e%7Eb"]),
    st.lists(
        st.sampled_from(
            [
                b"/", b"/", b"a", b"...", b"a.b", b"%2F", b"%2f", b"%7E", b"%41", b"%2e%61",
                b"%25", b"%C3%A4", b"?", b";", b"|", b"~", b"%30",
            ]
        ),
        max_size=8,
    ).map(lambda fragments: b"/" + b"".join(fragments)),
)  # fmt: skip
PATHS = _mostly(
    GOOD_PATHS,
    st.one_of(
        _joined(
            b"/", b"/", b"/", b"a", b".", b"..", b"%2e", b"%2E", b"%2F", b"%2f", b"%5c", b"%5C",
            b"\\", b"%00", b"%", b"%4", b"%zz", b"%7E", b"?", b"#", b" ", b"*", b"\x7f", b"\xff",
        ).map(lambda rest: b"/" + rest),
        st.binary(max_size=4),
    ),
    one_in=3,
)  # fmt: skip
DAMAGED_AUTHORITIES = _joined(
    b"example.com", b"EXAMPLE", b".", b":", b"443", b"65535", b"65536", b"00443", b"[", b"]",
    b"[::1]", b"[::FFFF:1.2.3.4]", b"[::1%25eth0]", b"[v1.a]", b"@", b",", b"%41", b" ", b"/",
    b"_", b"~", b"127.0.0.1",
)  # fmt: skip
AUTHORITIES = _mostly(
    st.builds(
        bytes.__add__,
        st.sampled_from(
            [
                b"example.com", b"Example.COM", b"example.com.", b"example.net", b"[::1]", b"[::A]",
                b"[::a]", b"[::ffff:1.2.3.4]", b"[1:2:3:4:5:6:7:8]", b"127.0.0.1", b"_a.~b!$&'()",
            ]
        ),
        st.sampled_from([b"", b"", b":443", b":00443", b":0", b":65535"]),
    ),
    DAMAGED_AUTHORITIES,
    one_in=4,
)  # fmt: skip
CONTENT_LENGTHS = _mostly(
    st.sampled_from([b"0", b"5", b"5", b"05", b"5, 5", b"5,5 ,\t005", b"9223372036854775807"]),
    _joined(
        b"0", b"5", b"5", b"05", b",", b",", b" ", b"\t", b"+", b"-", b"1_0",
        b"9223372036854775807", b"9223372036854775808", b"99999999999999999999",
    ),
    one_in=3,
)  # fmt: skip
NAMES = _mostly(
    st.one_of(
        st.sampled_from(
            [
                b"accept", b"cookie", b"user-agent", b"x-y", b"x_y", b"te", b"host",
                b"content-length", b"expect", b"trailer", b"close", b"authorization",
                b"proxy-authorization", b"proxy-authenticate", b"forwarded", b"x-forwarded-for",
                b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto",
            ]
        ),
        st.from_regex(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,19}", fullmatch=True),
    ),
    st.one_of(
        st.sampled_from(
            [
                b"Accept", b"x(y)", b"", b"x y", b":method", b":path", b":protocol", b":status",
                b":", b"upgrade", b"connection", b"keep-alive", b"proxy-connection",
                b"transfer-encoding",
            ]
        ),
        st.binary(max_size=18),
    ),
    one_in=8,
)  # fmt: skip
_LISTS = [b"keep-alive", b"close, X-Y", b"Keep-Alive", b"te", b"x-forwarded-for, COOKIE", b"x-y,"]
VALUES = _mostly(
    st.one_of(
        st.sampled_from(
            [
                *_LISTS, b"", b"websocket", b"example.com", b"a\tb", b"\xff", b"192.0.2.1",
                b'for="[2001:db8::1]"', b'for="', b'"\\"', b'"\\""',
            ]
        ),
        st.from_regex(rb"[!-~]([\t -~]{0,40}[!-~])?", fullmatch=True),
    ),
    st.one_of(st.sampled_from([b" x", b"x\t"]), st.binary(max_size=40)),
)  # fmt: skip
VALUES_BY_NAME = {
    b"content-length": CONTENT_LENGTHS,
    b"host": AUTHORITIES,
    b"te": _mostly(
        st.sampled_from([b"trailers", b"Trailers"]),
        st.sampled_from([b"gzip, trailers", b"gzip", b"trailers;q=1", b""]),
        one_in=4,
    ),
    b"transfer-encoding": _mostly(
        st.sampled_from([b"chunked", b"Chunked"]), st.sampled_from([b"gzip, chunked", b""])
    ),
    b"expect": _mostly(
        st.sampled_from([b"100-continue", b"100-Continue"]), st.sampled_from([b"", b"100"])
    ),
    b"connection": _mostly(st.sampled_from(_LISTS), VALUES),
}


@st.composite
def regular_fields(draw: st.DrawFn) -> Field:
    """Return a field; a name with rules of its own has a value that tests them."""
    name = draw(NAMES)
    return name, draw(VALUES_BY_NAME.get(name, VALUES))


HTTP_1_FIELDS = st.sampled_from(
    [
        (b"connection", b"keep-alive"), (b"connection", b"close"), (b"connection", b"X-Y, te"),
        (b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"), (b"keep-alive", b"5"),
    ]
)  # fmt: skip


@st.composite
def request_heads(draw: st.DrawFn, version: int = 3) -> list[Field]:
    """Return a request head that is often valid and seldom wrong in more than one place."""
    fields = [
        (b":method", draw(METHODS)),
        (b":scheme", draw(SCHEMES)),
        (b":authority", draw(AUTHORITIES)),
        (b":path", draw(PATHS)),
        *draw(st.lists(regular_fields(), max_size=5)),
    ]
    if version == 1:
        fields += draw(st.lists(HTTP_1_FIELDS, max_size=2))
        fields.append((b"host", fields[2][1]))
    return _mutated(draw, fields)


@st.composite
def response_heads(draw: st.DrawFn) -> list[Field]:
    """Return a response head that is often valid and seldom wrong in more than one place."""
    status = draw(
        _mostly(
            st.integers(100, 599).map(lambda number: b"%d" % number),
            st.sampled_from([b"101", b"099", b"600", b"", b"2000", b"+20", b"20x"]),
        )
    )
    fields = [(b":status", status), *draw(st.lists(regular_fields(), max_size=6))]
    fields += draw(st.lists(HTTP_1_FIELDS, max_size=2))
    return _mutated(draw, fields)


def _mutated(draw: st.DrawFn, fields: list[Field]) -> list[Field]:
    """Drop, repeat, move or damage a field, or none."""
    mutation = draw(st.sampled_from(["none"] * 12 + ["drop", "repeat", "move", "damage"]))
    if mutation == "none":
        return fields
    field = fields.pop(draw(st.integers(0, len(fields) - 1)))
    if mutation == "repeat":
        fields.append(field)
    if mutation == "damage":
        name, value = field
        position = draw(st.integers(0, len(value)))
        field = (name, value[:position] + draw(st.binary(max_size=2)) + value[position + 1 :])
    if mutation != "drop":
        fields.insert(draw(st.integers(0, len(fields))), field)
    return fields
