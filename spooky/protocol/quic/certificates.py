"""Certificates on both sides of a handshake: ours, chosen by server name, and verified clients'.

Nothing here belongs to one transport: a chain keeps its PEM text too, for ``ssl.SSLContext``.
"""

import datetime
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from spooky.protocol.quic.signatures import fitting_schemes
from spooky.protocol.quic.tls_messages import certificate_message

PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

CHAIN_MAX_SIZE: Final = 15 * 1024
"""Largest chain accepted, DER; bytes. aioquic writes a handshake flight into a buffer of 16 KiB,
of which the other messages need less than 1 KiB."""

RSA_MIN_BITS: Final = 2048
"""Smallest RSA key of a client (CA/Browser Forum, section 6.1.5)."""

CHAIN_MAX_DEPTH: Final = 4
"""Most intermediates between a client's certificate and an authority; a longer chain costs a
signature check each and is not met in practice."""

CLIENT_CHAIN_MAX_CERTIFICATES: Final = 8
"""Most certificates a client may send; path building tries combinations of them."""

POLICY_BYTES: Final = 16
"""Of what names a policy: enough that nobody makes two alike."""

SERVER_NAME_MAX: Final = 253
"""The longest host name, in characters (RFC 1035 section 2.3.4)."""

SERVER_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\Z")
"""A host name as SNI carries it, lowercase: letters, digits, hyphens and dots (RFC 6066 section 3),
and the underscore that some private networks use."""


class CertificateChain:
    """A certificate with its intermediates and its key.

    Attributes:
        certificate: The end-entity certificate.
        intermediates: The certificates above it, as sent in the handshake.
        key: Its private key.
        certificate_pem: Certificate and intermediates.
        key_pem: The private key, unencrypted.
        schemes: What its key can sign with, see :func:`.signatures.fitting_schemes`.
        message: The TLS message that presents it, the same in every handshake.
        names: The DNS names and IP addresses it covers, lowercase.
        fingerprint: SHA-256 of the certificate, hexadecimal.
    """

    __slots__ = (
        "certificate",
        "certificate_pem",
        "fingerprint",
        "intermediates",
        "key",
        "key_pem",
        "message",
        "names",
        "schemes",
    )

    def __init__(self, certificate_pem: bytes, key_pem: bytes) -> None:
        """Load a chain.

        Args:
            certificate_pem: The certificate, followed by its intermediates.
            key_pem: Its private key, unencrypted.

        Raises:
            ValueError: Either cannot be read, they do not belong together, or the handshake
                cannot use them. The text says which, for people.
        """
        certificates = _load_certificates(certificate_pem)
        self.certificate = certificates[0]
        self.intermediates = tuple(certificates[1:])
        self.key = _load_key(key_pem)
        self.schemes = fitting_schemes(self.key)
        self.certificate_pem = certificate_pem
        self.key_pem = key_pem
        self.names = _names(self.certificate)
        self.fingerprint = self.certificate.fingerprint(hashes.SHA256()).hex()
        try:
            public_key = self.certificate.public_key()
        except UnsupportedAlgorithm as error:
            raise ValueError(f"cannot read the certificate's key: {error}") from error
        if _public_bytes(self.key.public_key()) != _public_bytes(public_key):
            raise ValueError("the private key does not belong to the certificate")
        encoded = [each.public_bytes(serialization.Encoding.DER) for each in certificates]
        self.message = certificate_message(encoded)
        size = sum(map(len, encoded))
        if size > CHAIN_MAX_SIZE:
            raise ValueError(f"the chain has {size} bytes; at most {CHAIN_MAX_SIZE} can be sent")

    def covers(self, server_name: str) -> bool:
        """Whether the certificate is valid for a name, or for every name of a wildcard."""
        name = server_name.lower()
        return name in self.names or wildcard_of(name) in self.names


@dataclass(frozen=True, slots=True, eq=False)
class ServerIdentity:
    """What clients are shown that ask for a name, and what they are asked for.

    Attributes:
        chain: The certificate.
        client_verifier: Asks clients for a certificate, and judges it; ``None`` asks for none.
    """

    chain: CertificateChain
    client_verifier: "ClientVerifier | None" = None

    @property
    def policy(self) -> bytes:
        """What identities have in common that ask the same of clients; empty if it is nothing."""
        return self.client_verifier.policy if self.client_verifier is not None else b""


