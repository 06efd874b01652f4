"""Headers as a dispatcher reads them (RFC 8999, RFC 9000 section 17, RFC 9369 section 3.2)."""

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import (
    QuicPacketType,
    encode_long_header_first_byte,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol.quic.packet import (
    CONNECTION_ID_LENGTH,
    VERSION_1,
    VERSION_2,
    ConnectionIds,
    PacketHeader,
    PacketType,
    initial_token,
    parse_header,
    version_negotiation,
)

VERSIONS = (VERSION_1, VERSION_2)


def long_packet(
    version: int = VERSION_1,
    first: int = 0xC0,
    destination: bytes = b"destined",
    source: bytes = b"sources",
    size: int = 1200,
) -> bytes:
    header = (
        bytes((first,))
        + version.to_bytes(4, "big")
        + bytes((len(destination),))
        + destination
        + bytes((len(source),))
        + source
    )
    return header + bytes(max(0, size - len(header)))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (QuicPacketType.INITIAL, PacketType.INITIAL),
        (QuicPacketType.ZERO_RTT, PacketType.ZERO_RTT),
        (QuicPacketType.HANDSHAKE, PacketType.HANDSHAKE),
        (QuicPacketType.RETRY, PacketType.RETRY),
    ],
)
def test_type_bits_follow_the_version(
    version: int, theirs: QuicPacketType, ours: PacketType
) -> None:
    header = parse_header(long_packet(version, encode_long_header_first_byte(version, theirs, 0)))
    assert header == PacketHeader(ours, version, b"destined", b"sources", 1200)
    assert header.is_long
    assert header.is_initial == (ours is PacketType.INITIAL)


def test_short_header_has_an_8_byte_connection_id() -> None:
    header = parse_header(b"\x40" + b"12345678" + bytes(20))
    assert header == PacketHeader(PacketType.ONE_RTT, None, b"12345678", b"", 29)
    assert not header.is_long


def test_packets_without_the_fixed_bit_are_refused() -> None:
    """RFC 9000 section 17.2 and 17.3; Version Negotiation is exempt (section 17.2.1)."""
    assert parse_header(b"\x00" + bytes(30)) is None
    assert parse_header(long_packet(first=0x80)) is None
    negotiation = parse_header(long_packet(version=0, first=0x80))
    assert negotiation is not None
    assert negotiation.type is PacketType.VERSION_NEGOTIATION


def test_connection_ids_are_limited_only_in_versions_we_know() -> None:
    """RFC 8999 section 5.1 allows 255 bytes, RFC 9000 section 17.2 allows 20."""
    assert parse_header(long_packet(destination=bytes(21))) is None
    assert parse_header(long_packet(source=bytes(21))) is None
    other = parse_header(long_packet(version=0xFACEB002, destination=bytes(255), source=bytes(255)))
    assert other is not None
    assert other.type is PacketType.UNKNOWN
    assert len(other.destination_connection_id) == len(other.source_connection_id) == 255


@given(st.binary(max_size=600))
def test_any_bytes_give_a_header_or_none(data: bytes) -> None:
    header = parse_header(data)
    assert header is None or header.datagram_size == len(data)


@given(
    st.integers(0, 255),
    st.sampled_from([0, VERSION_1, VERSION_2, 0xFACEB002]),
    st.binary(max_size=40),
    st.binary(max_size=40),
    st.integers(0, 80),
)
def test_headers_agree_with_aioquic(
    first: int, version: int, destination: bytes, source: bytes, cut: int
) -> None:
    data = long_packet(version, first, destination, source, 64)[:cut]
    ours = parse_header(data)
    try:
        theirs = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_LENGTH)
    except ValueError:
        return  # aioquic reads further than the fields of RFC 8999 and refuses more.
    if len(data) < 9:
        return
    assert ours is not None
    assert ours.version == theirs.version
    assert ours.destination_connection_id == theirs.destination_cid
    assert ours.source_connection_id == theirs.source_cid
    if version != 0xFACEB002:
        assert ours.type.name == theirs.packet_type.name


def test_version_negotiation_answers_with_connection_ids_swapped() -> None:
    """RFC 9000 section 17.2.1."""
    header = parse_header(long_packet(version=0xFACEB002))
    assert header is not None
    answer = version_negotiation(header, VERSIONS)
    assert answer is not None
    parsed = pull_quic_header(Buffer(data=answer))
    assert parsed.packet_type is QuicPacketType.VERSION_NEGOTIATION
    assert (parsed.destination_cid, parsed.source_cid) == (b"sources", b"destined")
    assert parsed.supported_versions == list(VERSIONS)


def test_version_negotiation_is_not_given_to_everyone() -> None:
    """Attack 15: no loops, no amplification (RFC 9000 sections 6.1 and 14.1, aioquic#635)."""
    negotiation = encode_quic_version_negotiation(b"12345678", b"87654321", [VERSION_1])
    for datagram in (
        negotiation + bytes(1200),
        long_packet(version=0xFACEB002, size=1199),
        long_packet(version=VERSION_2),
        b"\x40" + bytes(1300),
    ):
        header = parse_header(datagram)
        assert header is not None
        assert version_negotiation(header, VERSIONS) is None


def test_connection_ids_carry_the_slot_and_do_not_repeat() -> None:
    connection_ids = ConnectionIds(7)
    made = {connection_ids.make() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(each) for each in made} == {CONNECTION_ID_LENGTH}
    assert {each[0] for each in made} == {7}


@pytest.mark.parametrize("length", [0, 1, 63, 64, 1000])
def test_the_token_of_an_initial_is_what_its_length_says(length: int) -> None:
    """RFC 9000 section 17.2.2."""
    token = Buffer(capacity=8)
    token.push_uint_var(length)
    head = long_packet(size=0) + token.data
    assert initial_token(head + b"t" * length + bytes(100)) == b"t" * length
    assert initial_token(head + b"t" * length) == b"t" * length
    if length:
        assert initial_token(head + b"t" * (length - 1)) is None


@given(st.binary(max_size=20))
def test_a_packet_may_end_anywhere_in_its_token(rest: bytes) -> None:
    buffer = Buffer(data=rest)
    try:
        expected = buffer.pull_bytes(buffer.pull_uint_var())
    except ValueError:
        expected = None
    assert initial_token(long_packet(size=0) + rest) == expected
