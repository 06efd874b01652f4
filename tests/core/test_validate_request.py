"""What a request head may be, rule by rule: counts, pseudo-headers, fields, policy."""

import pytest

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.validate import (
    HTTP_1,
    HTTP_2,
    HTTP_3,
    UNDERSCORES_DROP,
    UNDERSCORES_REJECT,
    Limits,
    Request,
    validate_request,
)
from tests.core.strategies_head import GET, HTTP_1_GET, Field, get, without

EVERY_VERSION = pytest.mark.parametrize("version", [HTTP_1, HTTP_2, HTTP_3])
MULTIPLEXED = pytest.mark.parametrize("version", [HTTP_2, HTTP_3])


def check(fields: list[Field], version: int = HTTP_3, limits: Limits | None = None) -> object:
    """Return what the validator makes of a head."""
    return validate_request(fields, version, limits or Limits())


def accepted(fields: list[Field], version: int = HTTP_3) -> Request:
    """Return the canonical request; the head is valid."""
    request = check(fields, version)
    assert isinstance(request, Request), request
    return request


def test_a_plain_request_is_taken_apart() -> None:
    request = accepted(
        [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", b"Example.COM:8443"),
            (b":path", b"/a/b?c=d"),
            (b"content-length", b"12"),
            (b"accept", b"*/*"),
            (b"cookie", b"a=b"),
        ]
    )
    assert request.method == b"POST"
    assert request.scheme == b"https"
    assert request.authority == b"Example.COM:8443"
    assert request.host == b"example.com"
    assert request.port == 8443
    assert request.path == b"/a/b"
    assert request.query == b"c=d"
    assert request.fields == [(b"accept", b"*/*"), (b"cookie", b"a=b")]
    assert request.content_length == 12
    assert request.version == HTTP_3


def test_what_is_absent_is_told_apart_from_what_is_empty() -> None:
    assert accepted(get()).query is None
    assert accepted(get(path=b"/?")).query == b""
    assert accepted(get()).port == -1
    assert accepted(get()).content_length == -1
    assert accepted(get((b"content-length", b"0"))).content_length == 0


def test_values_that_need_no_change_are_not_copied() -> None:
    fields = get((b"accept", b"*/*"), path=b"/some/path")
    request = accepted(fields)
    assert request.authority is fields[2][1]
    assert request.path is fields[3][1]
    assert request.fields[0] is fields[4]


# --- counts and bytes come first (attack 4) ---------------------------------------------------
def test_fields_are_counted_pseudo_headers_included() -> None:
    limits = Limits(max_headers_count=6)
    assert isinstance(check(get((b"a", b""), (b"b", b"")), limits=limits), Request)
    assert check(get(*[(b"a", b"")] * 3), limits=limits) is reasons.TOO_MANY_FIELDS


def test_bytes_are_the_sum_of_names_and_values() -> None:
    fields = get((b"x", b"12345"))
    size = sum(len(name) + len(value) for name, value in fields)
    assert isinstance(check(fields, limits=Limits(max_headers_bytes=size)), Request)
    assert check(fields, limits=Limits(max_headers_bytes=size - 1)) is reasons.FIELDS_TOO_LARGE


def test_limits_win_over_everything_else() -> None:
    bad = [(b"Bad Name", b"\0" * 100)] * 10
    assert check(bad, limits=Limits(max_headers_count=9)) is reasons.TOO_MANY_FIELDS
    assert check(bad, limits=Limits(max_headers_bytes=99)) is reasons.FIELDS_TOO_LARGE


def test_limits_default_to_those_of_the_reference() -> None:
    limits = Limits()
    assert limits.max_headers_count == 128
    assert limits.max_headers_bytes == 16384
    assert limits.enforce_authority_host_match is True
    assert limits.allowed_methods == frozenset()
    assert limits.denied_path_prefixes == ()


# --- pseudo-headers (RFC 9114 section 4.3, RFC 9113 section 8.3) ------------------------------
@pytest.mark.parametrize("name", [b":method", b":scheme", b":path"])
def test_each_pseudo_header_is_required(name: bytes) -> None:
    assert check(without(name)) is reasons.MISSING_PSEUDO_HEADER


@pytest.mark.parametrize("field", GET)
def test_no_pseudo_header_comes_twice(field: Field) -> None:
    assert check([*GET, field]) is reasons.BAD_PSEUDO_HEADER


@pytest.mark.parametrize("name", [b":protocol", b":status", b":", b":Method", b":path2"])
def test_other_pseudo_headers_are_refused(name: bytes) -> None:
    assert check([*GET, (name, b"websocket")]) is reasons.BAD_PSEUDO_HEADER


