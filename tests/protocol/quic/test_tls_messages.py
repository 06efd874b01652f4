"""Certificates as either side presents them, and as none should (RFC 8446 section 4.4.2)."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spooky import _core
from spooky._core.quic.errors import Alert, TlsAlert
from spooky.protocol.quic.tls_messages import certificate_message, load_certificates
from tests.certificates import shared_server
from tests.protocol.quic.support import chain_of

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

VERSION_3 = bytes.fromhex("a003020102")
"""How a certificate says its version (RFC 5280 section 4.1.2.1)."""


def certificate() -> bytes:
    return chain_of(shared_server()).certificate.public_bytes(Encoding.DER)


def parse_certificate(message: bytes) -> tuple[x509.Certificate, ...]:
    # Not built without a compiler.
    from spooky._core.quic.tls_wire import read_certificates

    return load_certificates(read_certificates(message))


@pytest.mark.parametrize("version", [3, 5, 0x7F])
def test_a_certificate_of_an_unknown_version_is_a_bad_one(version: int) -> None:
    """Not a failure of ours: any client may send it before it has proven anything."""
    assert certificate().count(VERSION_3) == 1
    forged = certificate().replace(VERSION_3, VERSION_3[:-1] + bytes((version,)))
    with pytest.raises(TlsAlert) as caught:
        parse_certificate(certificate_message([forged]))
    assert caught.value.alert == Alert.BAD_CERTIFICATE


def test_a_certificate_cut_anywhere_is_a_bad_one() -> None:
    whole = certificate()
    for size in range(1, len(whole), 7):
        with pytest.raises(TlsAlert) as caught:
            parse_certificate(certificate_message([whole[:size]]))
        assert caught.value.alert == Alert.BAD_CERTIFICATE


def test_a_message_cut_anywhere_cannot_be_decoded() -> None:
    whole = certificate_message([certificate()])
    for size in range(4, len(whole), 7):
        with pytest.raises(TlsAlert) as caught:
            parse_certificate(whole[:size])
        assert caught.value.alert == Alert.DECODE_ERROR
