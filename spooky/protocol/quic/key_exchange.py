"""A server's part of TLS 1.3's key exchange (RFC 8446 section 4.2.8), but for X25519.

That is preferred and nearly always offered, so `spooky/_core/quic/negotiation` answers it.
"""

from collections.abc import Callable, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, x448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spooky._core.quic.errors import Alert, TlsAlert

X25519: Final = 0x001D
SECP256R1: Final = 0x0017
SECP384R1: Final = 0x0018
X448: Final = 0x001E

UNCOMPRESSED: Final = b"\x04"
"""What the only form of a point begins with that TLS 1.3 knows (RFC 8446 section 4.2.8.2)."""


def _x448(peer: bytes) -> tuple[bytes, bytes]:
    key = x448.X448PrivateKey.generate()
    shared = key.exchange(x448.X448PublicKey.from_public_bytes(peer))
    return key.public_key().public_bytes_raw(), shared


def _on_curve(curve: ec.EllipticCurve) -> Callable[[bytes], tuple[bytes, bytes]]:
    def exchange(peer: bytes) -> tuple[bytes, bytes]:
        if not peer.startswith(UNCOMPRESSED):
            raise ValueError("no uncompressed point")
        public = ec.EllipticCurvePublicKey.from_encoded_point(curve, peer)
        key = ec.generate_private_key(curve)
        own = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return own, key.exchange(ec.ECDH(), public)

    return exchange


GROUPS: Final[dict[int, Callable[[bytes], tuple[bytes, bytes]]]] = {
    SECP256R1: _on_curve(ec.SECP256R1()),
    SECP384R1: _on_curve(ec.SECP384R1()),
    X448: _x448,
}
"""What answers a key share, by group: our share, and the secret. The preferred first."""


def group_to_ask(shares: Sequence[tuple[int, bytes]], supported: Sequence[int]) -> int:
    """Say of which group a client has to bring a share that brought none of X25519.

    Arguments:
        shares: Group and public key of each.
        supported: The groups it speaks.

    Returns:
        The group, or 0 where a share of a group of ours is there.

    Raises:
        TlsAlert: It speaks none of ours.
    """
    if any(group in GROUPS for group, _ in shares):
        return 0
    for group in (X25519, *GROUPS):
        if group in supported:
            return group
    raise TlsAlert(Alert.HANDSHAKE_FAILURE, "no group in common")


def exchange_keys(shares: Sequence[tuple[int, bytes]]) -> tuple[int, bytes, bytes]:
    """Answer a client's key shares.

    Arguments:
        shares: Group and public key of each.

    Returns:
        The group chosen, our share, and the shared secret.

    Raises:
        TlsAlert: None is of a group of ours, or the share is invalid.
    """
    offered = dict(shares)
    for group, exchange in GROUPS.items():
        if group in offered:
            try:
                return group, *exchange(offered[group])
            except ValueError as error:
                raise TlsAlert(Alert.ILLEGAL_PARAMETER, "an invalid key share") from error
    raise TlsAlert(Alert.HANDSHAKE_FAILURE, "no key share of a group in common")
