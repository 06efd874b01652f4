"""What is said to a client without a connection: Retry, refusal of its token, stateless reset.

Version Negotiation, which needs no key either, is in :mod:`spooky.protocol.quic.packet`.
"""

import hmac
import secrets
from collections.abc import Callable
from typing import Final

from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicPacketType,
    encode_long_header_first_byte,
    encode_quic_retry,
)

from spooky._core import COMPILED
from spooky.protocol.quic.keys import RESET, Keys
from spooky.protocol.quic.packet import FIXED_BIT, PacketHeader

RESET_TOKEN_BYTES: Final = 16

RESET_MIN_BYTES: Final = 21
"""Shortest stateless reset: a short header, 38 unpredictable bits, the token (RFC 9000 10.3)."""

RESET_MAX_BYTES: Final = 42
"""Longest stateless reset: that looks like a packet to any connection ID (RFC 9000 10.3)."""

_UNPREDICTABLE_BITS: Final = 6
"""Of the first byte, after the two that say short header."""

_PACKET_NUMBER: Final = b"\0\0"
_FRAME_CONNECTION_CLOSE: Final = 0x1C


class ResetTokens:
    """The stateless reset token of each connection ID of a listener (RFC 9000 section 10.3.2).

    Arguments:
        keys: The secrets that all workers share.
        listener: Names the listener. Another that was asked for a reset of this one's connection
            must not give the right token, lest it be an oracle (RFC 9000 section 21.11).

    Attributes:
        of: Returns the token of a connection ID; 16 bytes.
    """

    __slots__ = ("of",)

    def __init__(self, keys: Keys, listener: str) -> None:
        # A handshake makes four in a row, and the kernel keeps the key from one to the next.
        self.of = _hmac(keys.derived_fixed(RESET), listener.encode() + b"\0", RESET_TOKEN_BYTES)


def _hmac(key: bytes, prefix: bytes, length: int) -> Callable[[bytes], bytes]:
    """Return what makes an HMAC of a text after a prefix, cut to a length."""
    if not COMPILED:
        return lambda text: hmac.digest(key, prefix + text, "sha256")[:length]
    from spooky._core.quic.crypto import Hmac

    return Hmac(key, prefix, length)


def random_reset_token(connection_id: bytes) -> bytes:
    """Return a token that nobody can find again, for who sends no stateless resets."""
    return secrets.token_bytes(RESET_TOKEN_BYTES)


def stateless_reset(header: PacketHeader, token: bytes) -> bytes | None:
    """Make the answer to a packet of a connection that is no more (RFC 9000 section 10.3).

    Always smaller than what it answers, so that two who know nothing of each other's packets fall
    silent (RFC 9000 section 10.3.3).

    Args:
        header: Of the packet.
        token: Of the connection ID that it has.

    Returns:
        The reset; ``None`` for a packet that deserves none: its header is long, or it is small.
    """
    size = min(header.datagram_size - 1, RESET_MAX_BYTES)
    if header.is_long or size < RESET_MIN_BYTES:
        return None
    first = FIXED_BIT | secrets.randbits(_UNPREDICTABLE_BITS)
    return bytes((first,)) + secrets.token_bytes(size - 1 - len(token)) + token


def retry_packet(header: PacketHeader, connection_id: bytes, token: bytes) -> bytes:
    """Make a Retry packet (RFC 9000 section 17.2.5, RFC 9001 section 5.8, RFC 9369 section 3.3).

    Args:
        header: Of the Initial packet to answer, of version 1 or 2.
        connection_id: What the client addresses its next packets to; other than what it chose.
        token: What it has to return.
    """
    return encode_quic_retry(
        version=header.version or 0,
        source_cid=connection_id,
        destination_cid=header.source_connection_id,
        original_destination_cid=header.destination_connection_id,
        retry_token=token,
        # The four bits are arbitrary.
        unused=secrets.randbits(4),
    )


def invalid_token_close(header: PacketHeader) -> bytes:
    """Make an Initial packet that closes with INVALID_TOKEN (RFC 9000 section 8.1.2).

    Args:
        header: Of the Initial packet with the token, of version 1 or 2.
    """
    return _close(header, QuicErrorCode.INVALID_TOKEN)


def refusal_close(header: PacketHeader) -> bytes:
    """Make an Initial packet that closes with CONNECTION_REFUSED (RFC 9000 section 5.2.2).

    Args:
        header: Of the Initial packet that would begin the connection, of version 1 or 2.
    """
    return _close(header, QuicErrorCode.CONNECTION_REFUSED)


def _close(header: PacketHeader, error_code: int) -> bytes:
    version = header.version or 0
    first = encode_long_header_first_byte(version, QuicPacketType.INITIAL, len(_PACKET_NUMBER) - 1)
    # No frame is at fault (0), and there is no phrase.
    frame = bytes((_FRAME_CONNECTION_CLOSE, error_code, 0, 0))
    crypto = CryptoPair()
    crypto.setup_initial(header.destination_connection_id, is_client=False, version=version)
    length = len(_PACKET_NUMBER) + len(frame) + crypto.aead_tag_size
    plain_header = b"".join(
        (
            bytes((first,)),
            version.to_bytes(4, "big"),
            bytes((len(header.source_connection_id),)),
            header.source_connection_id,
            bytes((len(header.destination_connection_id),)),
            header.destination_connection_id,
            # No token, and the length in one byte.
            bytes((0, length)),
            _PACKET_NUMBER,
        )
    )
    return crypto.encrypt_packet(plain_header, frame, 0)
