"""The compiled validator and its twin give the same result for every input."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import validate as compiled
from spooky._core.pure import validate as pure
from spooky._core.reasons import Reason
from tests.core.strategies_head import (
    AUTHORITIES,
    CONTENT_LENGTHS,
    NAMES,
    PATHS,
    VALUES,
    Field,
    get,
    regular_fields,
    request_heads,
    response_heads,
)

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

REQUEST = (
    "method", "scheme", "authority", "host", "port", "path", "query", "fields", "content_length",
    "version", "dropped",
)  # fmt: skip
RESPONSE = ("status", "fields", "content_length")
VERSIONS = st.sampled_from([1, 2, 3])
ANY_FIELDS = st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=8)


def values(result: object, attributes: tuple[str, ...]) -> object:
    """Return the reason itself, or what the head holds."""
    if isinstance(result, Reason):
        return result
    return [getattr(result, attribute) for attribute in attributes]


def assert_same_request(fields: list[Field], version: int, **limits: Any) -> None:
    ours = compiled.validate_request(fields, version, compiled.Limits(**limits))
    theirs = pure.validate_request(fields, version, pure.Limits(**limits))
    assert values(ours, REQUEST) == values(theirs, REQUEST)


@settings(max_examples=1000)
@given(st.data(), VERSIONS, st.booleans())
def test_requests_nearly_valid(data: st.DataObject, version: int, enforce: bool) -> None:
    fields = data.draw(request_heads(version))
    assert_same_request(fields, version, enforce_authority_host_match=enforce)


@given(
    request_heads(),
    st.integers(0, 10),
    st.integers(0, 200),
    st.lists(st.sampled_from([b"GET", b"POST"])),
    st.lists(st.sampled_from([b"/", b"/a", b"//", b"/%2F"])),
    st.integers(0, 2),
)
def test_requests_under_limits(
    fields: list[Field],
    count: int,
    size: int,
    methods: list[bytes],
    prefixes: list[bytes],
    underscores: int,
) -> None:
    assert_same_request(
        fields,
        3,
        max_headers_count=count,
        max_headers_bytes=size,
        allowed_methods=methods,
        denied_path_prefixes=prefixes,
        underscores=underscores,
    )


@given(st.lists(st.sampled_from([b":path", b"x_y", b"_", b"x", b"X_", b"host"])), st.integers(0, 2))
def test_requests_with_underscores(names: list[bytes], underscores: int) -> None:
    head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a")]
    fields = [*head, (b":path", b"/"), *((name, b"a") for name in names)]
    assert_same_request(fields, 3, underscores=underscores)
    ours, theirs = fields[4:], fields[4:]
    verdict = compiled.validate_trailers(ours, 9, 99, underscores)
    assert verdict is pure.validate_trailers(theirs, 9, 99, underscores)
    assert ours == theirs


@given(ANY_FIELDS, VERSIONS)
def test_requests_of_any_bytes(fields: list[Field], version: int) -> None:
    assert_same_request(fields, version)


@settings(max_examples=1000)
@given(st.one_of(PATHS, st.binary(max_size=30).map(lambda rest: b"/" + rest)))
def test_paths(path: bytes) -> None:
    assert_same_request(get(path=path), 3)


@settings(max_examples=1000)
@given(AUTHORITIES, AUTHORITIES, st.booleans())
def test_authorities(authority: bytes, host: bytes, enforce: bool) -> None:
    fields = get((b"host", host), authority=authority)
    assert_same_request(fields, 3, enforce_authority_host_match=enforce)


@given(st.from_regex(rb"\[[0-9a-fA-F:.]{0,48}\](:[0-9]{0,6})?", fullmatch=True))
def test_ipv6_addresses(authority: bytes) -> None:
    assert_same_request(get(authority=authority), 3)


@given(st.ip_addresses(v=6))
def test_ipv6_addresses_that_are_valid(address: object) -> None:
    assert_same_request(get(authority=b"[%b]:443" % str(address).encode()), 3)


@given(st.lists(st.one_of(CONTENT_LENGTHS, st.binary(max_size=6)), max_size=3))
def test_content_lengths(lengths: list[bytes]) -> None:
    assert_same_request(get(*[(b"content-length", length) for length in lengths]), 3)


@settings(max_examples=500)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), VERSIONS)
def test_regular_fields(fields: list[Field], version: int) -> None:
    assert_same_request(get((b"host", b"example.com"), *fields), version)


@settings(max_examples=500)
@given(st.one_of(response_heads(), ANY_FIELDS), st.integers(0, 8), st.integers(0, 300))
def test_responses(fields: list[Field], count: int, size: int) -> None:
    ours = compiled.validate_response(fields, count, size)
    theirs = pure.validate_response(fields, count, size)
    assert values(ours, RESPONSE) == values(theirs, RESPONSE)


@settings(max_examples=500)
@given(st.lists(regular_fields(), max_size=6), st.integers(0, 6), st.integers(0, 200))
def test_trailers(fields: list[Field], count: int, size: int) -> None:
    assert compiled.validate_trailers(fields, count, size) is pure.validate_trailers(
        fields, count, size
    )
