"""What a dispatcher needs to know of QUIC packets: their headers, and its own connection IDs.

Only the version-independent fields (RFC 8999) are read, and the packet type of versions 1 and 2;
nothing here needs a key.
"""

import secrets
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

VERSION_1: Final = 0x00000001
VERSION_2: Final = 0x6B3343CF

CONNECTION_ID_LENGTH: Final = 8
"""Length of the connection IDs this proxy issues: a slot byte and 7 random ones; bytes."""

CONNECTION_IDS_AT_ONCE: Final = 128
"""For so many random bytes are taken from the kernel at once, which costs little more than for one.
"""

_RANDOM_BYTES: Final = CONNECTION_ID_LENGTH - 1

CONNECTION_ID_MAX_LENGTH: Final = 20
"""Longest connection ID in versions 1 and 2 (RFC 9000 section 17.2); bytes."""

CLIENT_CONNECTION_ID_MIN_LENGTH: Final = 8
"""Shortest connection ID that a client may choose for its first packets (RFC 9000 section 7.2)."""

INITIAL_DATAGRAM_MIN_SIZE: Final = 1200
"""Least size of a datagram that may begin a connection (RFC 9000 section 14.1); bytes."""

LONG_HEADER: Final = 0x80
FIXED_BIT: Final = 0x40
SHORTEST_LONG_HEADER: Final = 7
SHORTEST_SHORT_HEADER: Final = 1 + CONNECTION_ID_LENGTH
TYPE_SHIFT: Final = 4
TYPE_MASK: Final = 0x03


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


class PacketHeader(NamedTuple):
    """The header of the first packet in a datagram.

    Attributes:
        type: What kind of packet it is.
        version: Its QUIC version; ``None`` in a short header.
        destination_connection_id: Whom it is for; in a short header, its first 8 bytes.
        source_connection_id: Whom to answer; empty in a short header.
        datagram_size: Length of the whole datagram; bytes.
    """

    type: PacketType
    version: int | None
    destination_connection_id: bytes
    source_connection_id: bytes
    datagram_size: int

    @property
    def is_long(self) -> bool:
        """Whether the packet has a long header."""
        return self.version is not None

    @property
    def is_initial(self) -> bool:
        """Whether the packet may begin a connection."""
        return self.type is PacketType.INITIAL

    @property
    def is_early(self) -> bool:
        """Whether the packet is one of 0-RTT."""
        return self.type is PacketType.ZERO_RTT


def parse_header(datagram: bytes) -> PacketHeader | None:
    """Read the header of the first packet in a datagram.

    Returns:
        The header, or ``None`` if the datagram cannot be a QUIC packet for us.
    """
    size = len(datagram)
    if size < SHORTEST_LONG_HEADER:
        return None
    first = datagram[0]
    if not first & LONG_HEADER:
        if size < SHORTEST_SHORT_HEADER or not first & FIXED_BIT:
            return None
        return PacketHeader(PacketType.ONE_RTT, None, datagram[1:SHORTEST_SHORT_HEADER], b"", size)
    destination_end = 6 + datagram[5]
    if destination_end >= size:
        return None
    source_start = destination_end + 1
    source_end = source_start + datagram[destination_end]
    if source_end > size:
        return None
    version = int.from_bytes(datagram[1:5], "big")
    packet_type = _long_header_type(first, version)
    if packet_type is not PacketType.UNKNOWN and (
        destination_end - 6 > CONNECTION_ID_MAX_LENGTH
        or source_end - source_start > CONNECTION_ID_MAX_LENGTH
        or (version and not first & FIXED_BIT)
    ):
        return None
    return PacketHeader(
        packet_type, version, datagram[6:destination_end], datagram[source_start:source_end], size
    )


def _long_header_type(first: int, version: int) -> PacketType:
    if version == VERSION_1:
        return VERSION_1_TYPES[first >> TYPE_SHIFT & TYPE_MASK]
    if version == VERSION_2:
        return VERSION_2_TYPES[first >> TYPE_SHIFT & TYPE_MASK]
    return PacketType.UNKNOWN if version else PacketType.VERSION_NEGOTIATION


def initial_token(datagram: bytes) -> bytes | None:
    """Return the token of an Initial packet (RFC 9000 section 17.2.2).

    Args:
        datagram: One that :func:`parse_header` took, and that begins with the packet.

    Returns:
        The token, empty if there is none; ``None`` if the packet is cut off within it.
    """
    source_at = 6 + datagram[5]
    length_at = source_at + 1 + datagram[source_at]
    if length_at >= len(datagram):
        return None
    # A variable-length integer (RFC 9000 section 16): its first two bits are the logarithm of its
    # own length.
    token_at = length_at + (1 << (datagram[length_at] >> 6))
    encoded = datagram[length_at:token_at]
    length = int.from_bytes(encoded, "big") & (1 << 8 * len(encoded) - 2) - 1
    if token_at + length > len(datagram):
        return None
    return datagram[token_at : token_at + length]


def version_negotiation(header: PacketHeader, versions: Sequence[int]) -> bytes | None:
    """Make the answer to a packet of a version we do not speak (RFC 9000 section 6.1).

    Args:
        header: Of the packet to answer.
        versions: Those we speak.

    Returns:
        A Version Negotiation packet, or ``None`` if the packet deserves none: it has no version or
        one we speak, it is a Version Negotiation packet itself, or its datagram is so small that
        the answer could serve to amplify.
    """
    if (
        not header.version
        or header.version in versions
        or header.datagram_size < INITIAL_DATAGRAM_MIN_SIZE
    ):
        return None
    # Random but for the form and the fixed bit, which RFC 9000 section 17.2.1 asks to set.
    first = LONG_HEADER | FIXED_BIT | secrets.randbits(6)
    return b"".join(
        (
            bytes((first, 0, 0, 0, 0, len(header.source_connection_id))),
            header.source_connection_id,
            bytes((len(header.destination_connection_id),)),
            header.destination_connection_id,
            *(version.to_bytes(4, "big") for version in versions),
        )
    )


class ConnectionIds:
    """Makes connection IDs that steer packets to a worker slot.

    Arguments:
        slot: 0 to 255; becomes their first byte.
    """

    __slots__ = ("_at", "_prefix", "_random")

    def __init__(self, slot: int) -> None:
        self._prefix = bytes((slot,))
        self._random = b""
        self._at = 0

    def make(self) -> bytes:
        """Return 8 bytes, unpredictable but for the first."""
        if self._at == len(self._random):
            self._random = secrets.token_bytes(_RANDOM_BYTES * CONNECTION_IDS_AT_ONCE)
            self._at = 0
        begin, self._at = self._at, self._at + _RANDOM_BYTES
        return self._prefix + self._random[begin : self._at]
