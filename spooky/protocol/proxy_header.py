"""The PROXY protocol: the header with which a proxy before us says whose connection it passes on.

Versions 1 (a line of text) and 2 (binary), as haproxy's proxy-protocol.txt specifies them. Sans-I/O
and bounded: whoever reads the bytes asks how many are needed, and never for more than
:data:`V2_MAX_BYTES`.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Transport: TypeAlias = Literal["stream", "datagram"]

V1_START: Final = b"PROXY "
V1_MAX_BYTES: Final = 107
"""The longest line of version 1, with CR LF (section 2.1)."""

V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
V2_START_BYTES: Final = 16
"""Signature, version and command, family, length."""

V2_MAX_BYTES: Final = 2048
"""The longest header of version 2 that is taken; receivers have to take 536 (section 2.2), and what
cloud providers add stays below 300."""

PORT_MAX: Final = 65_535

_V2_LENGTH_AT: Final = 14
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _INET, _INET6, _UNIX = 0, 1, 2, 3
_ADDRESS_BYTES: Final = {_UNSPECIFIED: 0, _INET: 12, _INET6: 36, _UNIX: 216}
_TRANSPORTS: Final[dict[Transport, int]] = {"stream": 1, "datagram": 2}
_TLV_CRC32C: Final = 0x03
_TLV_HEAD_BYTES: Final = 3
_CRC_BYTES: Final = 4

_V1: Final = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (\d+) (\d+)\r\n")
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")


class ProxyHeaderError(ValueError):
    """The bytes are no PROXY header, or not one that is taken here."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A complete header.

    Attributes:
        size: How many bytes it has; what follows is the connection's.
        source: The address and port of the client; ``None`` if the proxy speaks for itself
            (``LOCAL``) or does not say (``UNKNOWN``): then they are the connection's own.
    """

    size: int
    source: tuple[str, int] | None


def parse_proxy_header(data: bytes, transport: Transport) -> ProxyHeader | int:
    """Read a header from the first bytes of a connection or datagram.

    Arguments:
        data: What there is of them.
        transport: What the listener takes; a header that says another was misdirected. Version 1
            is for streams only.

    Returns:
        The header, or how many bytes there must be at least to say more.

    Raises:
        ProxyHeaderError: It is none, or malformed.
    """
    if not data:
        return 1
    if V2_SIGNATURE.startswith(data[: len(V2_SIGNATURE)]):
        return _parse_v2(data, transport)
    if transport == "stream" and V1_START.startswith(data[: len(V1_START)]):
        return _parse_v1(data)
    raise ProxyHeaderError("there is no PROXY header")


def announced_bytes(datagram: bytes) -> int:
    """Return how many bytes a header of version 2 before a datagram says it has; 0 without one."""
    if len(datagram) < V2_START_BYTES or not datagram.startswith(V2_SIGNATURE):
        return 0
    return V2_START_BYTES + int.from_bytes(datagram[_V2_LENGTH_AT:V2_START_BYTES])


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of bytes (RFC 3720 appendix B.4)."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFF_FFFF


# --- version 1 --------------------------------------------------------------------------------
def _parse_v1(data: bytes) -> ProxyHeader | int:
    end = data.find(b"\r\n", 0, V1_MAX_BYTES)
    if end < 0:
        if len(data) >= V1_MAX_BYTES:
            raise ProxyHeaderError("a PROXY line does not end")
        return len(data) + 1
    line = data[: end + 2]
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(len(line), None)
    match = _V1.fullmatch(line)
    if match is None:
        raise ProxyHeaderError("a PROXY line is malformed")
    family, source, destination, source_port, destination_port = match.groups()
    version = 4 if family == b"TCP4" else 6
    _address(destination, version)
    _port(destination_port)
    return ProxyHeader(len(line), (_address(source, version), _port(source_port)))


def _address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError as error:
        raise ProxyHeaderError("a PROXY line has a malformed address") from error
    if address.version != version:
        raise ProxyHeaderError("a PROXY line has an address of another family")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _port(text: bytes) -> int:
    port = int(text[:6])
    if port > PORT_MAX or str(port).encode() != text:
        raise ProxyHeaderError("a PROXY line has a malformed port")
    return port


# --- version 2 --------------------------------------------------------------------------------
def _parse_v2(data: bytes, transport: Transport) -> ProxyHeader | int:
    if len(data) < V2_START_BYTES:
        return V2_START_BYTES
    command, family, layer = data[12], data[13] >> 4, data[13] & 0x0F
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("a PROXY header has an unknown version or command")
    size = announced_bytes(data)
    if size > V2_MAX_BYTES:
        raise ProxyHeaderError("a PROXY header is too long")
    if len(data) < size:
        return size
    header = data[:size]
    if command == _LOCAL:
        # The receiver ignores the rest (section 2.2), but not a checksum that does not fit.
        addresses = min(_ADDRESS_BYTES.get(family, 0), size - V2_START_BYTES)
        _check_tlvs(header, V2_START_BYTES + addresses, is_strict=False)
        return ProxyHeader(size, None)
    if family not in _ADDRESS_BYTES or size < V2_START_BYTES + _ADDRESS_BYTES[family]:
        raise ProxyHeaderError("a PROXY header has no room for its addresses")
    if family != _UNSPECIFIED and layer != _TRANSPORTS[transport]:
        raise ProxyHeaderError("a PROXY header is of another transport")
    _check_tlvs(header, V2_START_BYTES + _ADDRESS_BYTES[family], is_strict=True)
    return ProxyHeader(size, _v2_source(header, family))


def _v2_source(header: bytes, family: int) -> tuple[str, int] | None:
    at = V2_START_BYTES
    match family:
        case 1:
            host = str(ipaddress.IPv4Address(header[at : at + 4]))
            return host, int.from_bytes(header[at + 8 : at + 10])
        case 2:
            address = ipaddress.IPv6Address(header[at : at + 16])
            host = str(address.ipv4_mapped or address)
            return host, int.from_bytes(header[at + 32 : at + 34])
    return None


def _check_tlvs(header: bytes, at: int, *, is_strict: bool) -> None:
    """Step over what a proxy says beside the addresses; a checksum among it must be right.

    Arguments:
        at: Where it begins.
        is_strict: Whether what does not add up is an error; else it is ignored.
    """
    while at < len(header):
        value = at + _TLV_HEAD_BYTES
        end = value + int.from_bytes(header[at + 1 : value])
        if value > len(header) or end > len(header):
            if is_strict:
                raise ProxyHeaderError("a PROXY header has a value beyond its end")
            return
        if header[at] == _TLV_CRC32C:
            if end - value != _CRC_BYTES:
                raise ProxyHeaderError("a PROXY header has a checksum of a wrong length")
            expected = int.from_bytes(header[value:end])
            if crc32c(header[:value] + bytes(_CRC_BYTES) + header[end:]) != expected:
                raise ProxyHeaderError("a PROXY header has a wrong checksum")
        at = end


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F6_3B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()
