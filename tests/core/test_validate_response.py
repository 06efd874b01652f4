"""What a response head from a backend, and what trailers may be."""

import pytest

from spooky._core import reasons
from spooky._core.validate import Response, validate_response, validate_trailers
from tests.core.strategies_head import Field

STATUS = (b":status", b"200")


def check(*fields: Field) -> object:
    """Return what the validator makes of a response head."""
    return validate_response(list(fields), 100, 10_000)


def test_a_plain_response_is_taken_apart() -> None:
    response = check(STATUS, (b"content-length", b"5"), (b"server", b"x"), (b"set-cookie", b""))
    assert isinstance(response, Response)
    assert response.status == 200
    assert response.content_length == 5
    assert response.fields == [(b"server", b"x"), (b"set-cookie", b"")]


@pytest.mark.parametrize("status", [100, 103, 200, 204, 304, 404, 599])
def test_three_digits_are_a_status(status: int) -> None:
    response = check((b":status", b"%d" % status))
    assert isinstance(response, Response)
    assert (response.status, response.content_length) == (status, -1)


@pytest.mark.parametrize(
    "status", [b"", b"20", b"2000", b"099", b"600", b"999", b"+20", b"20x", b" 20", b"2\xb20"]
)
def test_anything_else_is_no_status(status: bytes) -> None:
    """RFC 9110 section 15."""
    assert check((b":status", status)) is reasons.UPSTREAM_BAD_RESPONSE


def test_nobody_switches_protocols() -> None:
    assert check((b":status", b"101")) is reasons.UPSTREAM_BAD_RESPONSE


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"server", b"x")],
        [(b"server", b"x"), STATUS],
        [STATUS, STATUS],
        [STATUS, (b":path", b"/")],
        [(b":path", b"/"), STATUS],
        [STATUS, (b":", b"")],
    ],
)
def test_status_is_the_one_pseudo_header_and_comes_first(fields: list[Field]) -> None:
    """RFC 9113 section 8.3.2, RFC 9114 section 4.3.2."""
    assert check(*fields) is reasons.UPSTREAM_BAD_RESPONSE


@pytest.mark.parametrize(
    "field",
    [
        (b"Server", b"x"),
        (b"", b"x"),
        (b"x y", b"x"),
        (b"x", b"a\r\nb: c"),
        (b"x", b"\0"),
        (b"x", b" y"),
        (b"x", b"y\t"),
        (b"content-length", b"+5"),
        (b"content-length", b""),
        (b"content-length", b"5, 6"),
        (b"content-length", b"9223372036854775808"),
    ],
)
def test_malformed_fields_are_refused(field: Field) -> None:
    """Attacks 28 and 30, from the other side."""
    assert check(STATUS, field) is reasons.UPSTREAM_BAD_RESPONSE


def test_content_lengths_agree() -> None:
    five, six = (b"content-length", b"5"), (b"content-length", b"6")
    response = check(STATUS, five, five)
    assert isinstance(response, Response)
    assert response.content_length == 5
    assert check(STATUS, five, six) is reasons.UPSTREAM_BAD_RESPONSE


def test_content_length_beside_transfer_encoding_is_refused() -> None:
    """RFC 9112 section 6.3; either alone passes."""
    length, coding = (b"content-length", b"5"), (b"transfer-encoding", b"chunked")
    assert check(STATUS, length, coding) is reasons.UPSTREAM_BAD_RESPONSE
    assert check(STATUS, coding, length) is reasons.UPSTREAM_BAD_RESPONSE
    assert isinstance(check(STATUS, coding), Response)


def test_connection_fields_pass_for_later_stripping() -> None:
    response = check(STATUS, (b"connection", b"close"), (b"upgrade", b"h2c"))
    assert isinstance(response, Response)
    assert len(response.fields) == 2


def test_responses_have_their_limits() -> None:
    fields = [STATUS, (b"server", b"x")]
    size = len(b":status200serverx")
    assert isinstance(validate_response(fields, 2, size), Response)
    assert validate_response(fields, 1, size) is reasons.UPSTREAM_FIELDS_TOO_LARGE
    assert validate_response(fields, 2, size - 1) is reasons.UPSTREAM_FIELDS_TOO_LARGE


# --- trailers (attack 35; RFC 9110 section 6.5) --------------------------------------------------
@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"grpc-status", b"0"), (b"grpc-message", b"")],
        [(b"x-checksum", b"abc"), (b"x-checksum", b"def")],
        [(b"authentication-info", b"nextnonce=x"), (b"server-timing", b"db;dur=53")],
        [(b"digest", b"x"), (b"etag", b'"x"')],
    ],
)
def test_these_trailers_may_be_forwarded(fields: list[Field]) -> None:
    assert validate_trailers(fields, 100, 10_000) is None


@pytest.mark.parametrize(
    "name",
    [
        b":status", b":path", b":", b"connection", b"content-length", b"keep-alive",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"forwarded",
        b"host", b"max-forwards", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port",
        b"x-forwarded-proto", b"x-real-ip", b"authorization", b"cookie", b"proxy-authenticate",
        b"proxy-authorization", b"set-cookie", b"www-authenticate", b"cache-control", b"expect",
        b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since",
        b"pragma", b"range", b"content-encoding", b"content-range", b"content-type",
    ],
)  # fmt: skip
def test_what_is_evaluated_before_the_content_may_not_trail(name: bytes) -> None:
    """RFC 9110 section 6.5.1: framing, routing, authentication, modifiers, content format."""
    assert validate_trailers([(b"x", b"y"), (name, b"v")], 100, 10_000) is reasons.BAD_TRAILER


@pytest.mark.parametrize("name", [b"", b"X", b"x y", b"x\r\n", b"\xff"])
def test_trailer_names_are_lowercase_tokens(name: bytes) -> None:
    assert validate_trailers([(name, b"\0")], 100, 10_000) is reasons.BAD_FIELD_NAME


@pytest.mark.parametrize("value", [b"\r", b"\0", b" x", b"x ", b"a\r\n\r\nGET / HTTP/1.1"])
def test_trailer_values_are_field_values(value: bytes) -> None:
    assert validate_trailers([(b"host", value)], 100, 10_000) is reasons.BAD_FIELD_VALUE


def test_trailers_have_their_limits() -> None:
    fields = [(b"a", b"1"), (b"b", b"2")]
    assert validate_trailers(fields, 2, 4) is None
    assert validate_trailers(fields, 1, 4) is reasons.TOO_MANY_FIELDS
    assert validate_trailers(fields, 2, 3) is reasons.FIELDS_TOO_LARGE
