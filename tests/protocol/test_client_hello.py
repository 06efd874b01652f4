"""Reading a ClientHello."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol.client_hello import (
    RECORD_HEADER_BYTES,
    ClientHello,
    alert,
    parse_client_hello,
    record_bytes,
)


def hello(server_name: str | None, protocols: list[str]) -> bytes:
    """Return OpenSSL's ClientHello."""
    context = ssl.create_default_context()
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("server_name", ["example.test", None])
@pytest.mark.parametrize("protocols", [["h2", "http/1.1"], []])
def test_what_openssl_asks_for_is_read(server_name: str | None, protocols: list[str]) -> None:
    record = hello(server_name, protocols)
    assert record_bytes(record[:3]) == RECORD_HEADER_BYTES
    assert record_bytes(record) == len(record)
    offered = tuple(protocol.encode() for protocol in protocols) or None
    assert parse_client_hello(record) == ClientHello(server_name, offered)


def test_a_hello_cut_anywhere_is_left_to_the_library() -> None:
    record = hello("example.test", ["h2"])
    for length in range(RECORD_HEADER_BYTES, len(record)):
        assert parse_client_hello(record[:length]) is None


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    record_bytes(data)
    parse_client_hello(data)


def test_what_is_not_tls_is_left_to_the_library() -> None:
    assert record_bytes(b"GET / HTTP/1.1\r\n") is None
    assert record_bytes(b"\x16\x03\x01\xff\xff") is None


def test_an_alert_is_fatal() -> None:
    """RFC 8446 section 6."""
    assert alert(112) == bytes([21, 3, 3, 0, 2, 2, 112])