class CertificateSelector:
    """Which identity clients meet, by the server name that they ask for (SNI).

    Attributes:
        default: For names not found, and clients that send none.
        strict: Whether those are refused instead.
        names: The host names and wildcards that have an identity.
    """

    def __init__(
        self,
        by_name: Mapping[str, ServerIdentity],
        default: ServerIdentity | None,
        *,
        strict: bool = False,
    ) -> None:
        """Make a selector.

        Args:
            by_name: Identities by host name or ``*.`` wildcard, which stands for one label.
            default: For names not found, and clients that send none.
            strict: Refuse those instead (``unrecognized_name``).

        Raises:
            ValueError: It could never present a certificate.
        """
        if default is None and (not by_name or not strict):
            raise ValueError("a default certificate is needed unless server names are strict")
        self._by_name = {name.lower().rstrip("."): each for name, each in by_name.items()}
        self._has_wildcards = any(name.startswith("*.") for name in self._by_name)
        self.default = default
        self.strict = strict
        self.names = frozenset(self._by_name)

    @property
    def identities(self) -> list[ServerIdentity]:
        """Every identity, each once, the default first."""
        default = [self.default] if self.default is not None else []
        return list(dict.fromkeys([*default, *self._by_name.values()]))

    @property
    def chains(self) -> list[CertificateChain]:
        """Every certificate, each once, the default first."""
        return list(dict.fromkeys(each.chain for each in self.identities))

    def name_of(self, identity: ServerIdentity) -> str | None:
        """Return the name or wildcard of an identity; ``None`` for the default one."""
        return next((name for name, each in self._by_name.items() if each is identity), None)

    def select(self, server_name: str | None) -> ServerIdentity | None:
        """Return the identity for a server name, or ``None`` if it is to be refused.

        Args:
            server_name: As the client sent it, normalized by :func:`normalize_server_name`.
        """
        if server_name is not None:
            found = self._by_name.get(server_name)
            if found is None and self._has_wildcards:
                found = self._by_name.get(wildcard_of(server_name))
            if found is not None:
                return found
        return None if self.strict else self.default


def normalize_server_name(server_name: str | None) -> str | None:
    """Return a server name in lowercase, or ``None`` if it is absent or not a host name."""
    if server_name is None or len(server_name) > SERVER_NAME_MAX:
        # Not kept: whoever chooses it could make it as long as a handshake message.
        return None
    return _normalize(server_name)


@lru_cache(maxsize=256)
def _normalize(server_name: str) -> str | None:
    name = server_name.lower()
    return name if SERVER_NAME.match(name) else None


class ClientCertificateFault(Enum):
    """What is wrong with a client's certificate."""

    EXPIRED = "expired or not yet valid"
    PURPOSE = "not for client authentication"
    UNTRUSTED = "not issued by a trusted authority"
    MALFORMED = "malformed"


class ClientCertificateError(Exception):
    """A client's certificate was not accepted."""

    def __init__(self, fault: ClientCertificateFault, detail: str) -> None:
        super().__init__(f"the client's certificate is {fault.value}: {detail}")
        self.fault = fault


