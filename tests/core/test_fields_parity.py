"""The compiled field work and its twin give the same result for every input."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import fields as compiled
from spooky._core import validate as compiled_validate
from spooky._core.pure import fields as pure
from spooky._core.pure import validate as pure_validate
from tests.core.strategies_head import (
    AUTHORITIES,
    Field,
    regular_fields,
    request_heads,
    response_heads,
)

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

MODES = st.sampled_from(["overwrite", "append", "preserve"])
HOST_MODES = st.sampled_from(["pass_through", "rewrite", "upstream"])
ADDRESSES = st.one_of(
    st.ip_addresses().map(lambda address: str(address).encode()),
    st.sampled_from([b"unknown", b"", b"_hidden", b"a b"]),
)
EXTRA = st.lists(regular_fields(), max_size=3).map(tuple)


@settings(max_examples=1000)
@given(st.data(), st.sampled_from([1, 3]), MODES, HOST_MODES, ADDRESSES, AUTHORITIES)
def test_forwarded_and_packed_requests(
    data: st.DataObject,
    version: int,
    mode: str,
    host_mode: str,
    address: bytes,
    backend: bytes,
) -> None:
    fields = data.draw(request_heads(version))
    ours = compiled_validate.validate_request(fields, version, compiled_validate.Limits())
    theirs = pure_validate.validate_request(fields, version, pure_validate.Limits())
    if not isinstance(ours, compiled_validate.Request):
        return
    assert isinstance(theirs, pure_validate.Request)
    arguments = (address, b"https", b"http", backend)
    head = compiled.forward_request(
        ours, compiled.ForwardingPolicy(mode, host_mode, b"rewritten"), *arguments
    )
    assert head == pure.forward_request(
        theirs, pure.ForwardingPolicy(mode, host_mode, b"rewritten"), *arguments
    )
    for chunked in (False, True):
        assert compiled.pack_http1_request(head, chunked) == pure.pack_http1_request(head, chunked)


@settings(max_examples=500)
@given(response_heads(), EXTRA, st.booleans(), st.booleans())
def test_forwarded_and_packed_responses(
    fields: list[Field], extra: tuple[Field, ...], chunked: bool, close: bool
) -> None:
    ours = compiled_validate.validate_response(fields, 100, 10_000)
    theirs = pure_validate.validate_response(fields, 100, 10_000)
    if not isinstance(ours, compiled_validate.Response):
        return
    assert isinstance(theirs, pure_validate.Response)
    head = compiled.forward_response(ours, extra)
    assert head == pure.forward_response(theirs, extra)
    assert compiled.pack_http1_response(head, chunked, close) == pure.pack_http1_response(
        head, chunked, close
    )


@given(st.lists(regular_fields(), max_size=8))
def test_forwarded_trailers(fields: list[Field]) -> None:
    assert compiled.forward_trailers(fields) == pure.forward_trailers(fields)


@given(
    st.lists(regular_fields(), max_size=4),
    st.lists(st.text(alphabet='"\\a;= ,', max_size=12).map(str.encode), max_size=3),
)
def test_quotes_in_appended_fields(fields: list[Field], values: list[bytes]) -> None:
    ours, theirs = compiled_validate.Request(), pure_validate.Request()
    for request in (ours, theirs):
        request.method, request.scheme = b"GET", b"https"
        request.authority = request.host = b"example.com"
        request.port = request.content_length = -1
        request.path, request.query = b"/", None
        request.fields = [*fields, *[(b"forwarded", value) for value in values]]
        request.version = 1
    arguments = (b"192.0.2.1", b"https", b"http", b"backend")
    assert compiled.forward_request(
        ours, compiled.ForwardingPolicy("append"), *arguments
    ) == pure.forward_request(theirs, pure.ForwardingPolicy("append"), *arguments)
