"""What can be said of the files that a configuration names without giving their content away."""

import datetime
import hashlib
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from msgspec import Struct

PEM_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class CertificateFacts(Struct, frozen=True):
    """What tells one certificate from another.

    Attributes:
        fingerprint: SHA-256 of the certificate, hexadecimal.
        chain: SHA-256 of what follows it in its file, hexadecimal; empty if nothing does.
        names: The DNS names that it covers, lowercase, in order, and the addresses.
        not_after: When it expires; with a time zone.
    """

    fingerprint: str
    chain: str
    names: tuple[str, ...]
    not_after: datetime.datetime


class FileFacts(Struct, frozen=True):
    """What tells one content of a file from another.

    Attributes:
        sha256: Of the content, hexadecimal.
        certificate: The first certificate in it, if it holds any.
    """

    sha256: str
    certificate: CertificateFacts | None = None


def describe_files(files: Mapping[str, bytes]) -> dict[str, FileFacts]:
    """Return the facts of each file.

    Arguments:
        files: Contents by the path that the configuration names.
    """
    return {path: _describe(content) for path, content in files.items()}


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """Return the DNS names that a certificate covers, lowercase, and the addresses."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    hosts = names.value.get_values_for_type(x509.DNSName)
    addresses = names.value.get_values_for_type(x509.IPAddress)
    return [*(host.lower() for host in hosts), *map(str, addresses)]


def names_cover(names: list[str] | tuple[str, ...], server_name: str) -> bool:
    """Return whether names of a certificate are good for a server name (RFC 9525 section 6.3)."""
    return server_name in names or f"*.{server_name.partition('.')[2]}" in names


def _describe(content: bytes) -> FileFacts:
    return FileFacts(hashlib.sha256(content).hexdigest(), _certificate(content))


def _certificate(content: bytes) -> CertificateFacts | None:
    if PEM_CERTIFICATE not in content:
        return None
    try:
        first, *others = x509.load_pem_x509_certificates(content)
    except ValueError:
        return None
    chain = hashlib.sha256(b"".join(other.fingerprint(hashes.SHA256()) for other in others))
    return CertificateFacts(
        fingerprint=first.fingerprint(hashes.SHA256()).hex(),
        chain=chain.hexdigest() if others else "",
        names=tuple(certificate_names(first)),
        not_after=first.not_valid_after_utc,
    )
