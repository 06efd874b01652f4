# cython: annotation_typing=False
"""What a dispatcher needs to know of QUIC packets: their headers, and its own connection IDs.

Only the version-independent fields (RFC 8999) are read, and the packet type of versions 1 and 2;
nothing here needs a key. This is the kernel's source and its twin: ``spooky/_core/packets.pxd``
gives its classes C types, which the annotations would contradict.
"""

import os
from enum import IntEnum
from typing import Final

VERSION_1: Final = 0x00000001
VERSION_2: Final = 0x6B3343CF

CONNECTION_ID_LENGTH: Final = 8
"""Length of the connection IDs this proxy issues: a slot byte and 7 random ones; bytes."""

CONNECTION_IDS_AT_ONCE: Final = 128
"""For so many random bytes are taken from the kernel at once, which costs little more than for one.
"""

CONNECTION_ID_MAX_LENGTH: Final = 20
"""Longest connection ID in versions 1 and 2 (RFC 9000 section 17.2); bytes."""


CLIENT_CONNECTION_ID_MIN_LENGTH: Final = 8
"""Shortest connection ID that a client may choose for its first packets (RFC 9000 section 7.2)."""

INITIAL_DATAGRAM_MIN_SIZE: Final = 1200
"""Least size of a datagram that may begin a connection (RFC 9000 section 14.1); bytes."""


class PacketType(IntEnum):
    """What kind of packet a header announces."""

    INITIAL = 0
    ZERO_RTT = 1
    HANDSHAKE = 2
    RETRY = 3
    VERSION_NEGOTIATION = 4
    ONE_RTT = 5
    UNKNOWN = 6
    """A long header of a version whose types we do not know."""


VERSION_1_TYPES: Final = (
    PacketType.INITIAL,
    PacketType.ZERO_RTT,
    PacketType.HANDSHAKE,
    PacketType.RETRY,
)
"""By the two type bits (RFC 9000 section 17.2)."""

VERSION_2_TYPES: Final = (
    PacketType.RETRY,
    PacketType.INITIAL,
    PacketType.ZERO_RTT,
    PacketType.HANDSHAKE,
)
"""By the two type bits (RFC 9369 section 3.2)."""

# C numbers, where those above are objects; and members of an enumeration, each looked up once.
_LONG_HEADER = 0x80
_FIXED_BIT = 0x40
_SHORTEST_LONG_HEADER = 7
_SHORTEST_SHORT_HEADER = 1 + 8
_ID_MAX = 20
_TYPE_SHIFT = 4
_TYPE_MASK = 0x03
_VERSION_1 = 0x00000001
_VERSION_2 = 0x6B3343CF
_RANDOM_BYTES = 7
_INITIAL = PacketType.INITIAL
_ZERO_RTT = PacketType.ZERO_RTT
_ONE_RTT = PacketType.ONE_RTT
_VERSION_NEGOTIATION = PacketType.VERSION_NEGOTIATION
_UNKNOWN = PacketType.UNKNOWN


class PacketHeader:
    """The header of the first packet in a datagram.

    Attributes:
        type: What kind of packet it is.
        version: Its QUIC version; ``None`` in a short header.
        destination_connection_id: Whom it is for; in a short header, its first 8 bytes.
        source_connection_id: Whom to answer; empty in a short header.
        datagram_size: Length of the whole datagram; bytes.
        is_long: Whether the packet has a long header.
        is_initial: Whether the packet may begin a connection.
        is_early: Whether the packet is one of 0-RTT.
    """

    def __init__(
        self,
        type: PacketType,
        version: int | None,
        destination_connection_id: bytes,
        source_connection_id: bytes,
        datagram_size: int,
    ) -> None:
        self.type = type
        self.version = version
        self.destination_connection_id = destination_connection_id
        self.source_connection_id = source_connection_id
        self.datagram_size = datagram_size
        self.is_long = version is not None
        self.is_initial = type is _INITIAL
        self.is_early = type is _ZERO_RTT

    def __repr__(self) -> str:
        return f"PacketHeader{self._fields()}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PacketHeader) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def _fields(self) -> tuple[PacketType, int | None, bytes, bytes, int]:
        return (
            self.type,
            self.version,
            self.destination_connection_id,
            self.source_connection_id,
            self.datagram_size,
        )


def parse_header(datagram: bytes) -> PacketHeader | None:
    """Read the header of the first packet in a datagram.

    Returns:
        The header, or ``None`` if the datagram cannot be a QUIC packet for us.
    """
    size = len(datagram)
    if size < _SHORTEST_LONG_HEADER:
        return None
    first = datagram[0]
    if not first & _LONG_HEADER:
        if size < _SHORTEST_SHORT_HEADER or not first & _FIXED_BIT:
            return None
        return PacketHeader(_ONE_RTT, None, datagram[1:_SHORTEST_SHORT_HEADER], b"", size)
    destination_end = 6 + datagram[5]
    if destination_end >= size:
        return None
    source_start = destination_end + 1
    source_end = source_start + datagram[destination_end]
    if source_end > size:
        return None
    version = 0
    for index in range(1, 5):
        version = version << 8 | datagram[index]
    kind = _long_header_type(first, version)
    if kind is not _UNKNOWN and (
        destination_end - 6 > _ID_MAX
        or source_end - source_start > _ID_MAX
        or (version and not first & _FIXED_BIT)
    ):
        return None
    return PacketHeader(
        kind, version, datagram[6:destination_end], datagram[source_start:source_end], size
    )


def _long_header_type(first: int, version: int) -> PacketType:
    if version == _VERSION_1:
        return VERSION_1_TYPES[first >> _TYPE_SHIFT & _TYPE_MASK]
    if version == _VERSION_2:
        return VERSION_2_TYPES[first >> _TYPE_SHIFT & _TYPE_MASK]
    return _UNKNOWN if version else _VERSION_NEGOTIATION


def initial_token(datagram: bytes) -> bytes | None:
    """Return the token of an Initial packet (RFC 9000 section 17.2.2).

    Arguments:
        datagram: One that :func:`parse_header` took, and that begins with the packet.

    Returns:
        The token, empty if there is none; ``None`` if the packet is cut off within it.
    """
    size = len(datagram)
    source_at = 6 + datagram[5]
    length_at = source_at + 1 + datagram[source_at]
    if length_at >= size:
        return None
    # A variable-length integer (RFC 9000 section 16): its first two bits are the logarithm of its
    # own length, and what is cut off within it is cut off within the token.
    token_at = length_at + (1 << (datagram[length_at] >> 6))
    if token_at > size:
        return None
    length = datagram[length_at] & 0x3F
    for index in range(length_at + 1, token_at):
        length = length << 8 | datagram[index]
    if length > size - token_at:
        return None
    return datagram[token_at : token_at + length]


class ConnectionIds:
    """Makes connection IDs that steer packets to a worker slot.

    Arguments:
        slot: 0 to 255; becomes their first byte.
    """

    def __init__(self, slot: int) -> None:
        self._prefix = bytes((slot,))
        self._random = b""
        self._at = 0

    def make(self) -> bytes:
        """Return 8 bytes, unpredictable but for the first."""
        if self._at == len(self._random):
            self._random = os.urandom(_RANDOM_BYTES * CONNECTION_IDS_AT_ONCE)
            self._at = 0
        begin = self._at
        self._at = begin + _RANDOM_BYTES
        return self._prefix + self._random[begin : begin + _RANDOM_BYTES]
