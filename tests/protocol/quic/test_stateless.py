"""Packets to clients without a connection, as their RFCs have them."""

import hmac

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode, QuicPacketType, pull_quic_header

from spooky.protocol.quic.keys import RESET, Keys
from spooky.protocol.quic.packet import VERSION_1, VERSION_2, PacketHeader, PacketType
from spooky.protocol.quic.stateless import (
    RESET_MAX_BYTES,
    RESET_MIN_BYTES,
    RESET_TOKEN_BYTES,
    ResetTokens,
    invalid_token_close,
    retry_packet,
    stateless_reset,
)

KEYS = Keys(1, b"a" * 32, (), b"f" * 32)
VERSIONS = (VERSION_1, VERSION_2)


def initial(version: int, destination: bytes = b"destined", source: bytes = b"") -> PacketHeader:
    return PacketHeader(PacketType.INITIAL, version, destination, source, 1200)


def short(size: int) -> PacketHeader:
    return PacketHeader(PacketType.ONE_RTT, None, b"destined", b"", size)


@pytest.mark.parametrize(
    ("version", "example"),
    [
        (
            VERSION_1,
            "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba",
        ),
        (
            VERSION_2,
            "cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6",
        ),
    ],
)
def test_retry_is_as_in_the_examples(
    version: int, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9001 appendix A.4 and RFC 9369 appendix A.4."""
    monkeypatch.setattr("secrets.randbits", lambda bits: (1 << bits) - 1)
    header = initial(version, bytes.fromhex("8394c8f03e515708"))
    assert retry_packet(header, bytes.fromhex("f067a5502a4262b5"), b"token").hex() == example


@pytest.mark.parametrize("version", VERSIONS)
def test_the_refusal_of_a_token_is_a_close_that_the_client_can_open(version: int) -> None:
    """RFC 9000 section 8.1.2, under the Initial keys of RFC 9001 section 5.2."""
    packet = invalid_token_close(initial(version, b"retry-id", b"client"))
    buffer = Buffer(data=packet)
    header = pull_quic_header(buffer, host_cid_length=6)
    assert (header.packet_type, header.version) == (QuicPacketType.INITIAL, version)
    assert (header.destination_cid, header.token) == (b"client", b"")
    crypto = CryptoPair()
    crypto.setup_initial(b"retry-id", is_client=True, version=version)
    _, frames, _ = crypto.decrypt_packet(packet, buffer.tell(), 0)
    assert frames == bytes((0x1C, QuicErrorCode.INVALID_TOKEN, 0, 0))
    assert QuicErrorCode.INVALID_TOKEN == 0x0B


@pytest.mark.parametrize("size", [*range(9, 50), 1200])
def test_a_reset_is_always_smaller_than_what_it_answers(size: int) -> None:
    """RFC 9000 section 10.3.3: two that know nothing of each other fall silent."""
    reset = stateless_reset(short(size), b"t" * RESET_TOKEN_BYTES)
    if size <= RESET_MIN_BYTES:
        assert reset is None
        return
    assert reset is not None
    assert len(reset) == min(size - 1, RESET_MAX_BYTES)
    assert reset[0] & 0xC0 == 0x40, "it looks like a packet with a short header"
    assert reset[-RESET_TOKEN_BYTES:] == b"t" * RESET_TOKEN_BYTES


def test_resets_are_unpredictable_but_for_the_token() -> None:
    """RFC 9000 section 10.3: at least 38 bits."""
    made = [stateless_reset(short(1200), b"t" * RESET_TOKEN_BYTES) or b"" for _ in range(200)]
    assert len({reset[1:-RESET_TOKEN_BYTES] for reset in made}) == 200
    assert len({reset[0] for reset in made}) > 32


@pytest.mark.parametrize("kind", [PacketType.HANDSHAKE, PacketType.ZERO_RTT, PacketType.INITIAL])
def test_long_headers_are_answered_with_no_reset(kind: PacketType) -> None:
    header = PacketHeader(kind, VERSION_1, b"destined", b"source", 1200)
    assert stateless_reset(header, bytes(RESET_TOKEN_BYTES)) is None


def test_a_reset_token_is_of_one_connection_id_and_listener_and_outlives_rotations() -> None:
    """RFC 9000 sections 10.3.2 and 21.11."""
    token = ResetTokens(KEYS, "192.0.2.1 443").of(b"destined")
    # The same whatever makes it: kernels, their twins, and the release before this one.
    key = KEYS.derived_fixed(RESET)
    assert token == hmac.digest(key, b"192.0.2.1 443\0destined", "sha256")[:16]
    assert len(token) == RESET_TOKEN_BYTES
    rotated = KEYS.rotated(b"b" * 32).rotated(b"c" * 32)
    assert ResetTokens(rotated, "192.0.2.1 443").of(b"destined") == token
    others = {
        ResetTokens(KEYS, "192.0.2.1 443").of(b"destinee"),
        ResetTokens(KEYS, "192.0.2.1 444").of(b"destined"),
        ResetTokens(Keys(1, b"a" * 32, (), b"g" * 32), "192.0.2.1 443").of(b"destined"),
    }
    assert len(others | {token}) == 4
