"""Signatures of TLS 1.3: which scheme fits a key, and what it signs (RFC 8446 section 4.2.3)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm

from spooky._core.quic.errors import Alert, TlsAlert

if TYPE_CHECKING:
    from spooky.protocol.quic.certificates import PrivateKey

RSA_PKCS1: Final = (0x0401, 0x0501)
"""Allowed in certificates, and never in a handshake (RFC 8446 section 4.4.3)."""

SERVER_CONTENT: Final = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"
CLIENT_CONTENT: Final = b" " * 64 + b"TLS 1.3, client CertificateVerify\0"
"""What goes before a transcript that either signs (RFC 8446 section 4.4.3)."""


class Scheme(NamedTuple):
    """A signature scheme.

    Attributes:
        fits: Whether a public or private key can sign so.
        parameters: What ``cryptography`` is told beside the data.
        hash_name: Of the digest that it is given to sign, and not the data: its own digests take a
            context, and questions to abstract classes, each. Empty where it is given the data.
        prehashed: What it is told beside that digest.
    """

    fits: Callable[[object], bool]
    parameters: tuple[Any, ...]
    hash_name: str = ""
    prehashed: tuple[Any, ...] = ()


def _on_curve(curve: type[ec.EllipticCurve]) -> Callable[[object], bool]:
    kinds = ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey
    return lambda key: isinstance(key, kinds) and isinstance(key.curve, curve)


def _is_a(*kinds: type) -> Callable[[object], bool]:
    return lambda key: isinstance(key, kinds)


def _ecdsa(curve: type[ec.EllipticCurve], algorithm: HashAlgorithm) -> Scheme:
    prehashed = ec.ECDSA(Prehashed(algorithm))
    return Scheme(_on_curve(curve), (ec.ECDSA(algorithm),), algorithm.name, (prehashed,))


def _pss(algorithm: HashAlgorithm) -> tuple[Any, ...]:
    return padding.PSS(padding.MGF1(algorithm), algorithm.digest_size), algorithm


_is_rsa = _is_a(rsa.RSAPrivateKey, rsa.RSAPublicKey)

HANDSHAKE_SCHEMES: Final[dict[int, Scheme]] = {
    0x0403: _ecdsa(ec.SECP256R1, SHA256()),
    0x0503: _ecdsa(ec.SECP384R1, SHA384()),
    0x0807: Scheme(_is_a(ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey), ()),
    0x0808: Scheme(_is_a(ed448.Ed448PrivateKey, ed448.Ed448PublicKey), ()),
    0x0804: Scheme(_is_rsa, _pss(SHA256())),
    0x0805: Scheme(_is_rsa, _pss(SHA384())),
}
"""What a CertificateVerify may say, on either side; for a key with several, the preferred first."""

SCHEMES: Final = (*HANDSHAKE_SCHEMES, *RSA_PKCS1)
"""What clients are told that we verify."""


def fitting_schemes(key: "PrivateKey") -> dict[int, tuple[str, tuple[Any, ...]]]:
    """Return the schemes that a key can sign with, the preferred first.

    Returns:
        By their numbers, the hash whose digest the key signs, empty for the data itself, and what
        it is told beside that.
    """
    return {
        number: (scheme.hash_name, scheme.prehashed or scheme.parameters)
        for number, scheme in HANDSHAKE_SCHEMES.items()
        if scheme.fits(key)
    }


def verify(certificate: x509.Certificate, number: int, signature: bytes, content: bytes) -> None:
    """Check that the sender of a handshake has the key of a certificate.

    Raises:
        TlsAlert: It has not, or the scheme is none of ours, or does not fit the key.
    """
    if number in RSA_PKCS1:
        raise TlsAlert(Alert.ILLEGAL_PARAMETER, "RSASSA-PKCS1-v1_5 signs no handshake")
    scheme = HANDSHAKE_SCHEMES.get(number)
    try:
        key: Any = certificate.public_key()
    except UnsupportedAlgorithm as error:
        raise TlsAlert(Alert.UNSUPPORTED_CERTIFICATE, "an unsupported kind of key") from error
    except ValueError as error:
        raise TlsAlert(Alert.BAD_CERTIFICATE, "the certificate's key cannot be read") from error
    if scheme is None or not scheme.fits(key):
        raise TlsAlert(Alert.DECRYPT_ERROR, "the signature algorithm does not fit")
    try:
        key.verify(signature, content, *scheme.parameters)
    except InvalidSignature as error:
        raise TlsAlert(Alert.DECRYPT_ERROR, "a wrong signature") from error
