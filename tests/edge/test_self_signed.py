"""The certificate of a proxy that was started without one."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from spooky.edge.self_signed import self_signed
from spooky.protocol.quic.certificates import CertificateChain


def test_it_covers_this_machine_and_the_names_given() -> None:
    made = self_signed(["dev.test", "*.dev.test", "192.0.2.1", "localhost"])
    chain = CertificateChain(made.certificate, made.key)
    assert chain.names == {
        "dev.test",
        "*.dev.test",
        "192.0.2.1",
        "localhost",
        "127.0.0.1",
        "::1",
    }
    assert isinstance(chain.key, ec.EllipticCurvePrivateKey)


def test_it_is_valid_for_30_days_and_for_clocks_an_hour_behind() -> None:
    now = datetime.datetime(2030, 1, 2, 3, tzinfo=datetime.UTC)
    certificate = x509.load_pem_x509_certificate(self_signed(now=now).certificate)
    assert certificate.not_valid_before_utc == now - datetime.timedelta(hours=1)
    assert certificate.not_valid_after_utc == now + datetime.timedelta(days=30)


def test_two_are_not_the_same() -> None:
    assert self_signed().key != self_signed().key


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="A-label"):
        self_signed(["bücher.test"])
