"""The PROXY protocol's headers, taken apart within bounds."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol.proxy_header import (
    V1_MAX_BYTES,
    V2_MAX_BYTES,
    V2_SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    announced_bytes,
    crc32c,
    parse_proxy_header,
)

PORTS = struct.pack("!HH", 4711, 443)


def v2(family: int, body: bytes, command: int = 0x21) -> bytes:
    return V2_SIGNATURE + bytes((command, family)) + struct.pack("!H", len(body)) + body


def inet(host: str = "192.0.2.7") -> bytes:
    return ipaddress.ip_address(host).packed + ipaddress.ip_address("192.0.2.1").packed + PORTS


def inet6(host: str = "2001:db8::7") -> bytes:
    return ipaddress.ip_address(host).packed + ipaddress.ip_address("2001:db8::1").packed + PORTS


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(header: bytes) -> bytes:
    """Return a header whose last value is a checksum, filled in."""
    return header[:-4] + struct.pack("!I", crc32c(header))


@pytest.mark.parametrize(
    ("line", "source"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n", ("192.0.2.7", 4711)),
        (b"PROXY TCP6 2001:DB8::7 ::1 0 65535\r\n", ("2001:db8::7", 0)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", ("192.0.2.7", 1)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff:f...f ffff:f...f 65535 65535\r\n", None),
    ],
)
def test_a_line_of_version_1_says_who_the_client_is(
    line: bytes, source: tuple[str, int] | None
) -> None:
    assert parse_proxy_header(line + b"rest", "stream") == ProxyHeader(len(line), source)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 65536\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 04711 443\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 " + b"9" * 40 + b" 443\r\n",
        b"PROXY TCP4 192.0.2.07 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7 ::1 4711 443\r\n",
        b"PROXY TCP4 ::7 ::1 4711 443\r\n",
        b"PROXY TCP6 192.0.2.7 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4  192.0.2.7 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443 \r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n",
        b"PROXY UDP4 192.0.2.7 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\nX\r\n",
        b"proxy TCP4 192.0.2.7 192.0.2.1 4711 443\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY " + b"x" * V1_MAX_BYTES,
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_what_is_no_line_of_version_1_is_refused(line: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        parse_proxy_header(line, "stream")


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (v2(0x11, inet()), ("192.0.2.7", 4711)),
        (v2(0x21, inet6()), ("2001:db8::7", 4711)),
        (v2(0x21, inet6("::ffff:192.0.2.7")), ("192.0.2.7", 4711)),
        (v2(0x11, inet() + tlv(4, b"padding") + tlv(0xEA, b"\1vpce")), ("192.0.2.7", 4711)),
        (with_checksum(v2(0x11, inet() + tlv(1, b"h3") + tlv(3, bytes(4)))), ("192.0.2.7", 4711)),
        (v2(0x00, b""), None),
        (v2(0x31, bytes(216)), None),
        (v2(0x00, b"", 0x20), None),
        (v2(0x11, inet(), 0x20), None),
        (v2(0xFF, b"anything", 0x20), None),
    ],
)
def test_a_header_of_version_2_says_who_the_client_is(
    header: bytes, source: tuple[str, int] | None
) -> None:
    assert parse_proxy_header(header + b"rest", "stream") == ProxyHeader(len(header), source)
    assert announced_bytes(header + b"rest") == len(header)


@pytest.mark.parametrize(
    "header",
    [
        v2(0x11, inet(), 0x11),
        v2(0x11, inet(), 0x22),
        v2(0x11, inet()[:-1]),
        v2(0x21, inet()),
        v2(0x41, bytes(40)),
        v2(0x12, inet()),
        v2(0x11, inet() + b"\4"),
        v2(0x11, inet() + b"\4\0\2x"),
        v2(0x11, inet() + tlv(3, bytes(3))),
        v2(0x11, inet() + tlv(3, bytes(4))),
        v2(0x00, tlv(3, bytes(4)), 0x20),
        v2(0x11, inet() + bytes(V2_MAX_BYTES)),
    ],
)
def test_what_is_no_header_of_version_2_is_refused(header: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        parse_proxy_header(header, "stream")


def test_datagrams_have_headers_of_version_2_and_of_their_transport() -> None:
    assert parse_proxy_header(v2(0x12, inet()), "datagram") == ProxyHeader(28, ("192.0.2.7", 4711))
    for other in (v2(0x11, inet()), b"PROXY UNKNOWN\r\n"):
        with pytest.raises(ProxyHeaderError):
            parse_proxy_header(other, "datagram")


@pytest.mark.parametrize(
    "header",
    [b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n", with_checksum(v2(0x11, inet() + tlv(3, bytes(4))))],
)
def test_no_byte_behind_a_header_is_asked_for(header: bytes) -> None:
    """Whoever reads takes what comes after it from the socket."""
    for length in range(len(header)):
        needed = parse_proxy_header(header[:length], "stream")
        assert isinstance(needed, int)
        assert length < needed <= len(header)


def test_the_checksum_is_crc32c() -> None:
    """The check value of the algorithm, and RFC 3720 appendix B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


@given(st.binary(max_size=300), st.sampled_from(["stream", "datagram"]))
def test_any_bytes_are_a_header_or_an_error_or_too_few(data: bytes, transport: str) -> None:
    for start in (b"", V2_SIGNATURE + b"\x21\x11", b"PROXY TCP4 "):
        try:
            found = parse_proxy_header(start + data, transport)
        except ProxyHeaderError:
            continue
        if isinstance(found, ProxyHeader):
            assert 0 < found.size <= len(start + data)
        else:
            assert len(start + data) < found <= V2_MAX_BYTES
