"""Choosing our certificate by name, and judging a client's (RFC 5280 section 6)."""

import datetime
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from spooky.protocol.quic.certificates import (
    CertificateChain,
    CertificateSelector,
    ClientCertificateError,
    ClientCertificateFault,
    ClientVerifier,
    ServerIdentity,
    normalize_server_name,
)
from tests.certificates import (
    CLIENT_AUTH,
    SERVER_AUTH,
    Credentials,
    ca,
    client_leaf,
    expired_client,
    leaf,
    now,
    shared_ca,
)
from tests.protocol.quic.support import chain_of, identity_of


def sent_by(credentials: Credentials) -> list[x509.Certificate]:
    return [credentials.certificate, *credentials.intermediates]


class TestChain:
    def test_it_knows_what_it_covers(self) -> None:
        intermediate = ca("Intermediate", issuer=shared_ca())
        chain = chain_of(leaf(["A.test", "*.b.test", "127.0.0.1"], intermediate))
        assert chain.names == {"a.test", "*.b.test", "127.0.0.1"}
        assert len(chain.intermediates) == 1
        assert chain.covers("a.test")
        assert chain.covers("x.B.test")
        assert chain.covers("*.b.test")
        assert not chain.covers("b.test")
        assert not chain.covers("x.y.b.test")
        assert not chain.covers("*.a.test")

    def test_a_key_of_another_certificate_is_refused(self) -> None:
        one, other = leaf(["a.test"], shared_ca()), leaf(["a.test"], shared_ca())
        with pytest.raises(ValueError, match="does not belong"):
            CertificateChain(one.certificate_pem, other.key_pem)

    @pytest.mark.parametrize("pem", [b"", b"no pem", b"-----BEGIN CERTIFICATE-----\nx"])
    def test_what_cannot_be_read_is_refused(self, pem: bytes) -> None:
        good = leaf(["a.test"], shared_ca())
        with pytest.raises(ValueError, match="cannot read certificates"):
            CertificateChain(pem, good.key_pem)
        with pytest.raises(ValueError, match="cannot read the private key"):
            CertificateChain(good.certificate_pem, pem)

    def test_a_key_the_handshake_cannot_use_is_refused(self) -> None:
        odd = leaf(["a.test"], shared_ca(), key=ec.generate_private_key(ec.SECP521R1()))
        with pytest.raises(ValueError, match="P-256"):
            chain_of(odd)

    def test_a_chain_that_overflows_the_handshake_buffer_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at most"):
            chain_of(leaf(["a.test"], shared_ca(), padding=16_000))


class TestSelector:
    exact = identity_of(leaf(["a.test"], shared_ca()))
    wildcard = identity_of(leaf(["*.a.test"], shared_ca()))
    default = identity_of(leaf(["default.test"], shared_ca()))
    by_name: ClassVar = {"A.test": exact, "*.a.test": wildcard}

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("a.test", exact),
            ("x.a.test", wildcard),
            ("x.y.a.test", None),
            ("b.test", None),
            ("test", None),
            (None, None),
        ],
    )
    def test_exact_then_wildcard_then_default(
        self, name: str | None, expected: ServerIdentity | None
    ) -> None:
        assert CertificateSelector(self.by_name, self.default).select(name) is (
            expected or self.default
        )
        assert CertificateSelector(self.by_name, self.default, strict=True).select(name) is expected

    def test_each_identity_and_each_chain_is_listed_once(self) -> None:
        selector = CertificateSelector({"a.test": self.exact, "b.test": self.exact}, self.exact)
        assert selector.identities == [self.exact]
        other = ServerIdentity(self.exact.chain)
        selector = CertificateSelector({"a.test": self.exact, "b.test": other}, None, strict=True)
        assert selector.identities == [self.exact, other]
        assert selector.chains == [self.exact.chain]

    def test_identities_ask_alike_that_trust_the_same(self) -> None:
        one, other = ca("one").certificate, ca("other").certificate

        def policy(*authorities: x509.Certificate, required: bool = True) -> bytes:
            verifier = ClientVerifier(authorities, required=required)
            return ServerIdentity(self.exact.chain, verifier).policy

        assert policy(one, other) == policy(other, one, one)
        policies = {policy(one), policy(other), policy(one, other), policy(one, required=False)}
        assert len(policies) == 4
        assert b"" not in policies
        assert self.exact.policy == b""

    def test_a_selector_that_could_present_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="default"):
            CertificateSelector({}, None)
        with pytest.raises(ValueError, match="default"):
            CertificateSelector(self.by_name, None)
        with pytest.raises(ValueError, match="default"):
            CertificateSelector({}, None, strict=True)

    @pytest.mark.parametrize(
        ("sent", "normal"),
        [
            ("EXAMPLE.test", "example.test"),
            ("under_score.test", "under_score.test"),
            (None, None),
            ("", None),
            ("a\nb", None),
            ("a.test.", None),
            ("-a.test", None),
            ("*.a.test", None),
            ("::1", None),
            ("a" * 254, None),
            ("a" * 60_000, None),
        ],
    )
    def test_server_names_are_host_names(self, sent: str | None, normal: str | None) -> None:
        """RFC 6066 section 3; nothing else may reach logs or lookups."""
        assert normalize_server_name(sent) == normal


