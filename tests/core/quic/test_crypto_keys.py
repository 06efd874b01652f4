"""Packet protection keys: a first check that both libraries agree on RFC 9001 appendix A."""

import pytest

from spooky._core.quic import crypto

CONNECTION_ID = bytes.fromhex("8394c8f03e515708")


@pytest.mark.parametrize("name", [crypto.LIBCRYPTO, crypto.CRYPTOGRAPHY])
def test_the_retry_packet_of_the_appendix_is_signed(name: str) -> None:
    crypto.use_provider(name)
    packet = bytes.fromhex("ff000000010008f067a5502a4262b5746f6b656e")
    tag = crypto.retry_integrity_tag(crypto.VERSION_1, CONNECTION_ID, packet)
    crypto.use_provider(crypto.LIBCRYPTO)
    assert tag == bytes.fromhex("04a265ba2eff4d829058fb3f0f2496ba")