@pytest.mark.parametrize(
    "regular", [(b"accept", b"*/*"), (b"host", b"example.com"), (b"content-length", b"0")]
)
def test_pseudo_headers_come_before_every_regular_field(regular: Field) -> None:
    fields = [*GET[:3], regular, GET[3]]
    assert check(fields) is reasons.BAD_PSEUDO_HEADER


def test_pseudo_headers_come_in_any_order() -> None:
    assert accepted(list(reversed(GET))).host == b"example.com"


# --- names and values (attack 30; RFC 9110 sections 5.1, 5.5, 5.6.2) ---------------------------
@pytest.mark.parametrize(
    "name", [b"x", b"x-y", b"x_y", b"0", b"!#$%&'*+-.^_`|~", b"x.y", b"a" * 300]
)
def test_lowercase_tokens_are_names(name: bytes) -> None:
    assert accepted(get((name, b"v"))).fields == [(name, b"v")]


@EVERY_VERSION
def test_any_other_byte_in_a_name_is_refused(version: int) -> None:
    head = list(HTTP_1_GET) if version == HTTP_1 else list(GET)
    for byte in range(256):
        result = check([*head, (b"x" + bytes([byte]) + b"y", b"v")], version)
        if byte in b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz":
            assert isinstance(result, Request), byte
        else:
            assert result is reasons.BAD_FIELD_NAME, byte


def test_an_empty_name_is_refused() -> None:
    assert check(get((b"", b"v"))) is reasons.BAD_FIELD_NAME


@pytest.mark.parametrize("size", [3, 8, 9, 27])
def test_a_value_has_no_control_but_htab(size: int) -> None:
    """Wherever the byte stands in the value, so that no stride steps over it."""
    for byte in range(256):
        refused = (byte < 0x20 and byte != 0x09) or byte == 0x7F
        for position in range(1, size - 1):
            value = b"v" * position + bytes([byte]) + b"v" * (size - position - 1)
            result = check(get((b"x", value)))
            assert (result is reasons.BAD_FIELD_VALUE) == refused, (byte, position)


def test_a_tab_hides_no_control_behind_it() -> None:
    for gap in range(20):
        value = b"v\t" + b"v" * gap + b"\x01" + b"v" * 20
        assert check(get((b"x", value))) is reasons.BAD_FIELD_VALUE


@pytest.mark.parametrize("value", [b" v", b"v ", b"\tv", b"v\t", b" ", b"\t", b"v" * 20 + b" "])
def test_a_value_has_no_whitespace_around_it(value: bytes) -> None:
    """RFC 9113 section 8.2.1."""
    assert check(get((b"x", value))) is reasons.BAD_FIELD_VALUE


@pytest.mark.parametrize("value", [b"", b"v", b"a b", b"a\tb", b"\x80\xff", b"\xc3\xa4" * 20])
def test_empty_values_inner_whitespace_and_obs_text_pass(value: bytes) -> None:
    assert accepted(get((b"x", value))).fields == [(b"x", value)]


def test_the_first_bad_field_gives_the_reason() -> None:
    name, value = (b"Bad", b"v"), (b"x", b"\0")
    assert check(get(name, value)) is reasons.BAD_FIELD_NAME
    assert check(get(value, name)) is reasons.BAD_FIELD_VALUE
    assert check(get((b"Bad", b"\0"))) is reasons.BAD_FIELD_NAME


def test_underscores_in_names_pass_are_dropped_or_refused() -> None:
    """Attack 34: to CGI and WSGI `x_user` and `x-user` are one name."""
    head = get((b"x_user", b"v"), (b"x-user", b"w"))
    assert accepted(head).fields == [(b"x_user", b"v"), (b"x-user", b"w")]
    dropping, refusing = (
        Limits(underscores=UNDERSCORES_DROP),
        Limits(underscores=UNDERSCORES_REJECT),
    )
    kept = check(head, limits=dropping)
    assert isinstance(kept, Request)
    assert kept.fields == [(b"x-user", b"w")]
    assert kept.dropped == 1
    assert accepted(head).dropped == 0
    assert check(head, limits=refusing) is reasons.UNDERSCORE_IN_NAME
    assert isinstance(check(get((b"x-user", b"v")), limits=refusing), Request)
    # What is dropped is checked all the same, and no pseudo-header comes after it.
    assert check(get((b"x_user", b"\0")), limits=dropping) is reasons.BAD_FIELD_VALUE
    late = [(b"x_user", b"v"), *get()]
    assert check(late, limits=dropping) is reasons.BAD_PSEUDO_HEADER


