"""A certificate made on the spot, for a proxy started without one."""

import datetime
import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME: Final = datetime.timedelta(days=30)
"""Long enough for a trial, too short to end up in production unnoticed."""

CLOCK_SKEW: Final = datetime.timedelta(hours=1)
"""How far into the past validity starts, for clients whose clock is behind."""

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")


class SelfSigned(NamedTuple):
    """A self-signed certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


def self_signed(names: Sequence[str] = (), now: datetime.datetime | None = None) -> SelfSigned:
    """Make a self-signed ECDSA P-256 certificate for this machine's local names.

    Args:
        names: More names it covers: DNS names, wildcards, or IP addresses.
        now: When it is made; the present if not given.

    Raises:
        ValueError: A name is neither an address nor ASCII.
    """
    made = now or datetime.datetime.now(datetime.UTC)
    covered = list(dict.fromkeys([*names, *LOCAL_NAMES]))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Spooky self-signed")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made - CLOCK_SKEW)
        .not_valid_after(made + LIFETIME)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in covered]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return SelfSigned(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
