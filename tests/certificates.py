"""A small certificate authority for tests: roots, intermediates, server and client certificates.

authority = ca()
server = leaf(["example.test", "*.example.test"], authority)
client = client_leaf("alice", authority)
write(server, tmp_path)  # -> paths of the chain and the key
"""

import datetime
import functools
import ipaddress
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from OpenSSL import crypto

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Credentials:
    """A certificate, its key, and the intermediates up to (not including) its root."""

    certificate: x509.Certificate
    key: PrivateKey
    intermediates: tuple[x509.Certificate, ...] = ()

    @property
    def certificate_pem(self) -> bytes:
        """The certificate followed by its intermediates."""
        return b"".join(
            certificate.public_bytes(serialization.Encoding.PEM)
            for certificate in (self.certificate, *self.intermediates)
        )

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


class Paths(NamedTuple):
    certificate: Path
    key: Path


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def ca(
    name: str = "Test root",
    *,
    issuer: Credentials | None = None,
    path_length: int | None = None,
    valid_for: datetime.timedelta = datetime.timedelta(days=365),
    key: PrivateKey | None = None,
) -> Credentials:
    """Make a root, or an intermediate when ``issuer`` is given."""
    return _issue(
        name,
        issuer,
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (_key_usage(certificate_sign=True), True),
        not_after=now() + valid_for,
        key=key,
    )


def leaf(
    names: Sequence[str],
    issuer: Credentials | None,
    *,
    purposes: Sequence[ObjectIdentifier] = (SERVER_AUTH,),
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
    key: PrivateKey | None = None,
    padding: int = 0,
    usage: x509.KeyUsage | None = None,
    also: Sequence[x509.GeneralName] = (),
) -> Credentials:
    """Make an end-entity certificate; self-signed when ``issuer`` is ``None``.

    Args:
        padding: Bytes by which to make the certificate larger.
        usage: What the key may be used for; else it may sign.
        also: More names.
    """
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage or _key_usage(certificate_sign=False), True),
    ]
    if names:
        alternatives = x509.SubjectAlternativeName([*map(_general_name, names), *also])
        extensions.append((alternatives, False))
    if purposes:
        extensions.append((x509.ExtendedKeyUsage(list(purposes)), False))
    if padding:
        extension = x509.UnrecognizedExtension(
            ObjectIdentifier("1.3.6.1.4.1.55555.1"), bytes(padding)
        )
        extensions.append((extension, False))
    return _issue(
        names[0] if names else "nameless",
        issuer,
        *extensions,
        not_before=not_before,
        not_after=not_after,
        key=key,
    )


def client_leaf(
    name: str,
    issuer: Credentials | None,
    *,
    purposes: Sequence[ObjectIdentifier] = (CLIENT_AUTH,),
    not_after: datetime.datetime | None = None,
) -> Credentials:
    """Make a client certificate with only a common name, as private authorities do."""
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if purposes:
        extensions.append((x509.ExtendedKeyUsage(list(purposes)), False))
    return _issue(name, issuer, *extensions, not_after=not_after)


def expired(names: Sequence[str], issuer: Credentials | None) -> Credentials:
    """Make a server certificate that ended yesterday."""
    return leaf(names, issuer, not_after=now() - datetime.timedelta(days=1))


def expired_client(name: str, issuer: Credentials | None) -> Credentials:
    """Make a client certificate that ended yesterday."""
    return client_leaf(name, issuer, not_after=now() - datetime.timedelta(days=1))


def signed_anew(credentials: Credentials, issuer: Credentials, digest: str) -> Credentials:
    """Sign a certificate with a digest that nobody should use any more."""
    certificate = crypto.X509.from_cryptography(credentials.certificate)
    with warnings.catch_warnings():
        # Their successors refuse to.
        warnings.simplefilter("ignore", DeprecationWarning)
        certificate.sign(crypto.PKey.from_cryptography_key(issuer.key), digest)
    return replace(credentials, certificate=certificate.to_cryptography())


@functools.cache
def shared_ca() -> Credentials:
    """Return one root for a whole test run."""
    return ca("Shared test root")


@functools.cache
def shared_server() -> Credentials:
    """Return one server certificate of :func:`shared_ca`, for localhost and example.test."""
    names = ["localhost", "example.test", "*.example.test", "127.0.0.1", "::1"]
    return leaf(names, shared_ca())


@functools.cache
def steady_ca() -> Credentials:
    """Return one root for :func:`steady_server`."""
    return ca("Steady test root", key=ed25519.Ed25519PrivateKey.generate())


@functools.cache
def steady_server() -> Credentials:
    """Return a server certificate whose handshakes have the same length in every run.

    ECDSA signatures vary by some bytes, which changes what a simulated network does.
    """
    names = ["localhost", "example.test", "*.example.test"]
    return leaf(names, steady_ca(), key=ed25519.Ed25519PrivateKey.generate())


def write(credentials: Credentials, folder: Path, stem: str = "server") -> Paths:
    """Write the chain and the key as PEM files and return their paths."""
    paths = Paths(folder / f"{stem}.pem", folder / f"{stem}.key")
    paths.certificate.write_bytes(credentials.certificate_pem)
    paths.key.write_bytes(credentials.key_pem)
    return paths


def _issue(
    name: str,
    issuer: Credentials | None,
    *extensions: tuple[x509.ExtensionType, bool],
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
    key: PrivateKey | None = None,
) -> Credentials:
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() | 1 << 158)  # Always 20 bytes.
        .not_valid_before(not_before or now() - datetime.timedelta(days=30))
        .not_valid_after(not_after or now() + datetime.timedelta(days=30))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    above: tuple[x509.Certificate, ...] = ()
    if issuer is not None and issuer.certificate.issuer != issuer.certificate.subject:
        above = (issuer.certificate, *issuer.intermediates)
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Credentials(builder.sign(signer, algorithm), key, above)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, certificate_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_sign,
        crl_sign=certificate_sign,
        encipher_only=False,
        decipher_only=False,
    )