# --- connection-specific fields (attack 29; RFC 9113 section 8.2.2, RFC 9114 section 4.2) -------
@pytest.mark.parametrize(
    "name", [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"]
)
@MULTIPLEXED
def test_connection_specific_fields_are_refused(name: bytes, version: int) -> None:
    assert check(get((name, b"x")), version) is reasons.CONNECTION_SPECIFIC_FIELD


@pytest.mark.parametrize("value", [b"trailers", b"Trailers"])
@MULTIPLEXED
def test_te_says_trailers(value: bytes, version: int) -> None:
    assert accepted(get((b"te", value)), version).fields == [(b"te", value)]


@pytest.mark.parametrize("value", [b"", b"gzip", b"trailers, deflate", b"trailers;q=1"])
@MULTIPLEXED
def test_te_says_nothing_else(value: bytes, version: int) -> None:
    assert check(get((b"te", value)), version) is reasons.CONNECTION_SPECIFIC_FIELD


@pytest.mark.parametrize(
    "field",
    [
        (b"connection", b"keep-alive, Upgrade"),
        (b"keep-alive", b"timeout=5"),
        (b"upgrade", b"h2c"),
        (b"upgrade", b"websocket"),
        (b"te", b"gzip, trailers"),
        (b"transfer-encoding", b"Chunked"),
    ],
)
def test_http_1_may_have_them_for_later_stripping(field: Field) -> None:
    """A server may ignore an upgrade (RFC 9110 section 7.8)."""
    assert accepted([*HTTP_1_GET, field], HTTP_1).fields == [field]


# --- framing (attacks 28, 29; RFC 9110 section 8.6, RFC 9112 section 6) --------------------------
@pytest.mark.parametrize(
    ("value", "length"),
    [
        (b"0", 0),
        (b"42", 42),
        (b"007", 7),
        (b"42, 42", 42),
        (b"42,42 ,\t042", 42),
        (b"9223372036854775807", 2**63 - 1),
        (b"0" * 5000 + b"5", 5),
    ],
)
def test_content_length_is_one_number(value: bytes, length: int) -> None:
    request = accepted(get((b"content-length", value)))
    assert request.content_length == length
    assert request.fields == []


@pytest.mark.parametrize(
    "value",
    [
        b"", b"+5", b"-5", b"-0", b"1_0", b"0x10", b"5.0", b"1e3", b"five", b"5 5", b"5,", b",5",
        b"5,,5", b",", b"5, 6", b"5;", b"5\xb2", b"\xd9\xa3", b"9223372036854775808",
        b"18446744073709551621", b"9" * 5000, b"0" * 5000 + b"9" * 20,
    ],
)  # fmt: skip
def test_content_length_is_nothing_else(value: bytes) -> None:
    assert check(get((b"content-length", value))) is reasons.BAD_CONTENT_LENGTH


def test_repeated_content_lengths_agree_or_are_refused() -> None:
    five, six = (b"content-length", b"5"), (b"content-length", b"6")
    assert accepted(get(five, five)).content_length == 5
    assert accepted(get(five, (b"content-length", b"5, 05"))).content_length == 5
    assert check(get(five, six)) is reasons.BAD_CONTENT_LENGTH
    assert check(get((b"content-length", b"0"), five)) is reasons.BAD_CONTENT_LENGTH


@pytest.mark.parametrize(
    "fields",
    [
        [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"chunked"), (b"content-length", b"0")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"identity")],
        [(b"transfer-encoding", b"xchunked")],
        [(b"transfer-encoding", b"")],
    ],
)
def test_ambiguous_http_1_framing_is_refused(fields: list[Field]) -> None:
    assert check([*HTTP_1_GET, *fields], HTTP_1) is reasons.BAD_FRAMING


# --- expectations (RFC 9110 section 10.1.1) -----------------------------------------------------
@EVERY_VERSION
def test_only_100_continue_can_be_expected(version: int) -> None:
    head = list(HTTP_1_GET) if version == HTTP_1 else list(GET)
    for value in (b"100-continue", b"100-Continue"):
        field = (b"expect", value)
        assert accepted([*head, field], version).fields == [field]
    for value in (b"", b"200-ok", b"100-continue, x"):
        assert check([*head, (b"expect", value)], version) is reasons.EXPECTATION_FAILED


# --- method and scheme -------------------------------------------------------------------------
@pytest.mark.parametrize("method", [b"GET", b"G_T", b"PROPFIND", b"M-SEARCH", b"!", b"X" * 100])
def test_a_method_is_a_token_as_sent(method: bytes) -> None:
    assert accepted(get(method=method)).method == method