class ClientVerifier:
    """Decides whether a client's certificate is accepted.

    Attributes:
        required: Whether clients without a certificate are refused.
        policy: What verifiers have in common that decide alike.
    """

    def __init__(self, authorities: Iterable[x509.Certificate], *, required: bool) -> None:
        """Make a verifier.

        Args:
            authorities: The certificates that a chain may end in.
            required: Whether clients without a certificate are refused.

        Raises:
            ValueError: There are no authorities.
        """
        trusted = list(authorities)
        if not trusted:
            raise ValueError("no certificate authority to verify clients against")
        self.required = required
        self._authorities = trusted
        self.policy = _policy(required, self.authorities)
        self._builder = (
            PolicyBuilder()
            .store(Store(trusted))
            .max_chain_depth(CHAIN_MAX_DEPTH)
            .extension_policies(ca_policy=_authority_policy(), ee_policy=_client_policy())
        )

    @classmethod
    def from_pem(cls, authorities_pem: bytes, *, required: bool) -> "ClientVerifier":
        """Make a verifier from PEM text.

        Raises:
            ValueError: The text cannot be read or holds no certificate.
        """
        return cls(_load_certificates(authorities_pem), required=required)

    @property
    def authorities(self) -> list[bytes]:
        """The certificates that a chain may end in; DER."""
        return [each.public_bytes(serialization.Encoding.DER) for each in self._authorities]

    def verify(self, chain: Sequence[x509.Certificate], at: datetime.datetime) -> None:
        """Check a chain: trust, signatures, dates, purpose, constraints (RFC 5280 section 6).

        Args:
            chain: The client's certificate and what it sent with it, in any order.
            at: The time for which it must be valid.

        Raises:
            ClientCertificateError: It is not accepted.
        """
        try:
            self._check_itself(chain, at)
            self._builder.time(at).build_client_verifier().verify(chain[0], list(chain[1:]))
        except VerificationError as error:
            raise ClientCertificateError(ClientCertificateFault.UNTRUSTED, str(error)) from error
        except (
            ValueError,
            UnsupportedAlgorithm,
            x509.DuplicateExtension,
            x509.InvalidVersion,
            x509.UnsupportedGeneralNameType,
        ) as error:
            # Extensions, names and keys are parsed only now, when something asks for them.
            raise ClientCertificateError(ClientCertificateFault.MALFORMED, str(error)) from error

    def accepts_still(self, chain: Sequence[x509.Certificate], at: datetime.datetime) -> bool:
        """Return whether a chain is good now that these authorities were found to vouch for.

        Only time has passed since then, so it is verified again only if a certificate has ended:
        it may be one that nothing depends on.

        Args:
            chain: The client's certificate and what it sent with it, in any order.
            at: The time for which it must be valid.
        """
        if all(each.not_valid_after_utc >= at for each in (*chain, *self._authorities)):
            return True
        try:
            self.verify(chain, at)
        except ClientCertificateError:
            return False
        return True

    def _check_itself(self, chain: Sequence[x509.Certificate], at: datetime.datetime) -> None:
        """Find what the certificate itself says against it, to name it in the alert."""
        certificate = chain[0]
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            raise ClientCertificateError(ClientCertificateFault.EXPIRED, "see its dates")
        try:
            purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            pass  # Any purpose (RFC 5280 section 4.2.1.12).
        else:
            if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
                raise ClientCertificateError(ClientCertificateFault.PURPOSE, "see its key usage")
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_MIN_BITS:
            raise ValueError(f"its RSA key has {key.key_size} bits; at least {RSA_MIN_BITS}")
        if len(chain) > CLIENT_CHAIN_MAX_CERTIFICATES:
            raise ValueError(f"{len(chain)} certificates were sent")


def _policy(required: bool, authorities: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256(b"required" if required else b"optional")
    for each in sorted({hashlib.sha256(authority).digest() for authority in authorities}):
        digest.update(each)
    return digest.digest()[:POLICY_BYTES]


def _authority_policy() -> ExtensionPolicy:
    """Return the rules for authorities: as on the public web, but as private ones are made.

    ``openssl req -x509`` writes no key usage; where there is one, it must allow signing
    certificates (RFC 5280 section 4.2.1.3).
    """
    return (
        ExtensionPolicy.webpki_defaults_ca()
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign_certificates)
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
    )


def _client_policy() -> ExtensionPolicy:
    """Return the rules for client certificates, which often name their subject only."""
    return (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
    )


def _may_sign_certificates(
    policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None
) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an issuer may not sign certificates")


def _load_certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ValueError(f"cannot read certificates: {error}") from error


def _load_key(pem: bytes) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"cannot read the private key: {error}") from error
    match key:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1() | ec.SECP384R1()):
            return key
        case rsa.RSAPrivateKey() | ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return key
    raise ValueError("the private key is none of RSA, ECDSA on P-256 or P-384, Ed25519, Ed448")


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _names(certificate: x509.Certificate) -> frozenset[str]:
    """Return the DNS names, lowercase, and the IP addresses that a certificate is for."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    names = alternatives.value.get_values_for_type(x509.DNSName)
    addresses = alternatives.value.get_values_for_type(x509.IPAddress)
    return frozenset(name.lower() for name in names) | frozenset(map(str, addresses))


def wildcard_of(name: str) -> str:
    """Return the wildcard that covers a name, for exactly one label; ``""`` for another one."""
    return "" if name.startswith("*.") else "*." + name.partition(".")[2]
