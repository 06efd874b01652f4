"""Whether a server's certificate is accepted: by OpenSSL, as for TLS over TCP."""

import datetime
import ipaddress
import re
from collections.abc import Sequence
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from spooky.protocol.quic.certificates import certificate_names, wildcard_of

PEM_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)

DATE_ERRORS: Final = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""

WILDCARD_DOTS_MIN: Final = 2
"""``*.example.test`` stands for hosts; ``*.test`` would stand for everybody's."""


class ServerCertificateFault(Enum):
    """What is wrong with a server's certificate."""

    EXPIRED = "expired or not yet valid"
    PURPOSE = "not for server authentication"
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
        """Check a chain: trust, signatures, dates, constraints, purpose, and the name.

        Arguments:
            chain: The server's certificate and what it sent with it.
            server_name: The name or address that the server was asked for by.
            at: The time for which it must be valid, UTC.

        Raises:
            ServerCertificateError: It is not accepted.
        """
        try:
            self._check_purpose(self._build_chain(chain, at))
            if self._checks_name and not _is_for(chain[0], server_name):
                raise ServerCertificateError(ServerCertificateFault.NAME, server_name)
        except (
            ValueError,
            UnsupportedAlgorithm,
            x509.DuplicateExtension,
            x509.InvalidVersion,
            x509.UnsupportedGeneralNameType,
        ) as error:
            # Extensions and names are parsed only now, when something asks for them.
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

    @staticmethod
    def _check_purpose(chain: Sequence[x509.Certificate]) -> None:
        """Heed who may vouch for servers, and whether this is one; OpenSSL was not asked that."""
        for each in chain:
            try:
                purposes = each.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            except x509.ExtensionNotFound:
                continue  # Any purpose (RFC 5280 section 4.2.1.12).
            if ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
                raise ServerCertificateError(ServerCertificateFault.PURPOSE, "see its key usage")


def _is_for(certificate: x509.Certificate, server_name: str) -> bool:
    """Return whether a certificate names a server (RFC 9525 section 6)."""
    names = certificate_names(certificate)
    try:
        return str(ipaddress.ip_address(server_name.partition("%")[0])) in names
    except ValueError:
        name = server_name.lower().removesuffix(".")
    wildcard = wildcard_of(name)
    return name in names or (wildcard.count(".") >= WILDCARD_DOTS_MIN and wildcard in names)
