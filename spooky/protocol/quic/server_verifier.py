"""Whether a server's certificate is accepted: by OpenSSL, as for TLS over TCP."""

import datetime
import ipaddress
import re
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from spooky.protocol.quic.certificates import wildcard_of

PEM_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)

DATE_ERRORS: Final = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""

WILDCARD_DOTS_MIN: Final = 2
"""``*.example.test`` stands for hosts; ``*.test`` would stand for everybody's."""

MODULUS_MIN_BITS: Final = 2048
CURVE_MIN_BITS: Final = 224
DIGEST_MIN_BYTES: Final = 28
"""What 112 bits of security take, as ``ssl`` asks for (NIST SP 800-57 part 1, tables 2 and 3)."""


class ServerCertificateFault(Enum):
    """What is wrong with a server's certificate."""

    EXPIRED = "expired or not yet valid"
    PURPOSE = "not for server authentication"
    WEAK = "too weak"
    UNTRUSTED = "not issued by a trusted authority"
    NAME = "not for this server"
    MALFORMED = "malformed"


class ServerCertificateError(Exception):
    """A server's certificate was not accepted."""

    def __init__(self, fault: ServerCertificateFault, detail: str) -> None:
        super().__init__(f"the server's certificate is {fault.value}: {detail}")
        self.fault = fault


class ServerVerifier:
    """Decides whether a server's certificate is accepted.

    The same authorities vouch for the same servers as over TCP, where ``ssl`` has OpenSSL build
    the chain: a server's own certificate may be one of them, for instance.

    Arguments:
        authorities_pem: The certificates that a chain may end in; PEM.
        checks_name: Whether the certificate has to be for the name or address of the server.

    Raises:
        ValueError: The authorities cannot be read.
    """

    def __init__(self, authorities_pem: bytes, *, checks_name: bool) -> None:
        self._checks_name = checks_name
        self._store = crypto.X509Store()
        try:
            for block in PEM_CERTIFICATE.findall(authorities_pem):
                self._store.add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, block))
        except crypto.Error as error:
            raise ValueError(f"cannot read certificates: {error}") from error

    def verify(
        self, chain: Sequence[x509.Certificate], server_name: str, at: datetime.datetime
    ) -> None:
        """Check a chain: trust, signatures, dates, constraints, strength, purpose, and the name.

        Arguments:
            chain: The server's certificate and what it sent with it.
            server_name: The name or address that the server was asked for by.
            at: The time for which it must be valid, UTC.

        Raises:
            ServerCertificateError: It is not accepted.
        """
        try:
            found = self._build_chain(chain, at)
            _check_strength(found)
            _check_purpose(found)
            if self._checks_name and not _is_for(chain[0], server_name):
                raise ServerCertificateError(ServerCertificateFault.NAME, server_name)
        except (
            ValueError,
            UnsupportedAlgorithm,
            x509.DuplicateExtension,
            x509.InvalidVersion,
            x509.UnsupportedGeneralNameType,
            crypto.Error,
        ) as error:
            # Extensions and names are parsed only now, when something asks for them; and OpenSSL
            # does not read all that was read so far.
            raise ServerCertificateError(ServerCertificateFault.MALFORMED, str(error)) from error

    def _build_chain(
        self, chain: Sequence[x509.Certificate], at: datetime.datetime
    ) -> list[x509.Certificate]:
        """Return the chain up to an authority."""
        first, *others = map(crypto.X509.from_cryptography, chain)
        self._store.set_time(at)
        try:
            found = crypto.X509StoreContext(self._store, first, others).get_verified_chain()
        except crypto.X509StoreContextError as error:
            fault = ServerCertificateFault.UNTRUSTED
            if error.errors[0] in DATE_ERRORS:
                fault = ServerCertificateFault.EXPIRED
            raise ServerCertificateError(fault, str(error)) from error
        return [each.to_cryptography() for each in found]


@lru_cache(maxsize=16)
def verifier_of(authorities: bytes) -> ServerVerifier:
    """Return what judges certificates by authorities alone; to read a bundle takes milliseconds.

    Arguments:
        authorities: PEM.

    Raises:
        ValueError: They cannot be read.
    """
    return ServerVerifier(authorities, checks_name=True)


def _check_strength(chain: Sequence[x509.Certificate]) -> None:
    """Refuse keys and signatures that can be forged; whom the authority is signed by is no matter.

    OpenSSL does that for ``ssl``, at a security level that it was not told of here.
    """
    for each in chain:
        _check_key(each)
    for each in chain[:-1]:
        digest = each.signature_hash_algorithm
        if digest is not None and digest.digest_size < DIGEST_MIN_BYTES:
            raise ServerCertificateError(ServerCertificateFault.WEAK, f"signed by {digest.name}")


def _check_key(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        least = MODULUS_MIN_BITS
    elif isinstance(key, ec.EllipticCurvePublicKey):
        least = CURVE_MIN_BITS
    else:
        return
    if key.key_size < least:
        raise ServerCertificateError(ServerCertificateFault.WEAK, f"a key of {key.key_size} bits")


def _check_purpose(chain: Sequence[x509.Certificate]) -> None:
    """Heed who may vouch for servers, and whether this is one; OpenSSL was not asked that."""
    for each in chain:
        try:
            purposes = each.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            continue  # Any purpose (RFC 5280 section 4.2.1.12).
        if ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
            raise ServerCertificateError(ServerCertificateFault.PURPOSE, "see its key usage")
    try:
        usage = chain[0].extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return  # Any use.
    # What a handshake needs, with one key exchange or another.
    if not (usage.digital_signature or usage.key_encipherment or usage.key_agreement):
        raise ServerCertificateError(ServerCertificateFault.PURPOSE, "see its key usage")


def _is_for(certificate: x509.Certificate, server_name: str) -> bool:
    """Return whether a certificate names a server (RFC 9525 section 6).

    An address is no name, even if a certificate says so (section 6.5).
    """
    try:
        address = ipaddress.ip_address(server_name.partition("%")[0])
    except ValueError:
        name = server_name.lower().removesuffix(".")
    else:
        return address in _alternatives(certificate, x509.IPAddress)
    names = {str(each).lower() for each in _alternatives(certificate, x509.DNSName)}
    wildcard = wildcard_of(name)
    return name in names or (wildcard.count(".") >= WILDCARD_DOTS_MIN and wildcard in names)


def _alternatives(
    certificate: x509.Certificate, kind: type[x509.DNSName] | type[x509.IPAddress]
) -> list[object]:
    """Return the subject's alternative names of a kind."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value.get_values_for_type(kind))