@pytest.mark.parametrize("method", [b"get", b"Get", b"GEt", b"delete"])
def test_a_method_in_small_letters_is_refused(method: bytes) -> None:
    """Some origins fold them (Hypercorn does): they would serve what no route of ours let in."""
    assert check(get(method=method)) is reasons.BAD_METHOD


@pytest.mark.parametrize("method", [b"", b"G T", b"GET ", b"GET\r\n", b"G\0", b"G/T", b"\xc3\xa4"])
def test_any_other_method_is_refused(method: bytes) -> None:
    """Attack 30: a space here would end up in a request line."""
    assert check(get(method=method)) is reasons.BAD_METHOD


def test_connect_is_not_allowed() -> None:
    """Attack 33; it comes without :scheme and :path (RFC 9114 section 4.4)."""
    connect = [(b":method", b"CONNECT"), (b":authority", b"example.com:443")]
    assert check(connect) is reasons.CONNECT_NOT_ALLOWED
    assert check(get(method=b"CONNECT")) is reasons.CONNECT_NOT_ALLOWED
    assert check([*connect, (b":protocol", b"websocket")]) is reasons.BAD_PSEUDO_HEADER


@pytest.mark.parametrize("scheme", [b"http", b"https", b"HTTPS", b"Http"])
def test_the_scheme_is_http_or_https_in_lowercase(scheme: bytes) -> None:
    assert accepted(get(scheme=scheme)).scheme == scheme.lower()


@pytest.mark.parametrize("scheme", [b"", b"ftp", b"http ", b"httpsx", b"http\0"])
def test_any_other_scheme_is_refused(scheme: bytes) -> None:
    assert check(get(scheme=scheme)) is reasons.BAD_SCHEME


# --- policy -------------------------------------------------------------------------------------
def test_allowed_methods_let_through_only_themselves() -> None:
    limits = Limits(allowed_methods=[b"GET", b"HEAD"])
    assert isinstance(check(get(), limits=limits), Request)
    assert check(get(method=b"POST"), limits=limits) is reasons.METHOD_NOT_ALLOWED


@pytest.mark.parametrize(
    ("path", "denied"),
    [
        (b"/admin", True),
        (b"/admin/users?x", True),
        (b"/administrator", True),
        (b"/%61dmin", True),
        (b"/adm%69n", True),
        (b"/Admin", False),
        (b"/x/admin", False),
        (b"/adm", False),
        (b"/?x=/admin", False),
    ],
)
def test_denied_prefixes_hold_for_the_canonical_path(path: bytes, denied: bool) -> None:
    limits = Limits(denied_path_prefixes=[b"/private", b"/admin"])
    result = check(get(path=path), limits=limits)
    assert (result is reasons.PATH_DENIED) == denied
    assert isinstance(result, Request) != denied


# --- which reason wins --------------------------------------------------------------------------
def test_reasons_win_in_the_documented_order() -> None:
    """Repair the worst of requests step by step: each repair uncovers the next rule."""
    limits = Limits(allowed_methods=[b"GET"], denied_path_prefixes=[b"/denied"])
    fields = [
        (b":method", b"PO ST"),
        (b":scheme", b"ftp"),
        (b":authority", b"user@example.com"),
        (b":path", b"/denied/../\xff?#"),
        (b"host", b"bad host"),
        (b"Name", b"v"),
    ]
    repairs: list[tuple[Reason, int, bytes]] = [
        (reasons.BAD_FIELD_NAME, 5, b""),
        (reasons.BAD_METHOD, 0, b"POST"),
        (reasons.BAD_SCHEME, 1, b"http"),
        (reasons.BAD_PATH, 3, b"/denied/../?#"),
        (reasons.PATH_DOT_SEGMENT, 3, b"/denied/?#"),
        (reasons.BAD_PATH, 3, b"/denied/"),
        (reasons.BAD_AUTHORITY, 2, b"example.com"),
        (reasons.BAD_AUTHORITY, 4, b"example.net"),
        (reasons.AUTHORITY_MISMATCH, 4, b"example.com"),
        (reasons.METHOD_NOT_ALLOWED, 0, b"GET"),
        (reasons.PATH_DENIED, 3, b"/"),
    ]
    for reason, index, repaired in repairs:
        assert check(fields, limits=limits) is reason
        name = b"name" if index == 5 else fields[index][0]
        fields[index] = (name, repaired)
    assert isinstance(check(fields, limits=limits), Request)