class TestClientVerifier:
    root = ca("Client root")
    intermediate = ca("Client intermediate", issuer=root, path_length=0)
    verifier = ClientVerifier([root.certificate], required=True)

    def fault(self, *chain: x509.Certificate) -> ClientCertificateFault | None:
        try:
            self.verifier.verify(chain, now())
        except ClientCertificateError as error:
            return error.fault
        return None

    def test_certificates_of_the_authority_are_accepted(self) -> None:
        assert self.fault(*sent_by(client_leaf("alice", self.root))) is None
        assert self.fault(*sent_by(client_leaf("alice", self.intermediate))) is None

    def test_a_certificate_without_purposes_serves_any(self) -> None:
        """RFC 5280 section 4.2.1.12."""
        assert self.fault(*sent_by(client_leaf("alice", self.root, purposes=()))) is None

    def test_intermediates_may_come_in_any_order_and_with_strangers(self) -> None:
        client = client_leaf("alice", self.intermediate)
        stranger = ca("Stranger")
        assert (
            self.fault(client.certificate, stranger.certificate, self.intermediate.certificate)
            is None
        )

    def test_dates_are_checked_at_the_given_time(self) -> None:
        client = client_leaf("alice", self.root)
        later = now() + datetime.timedelta(days=31)
        with pytest.raises(ClientCertificateError) as caught:
            self.verifier.verify([client.certificate], later)
        assert caught.value.fault is ClientCertificateFault.EXPIRED
        early = now() - datetime.timedelta(days=31)
        with pytest.raises(ClientCertificateError):
            self.verifier.verify([client.certificate], early)

    @pytest.mark.parametrize(
        ("client", "fault"),
        [
            (expired_client("alice", root), ClientCertificateFault.EXPIRED),
            (
                client_leaf("alice", root, purposes=(SERVER_AUTH,)),
                ClientCertificateFault.PURPOSE,
            ),
            (client_leaf("alice", None), ClientCertificateFault.UNTRUSTED),
            (client_leaf("alice", ca("Other root")), ClientCertificateFault.UNTRUSTED),
            (client_leaf("alice", ca("Client root")), ClientCertificateFault.UNTRUSTED),
            (
                client_leaf("alice", ca("Too deep", issuer=intermediate)),
                ClientCertificateFault.UNTRUSTED,
            ),
            (
                leaf(
                    ["alice"],
                    root,
                    purposes=(CLIENT_AUTH,),
                    key=rsa.generate_private_key(65537, 1024),
                ),
                ClientCertificateFault.MALFORMED,
            ),
        ],
        ids=[
            "expired",
            "serverAuth only",
            "self-signed",
            "wrong authority",
            "wrong authority of the same name",
            "path length exceeded",
            "weak key",
        ],
    )
    def test_others_are_refused(self, client: Credentials, fault: ClientCertificateFault) -> None:
        assert self.fault(*sent_by(client)) is fault

    def test_a_missing_intermediate_is_not_guessed(self) -> None:
        client = client_leaf("alice", self.intermediate)
        assert self.fault(client.certificate) is ClientCertificateFault.UNTRUSTED

    def test_an_end_entity_issues_nothing(self) -> None:
        """RFC 5280 section 4.2.1.9: only a CA certificate may sign others."""
        issuer = leaf(["alice"], self.root, purposes=(CLIENT_AUTH,))
        client = client_leaf("mallory", issuer)
        assert self.fault(client.certificate, issuer.certificate) is (
            ClientCertificateFault.UNTRUSTED
        )

    def test_an_issuer_must_be_allowed_to_sign_certificates(self) -> None:
        """RFC 5280 section 4.2.1.3; absent key usage allows it, as openssl req -x509 writes."""
        for may_sign in (None, True, False):
            root = plain_root(may_sign)
            client = client_leaf("alice", root)
            verifier = ClientVerifier([root.certificate], required=True)
            if may_sign is False:
                with pytest.raises(ClientCertificateError):
                    verifier.verify([client.certificate], now())
            else:
                verifier.verify([client.certificate], now())

    def test_a_pile_of_certificates_is_refused(self) -> None:
        client = client_leaf("alice", self.root)
        assert self.fault(client.certificate, *[self.root.certificate] * 8) is (
            ClientCertificateFault.MALFORMED
        )

    def test_a_verifier_needs_an_authority(self) -> None:
        with pytest.raises(ValueError, match="no certificate authority"):
            ClientVerifier([], required=False)
        with pytest.raises(ValueError, match="cannot read"):
            ClientVerifier.from_pem(b"nothing", required=False)


def plain_root(may_sign: bool | None) -> Credentials:
    """Make a root with basic constraints, and key usage unless ``may_sign`` is ``None``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Plain root")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - datetime.timedelta(days=1))
        .not_valid_after(now() + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if may_sign is not None:
        usage = x509.KeyUsage(True, False, False, False, False, may_sign, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    return Credentials(builder.sign(key, hashes.SHA256()), key)
