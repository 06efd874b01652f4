"""QUIC packets that need no key: what the kernel reads of them, and Version Negotiation."""

import secrets
from collections.abc import Sequence
from typing import Final

from spooky._core.packets import (
    CONNECTION_ID_LENGTH,
    CONNECTION_ID_MAX_LENGTH,
    INITIAL_DATAGRAM_MIN_SIZE,
    VERSION_1,
    VERSION_2,
    ConnectionIds,
    PacketHeader,
    PacketType,
    initial_token,
    parse_header,
)

__all__ = [
    "CONNECTION_ID_LENGTH",
    "CONNECTION_ID_MAX_LENGTH",
    "FIXED_BIT",
    "INITIAL_DATAGRAM_MIN_SIZE",
    "LONG_HEADER",
    "VERSION_1",
    "VERSION_2",
    "ConnectionIds",
    "PacketHeader",
    "PacketType",
    "initial_token",
    "parse_header",
    "version_negotiation",
]

LONG_HEADER: Final = 0x80
FIXED_BIT: Final = 0x40


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
