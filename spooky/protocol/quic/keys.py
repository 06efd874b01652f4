"""The secrets that all workers share: for tickets, tokens and stateless resets."""

import secrets
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SECRET_BYTES: Final = 32
"""Length of every secret, made or derived."""

TICKET: Final = "ticket"
TOKEN: Final = "token"
RESET: Final = "reset"
CONNECTION_ID: Final = "connection id"


@dataclass(frozen=True, slots=True)
class Keys:
    """Master secrets. What was sealed under the previous ones is still opened.

    Attributes:
        number: Of the current secret; it counts up with every rotation.
        current: What is sealed from now on is sealed under keys derived from this.
        previous: Those before it, the newest first.
        fixed: Never rotated: a stateless reset has to work for as long as a peer remembers a
            connection ID (RFC 9000 section 10.3.2).
        unkept: Unlike the others in no file: for what speaks for a client.
    """

    number: int
    current: bytes
    previous: tuple[bytes, ...]
    fixed: bytes
    unkept: bytes = field(default_factory=lambda: secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def generate(cls) -> "Keys":
        """Return new random keys."""
        return cls(1, secrets.token_bytes(SECRET_BYTES), (), secrets.token_bytes(SECRET_BYTES))

    def derived(self, purpose: str) -> tuple[bytes, ...]:
        """Return the keys for a rotated purpose, the current one first."""
        return tuple(_derive(secret, purpose) for secret in (self.current, *self.previous))

    def derived_unkept(self, purpose: str) -> tuple[bytes, ...]:
        """Return likewise keys that whoever reads what is kept does not know."""
        secrets_of_all = (self.current, *self.previous)
        return tuple(_derive(self.unkept + secret, purpose) for secret in secrets_of_all)

    def derived_fixed(self, purpose: str) -> bytes:
        """Return the key for a purpose whose key stays."""
        return _derive(self.fixed, purpose)

    def rotated(self, secret: bytes) -> "Keys":
        """Return the keys after a rotation.

        Arguments:
            secret: The new current secret: random, :data:`SECRET_BYTES` long.
        """
        return Keys(self.number + 1, secret, (self.current,), self.fixed, self.unkept)


def _derive(secret: bytes, purpose: str) -> bytes:
    return HKDFExpand(SHA256(), SECRET_BYTES, f"spooky {purpose}".encode()).derive(secret)
