"""Both providers protect packets as the samples of the RFCs say."""

from collections.abc import Iterator

import pytest

from spooky._core.quic import crypto
from tests.core.quic.protection import PROVIDERS, mask_header, protect
from tests.core.quic.vectors import (
    APPLICATION_SECRET,
    CLIENT_PAYLOAD,
    CONNECTION_ID,
    SERVER_PAYLOAD,
    VERSIONS,
    Version,
)

AES_128 = crypto.TLS_AES_128_GCM_SHA256
CHACHA20 = crypto.TLS_CHACHA20_POLY1305_SHA256

every_version = pytest.mark.parametrize("version", VERSIONS, ids=["RFC 9001", "RFC 9369"])


@pytest.fixture(autouse=True, params=PROVIDERS)
def _provider(request: pytest.FixtureRequest) -> Iterator[None]:
    crypto.use_provider(request.param)
    yield
    crypto.use_provider(crypto.LIBCRYPTO)


@every_version
def test_initial_secrets_come_from_the_connection_id(version: Version) -> None:
    """Appendix A.1."""
    secrets = crypto.initial_secrets(version.number, CONNECTION_ID)
    assert tuple(secret.hex() for secret in secrets) == version.secrets


@every_version
@pytest.mark.parametrize("side", ["client", "server"])
def test_initial_packets_are_protected(version: Version, side: str) -> None:
    """Appendices A.2 and A.3."""
    is_client = side == "client"
    header, beginning, end = map(
        bytes.fromhex, version.client_initial if is_client else version.server_initial
    )
    payload, number = (CLIENT_PAYLOAD, 2) if is_client else (SERVER_PAYLOAD, 1)
    secret = crypto.initial_secrets(version.number, CONNECTION_ID)[not is_client]
    packet = protect(AES_128, version.number, secret, number, header, payload)
    assert len(packet) == len(header) + len(payload) + 16
    assert packet.startswith(beginning)
    assert packet.endswith(end)

    mask = crypto.header_key(AES_128, version.number, secret)
    opening = crypto.packet_key(AES_128, version.number, secret, sealing=False)
    opened = mask_header(mask, packet, len(header), (header[0] & 3) + 1)
    assert opened[: len(header)] == header
    assert opening.open_bytes(number, header, opened[len(header) :]) == payload


@every_version
def test_retry_packets_are_signed(version: Version) -> None:
    """Appendix A.4."""
    packet = bytes.fromhex(version.retry)
    tag = crypto.retry_integrity_tag(version.number, CONNECTION_ID, packet[:-16])
    assert tag == packet[-16:]


@every_version
def test_short_headers_are_protected_with_chacha20(version: Version) -> None:
    """Appendix A.5."""
    header, expected = map(bytes.fromhex, version.short)
    packet = protect(CHACHA20, version.number, APPLICATION_SECRET, 654360564, header, b"\1")
    assert packet == expected


@every_version
def test_a_key_update_gives_the_next_secret(version: Version) -> None:
    """Appendix A.5."""
    updated = crypto.next_secret(CHACHA20, version.number, APPLICATION_SECRET)
    assert updated.hex() == version.updated
