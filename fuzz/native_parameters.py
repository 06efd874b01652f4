"""Transport parameters as the native engine reads them, of clients and of servers.

The first byte chooses who said them. What aioquic reads of the same bytes is the oracle; it allows
more. The engine exists compiled only.
"""

from collections.abc import Iterator

from aioquic.buffer import Buffer, BufferReadError
from aioquic.quic.packet import pull_quic_transport_parameters

from fuzz.transport_parameters import parameter
from fuzz.transport_parameters import seeds as seeds_of_clients
from spooky import _core

if _core.COMPILED:
    from spooky._core.quic.errors import QuicError, TransportError
    from spooky._core.quic.transport_parameters import TransportParameters, decode

NUMBERS = (
    "max_idle_timeout",
    "initial_max_data",
    "initial_max_stream_data_bidi_local",
    "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "ack_delay_exponent",
    "max_ack_delay",
    "active_connection_id_limit",
)
CONNECTION_IDS = (
    "original_destination_connection_id",
    "initial_source_connection_id",
    "retry_source_connection_id",
    "stateless_reset_token",
)

VERSION_INFORMATION = 0x11

OWN = parameter(0x0F, b"chosen")
"""Without it every input would end the same way; a second one is refused."""

KEPT = (*NUMBERS, *CONNECTION_IDS, "max_udp_payload_size", "chosen_version")
"""What comes back from encoding; we never say that the address may not change."""

VERSIONS_MAX = 10
"""Versions that are said; more are heeded."""


def seeds() -> Iterator[bytes]:
    """Yield what the clients' target has, as either side's, and what only servers say."""
    for seed in seeds_of_clients():
        yield from (b"\0" + seed[1:], b"\1" + seed[1:])
    yield b"\1" + parameter(0x10, bytes(range(20))) + parameter(0x00, bytes(20))
    yield b"\1" + parameter(0x0D, bytes(24) + b"\x14" + bytes(36))


def run(data: bytes) -> None:
    """Read them, compare, and read again what is written of them."""
    if not _core.COMPILED:
        return
    from_client = not data or data[0] % 2 == 0
    encoded = data[1:] + OWN
    try:
        found = decode(encoded, from_client)
    except QuicError as error:
        if error.error_code != TransportError.TRANSPORT_PARAMETER_ERROR:
            raise
        return
    check_limits(found, from_client)
    compare(found, encoded)
    again = decode(found.encode(), from_client)
    for name in KEPT:
        assert getattr(again, name) == getattr(found, name), name
    assert again.available_versions == found.available_versions[:VERSIONS_MAX]


def check_limits(found: "TransportParameters", from_client: bool) -> None:
    """See that nothing is accepted that RFC 9000 section 18.2 forbids."""
    assert 1200 <= found.max_udp_payload_size <= 65_527
    assert found.ack_delay_exponent <= 20
    assert found.max_ack_delay < 1 << 14
    assert found.active_connection_id_limit >= 2
    assert max(found.initial_max_streams_bidi, found.initial_max_streams_uni) <= 1 << 60
    for name in CONNECTION_IDS[:3]:
        assert len(getattr(found, name) or b"") <= 20, name
    assert len(found.stateless_reset_token or bytes(16)) == 16
    if from_client:
        assert found.original_destination_connection_id is None
        assert found.retry_source_connection_id is None
        assert found.stateless_reset_token is None


def known(encoded: bytes) -> Iterator[bytes]:
    """Yield the parameters that we read: aioquic has some more, whose values may be anything."""
    buffer = Buffer(data=encoded)
    while not buffer.eof():
        number = buffer.pull_uint_var()
        value = buffer.pull_bytes(buffer.pull_uint_var())
        if number <= VERSION_INFORMATION:
            yield parameter(number, value)


def compare(found: "TransportParameters", encoded: bytes) -> None:
    """Hold what was read against what aioquic reads."""
    try:
        oracle = pull_quic_transport_parameters(Buffer(data=b"".join(known(encoded))))
    except (BufferReadError, ValueError) as error:
        raise AssertionError("aioquic cannot read what we can") from error
    for name in (*NUMBERS, *CONNECTION_IDS):
        expected = getattr(oracle, name)
        if expected is not None:
            assert getattr(found, name) == expected, name
    assert found.disable_active_migration == bool(oracle.disable_active_migration)
