"""What seals tokens and tickets: AES-256-GCM under random nonces."""

import os
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spooky._core import COMPILED

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16


class Sealer(Protocol):
    """Seals what only we open."""

    def seal(self, plain: bytes, associated: bytes = b"") -> bytes:
        """Return a nonce, the plain text under it, and the tag.

        Arguments:
            plain: What nobody else can read or make.
            associated: What it is bound to.
        """

    def open(self, sealed: bytes, associated: bytes = b"") -> bytes | None:
        """Return what was sealed, or ``None`` if that was not under this key, or for another."""


class PackageSealer:
    """Seals with the ``cryptography`` package; the twin of the kernel's.

    Arguments:
        key: 32 bytes.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, associated: bytes = b"") -> bytes:
        """See :class:`Sealer`."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, associated)

    def open(self, sealed: bytes, associated: bytes = b"") -> bytes | None:
        """See :class:`Sealer`."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            return None
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
        except InvalidTag:
            return None


def make_sealer(key: bytes) -> Sealer:
    """Return what seals under a key of 32 bytes."""
    if not COMPILED:
        return PackageSealer(key)
    from spooky._core.quic.sealing import Sealer as CompiledSealer

    return CompiledSealer(key)
