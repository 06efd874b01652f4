"""The key exchange of TLS 1.3 (RFC 8446 section 4.2.8), but for X25519.

That is preferred and nearly always offered, so the kernels of either side see to it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, x448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spooky._core.quic.errors import Alert, TlsAlert

X25519: Final = 0x001D
SECP256R1: Final = 0x0017
SECP384R1: Final = 0x0018
X448: Final = 0x001E

UNCOMPRESSED: Final = b"\x04"
"""What the only form of a point begins with that TLS 1.3 knows (RFC 8446 section 4.2.8.2)."""


class Group(NamedTuple):
    """A group, by what is done in it.

    Attributes:
        generate: Makes a private key.
        share: Returns the public one, encoded.
        exchange: Returns the secret that a private key shares with the peer's share; raises
            ValueError for one that is none.
    """

    generate: Callable[[], Any]
    share: Callable[[Any], bytes]
    exchange: Callable[[Any, bytes], bytes]


def _on_curve(curve: ec.EllipticCurve) -> Group:
    def share(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def exchange(key: ec.EllipticCurvePrivateKey, peer: bytes) -> bytes:
        if not peer.startswith(UNCOMPRESSED):
            raise ValueError("no uncompressed point")
        return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, peer))

    return Group(partial(ec.generate_private_key, curve), share, exchange)


def _x448_share(key: x448.X448PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _x448_exchange(key: x448.X448PrivateKey, peer: bytes) -> bytes:
    return key.exchange(x448.X448PublicKey.from_public_bytes(peer))


GROUPS: Final[dict[int, Group]] = {
    SECP256R1: _on_curve(ec.SECP256R1()),
    SECP384R1: _on_curve(ec.SECP384R1()),
    X448: Group(x448.X448PrivateKey.generate, _x448_share, _x448_exchange),
}
"""By their numbers, the preferred first."""


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
    for number, group in GROUPS.items():
        if number in offered:
            key = group.generate()
            try:
                return number, group.share(key), group.exchange(key, offered[number])
            except ValueError as error:
                raise TlsAlert(Alert.ILLEGAL_PARAMETER, "an invalid key share") from error
    raise TlsAlert(Alert.HANDSHAKE_FAILURE, "no key share of a group in common")
