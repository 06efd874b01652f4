"""Backends' certificates are accepted over QUIC as over TCP, and for the same reasons refused."""

import functools
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from spooky._core.h3_client import TLS_CERTIFICATE_ERRORS
from spooky.protocol.quic.certificates import CertificateSelector
from spooky.protocol.quic.engines import ENGINES, Engine
from spooky.upstream.dial import UpstreamTls
from tests.certificates import (
    CLIENT_AUTH,
    Credentials,
    ca,
    expired,
    leaf,
    shared_ca,
    shared_server,
    signed_anew,
)
from tests.protocol.quic.support import (
    Endpoints,
    client_parameters,
    identity_of,
    server_parameters,
)


class Case(NamedTuple):
    """A backend and what is known of it; ``accepted`` is what both ways have to say."""

    name: str
    server: Callable[[], Credentials]
    asked: str = "one.example.test"
    authority: Callable[[], Credentials] = shared_ca
    verifies: bool = True
    strict: bool = True
    accepted: bool = True


def below_an_intermediate() -> Credentials:
    return leaf(["one.example.test"], ca("Intermediate", issuer=shared_ca()))


def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, bits)


def below(authority: Credentials) -> Credentials:
    return leaf(["one.example.test"], authority)


@functools.cache
def rsa_root() -> Credentials:
    """ECDSA has no signatures of MD5."""
    return ca("RSA root", key=rsa_key(2048))


def below_one_signed_by(digest: str) -> Credentials:
    return below(signed_anew(ca("Intermediate", issuer=rsa_root()), rsa_root(), digest))


@functools.cache
def weak_root() -> Credentials:
    return ca("Weak root", key=rsa_key(1024))


@functools.cache
def small_curve() -> Credentials:
    return ca("Small curve", key=ec.generate_private_key(ec.SECP192R1()))


@functools.cache
def old_root() -> Credentials:
    root = ca("Old root")
    return signed_anew(root, root, "sha1")


@functools.cache
def old_own() -> Credentials:
    return signed_anew(OWN, OWN, "sha1")


def with_use(**uses: bool) -> Credentials:
    """Return a server whose key may be used for some things only."""
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    usage = x509.KeyUsage(**{name: uses.get(name, False) for name in names})
    return leaf(["one.example.test"], shared_ca(), usage=usage)


def named_like_an_address() -> Credentials:
    return leaf(["one.example.test"], shared_ca(), also=[x509.DNSName("127.0.0.1")])


OWN = leaf(["one.example.test"], None)

WEAK_CASES = [
    Case(
        "a key that is too short",
        lambda: leaf(["one.example.test"], shared_ca(), key=rsa_key(1024)),
        accepted=False,
    ),
    Case(
        "a key that is long enough",
        lambda: leaf(["one.example.test"], shared_ca(), key=rsa_key(2048)),
    ),
    Case(
        "an authority whose key is too short",
        lambda: below(weak_root()),
        authority=weak_root,
        accepted=False,
    ),
    Case(
        "an authority on a curve that is too small",
        lambda: below(small_curve()),
        authority=small_curve,
        accepted=False,
    ),
    Case(
        "an authority that signed itself with SHA-1", lambda: below(old_root()), authority=old_root
    ),
    Case(
        "signed with SHA-1",
        lambda: signed_anew(below(shared_ca()), shared_ca(), "sha1"),
        accepted=False,
    ),
    Case(
        "an intermediate signed with SHA-1",
        lambda: below_one_signed_by("sha1"),
        authority=rsa_root,
        accepted=False,
    ),
    Case(
        "an intermediate signed with MD5",
        lambda: below_one_signed_by("md5"),
        authority=rsa_root,
        accepted=False,
    ),
    Case(
        "an intermediate signed with SHA-224",
        lambda: below_one_signed_by("sha224"),
        authority=rsa_root,
    ),
    Case("its own authority, signed with SHA-1", old_own, authority=old_own),
    Case("a key for content only", lambda: with_use(content_commitment=True), accepted=False),
    Case("a key for signing certificates", lambda: with_use(key_cert_sign=True), accepted=False),
    Case("named like an address", named_like_an_address, "127.0.0.1", accepted=False),
]

CASES = [
    *WEAK_CASES,
    Case("a wildcard", shared_server),
    Case("a name", shared_server, "example.test"),
    Case("a name in capitals", shared_server, "EXAMPLE.test"),
    Case("an address", shared_server, "127.0.0.1"),
    Case("an IPv6 address", shared_server, "::1"),
    Case("an intermediate", below_an_intermediate),
    Case(
        "an intermediate of another authority",
        below_an_intermediate,
        authority=lambda: ca("Other"),
        accepted=False,
    ),
    Case("its own authority", lambda: OWN, authority=lambda: OWN),
    Case("another authority", shared_server, authority=lambda: ca("Other"), accepted=False),
    Case("self-signed", lambda: OWN, accepted=False),
    Case("another name", shared_server, "example.org", accepted=False),
    Case("two labels for a wildcard", shared_server, "a.b.example.test", accepted=False),
    Case("another address", shared_server, "127.0.0.2", accepted=False),
    Case(
        "a wildcard for everybody",
        lambda: leaf(["*.test"], shared_ca()),
        "one.test",
        accepted=False,
    ),
    Case("expired", lambda: expired(["one.example.test"], shared_ca()), accepted=False),
    Case(
        "for clients only",
        lambda: leaf(["one.example.test"], shared_ca(), purposes=[CLIENT_AUTH]),
        accepted=False,
    ),
    Case("another name that does not matter", shared_server, "example.org", strict=False),
    Case(
        "another authority where names do not matter",
        shared_server,
        "example.org",
        authority=lambda: ca("Other"),
        strict=False,
        accepted=False,
    ),
    Case("nothing verified", lambda: OWN, "example.org", verifies=False),
]


def identity(case: Case) -> UpstreamTls:
    return UpstreamTls(case.verifies, case.strict, case.authority().certificate_pem)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_over_tcp(case: Case, tmp_path: Path) -> None:
    """The reference, in memory."""
    chain, credentials = tmp_path / "chain.pem", case.server()
    chain.write_bytes(credentials.certificate_pem + credentials.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # The client is to judge.
    context.load_cert_chain(chain)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(there, back, server_side=True)
    client = identity(case).context("http2").wrap_bio(back, there, server_hostname=case.asked)
    found = True
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                found = False
            except ssl.SSLError:
                assert not found
    assert found is case.accepted


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_over_quic(case: Case, engine: Engine) -> None:
    tls = identity(case).quic
    ends = Endpoints(
        engines=(engine, engine),
        server=server_parameters(certificates=CertificateSelector({}, identity_of(case.server()))),
        client=client_parameters(verify=False, verifier=tls.verifier),
        server_name=case.asked,
    )
    handler = ends.client_handler
    assert ends.run(lambda: bool(handler.handshake or handler.closes), 30)
    assert bool(handler.handshake) is case.accepted
    if not case.accepted:
        (close,) = handler.closes
        assert close.error_code in TLS_CERTIFICATE_ERRORS
        assert not close.by_peer
        assert close.phrase.startswith("the server's certificate is ")


def test_authorities_that_cannot_be_read_are_refused() -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(ValueError, match="cannot read certificates"):
        _ = UpstreamTls(ca_pem=broken).quic
