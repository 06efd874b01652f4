"""AES-256-GCM under random nonces, in the contexts of libcrypto that packets are sealed in."""

class Sealer:
    """Seals what only we open, such as tokens and tickets.

    Arguments:
        key: 32 bytes.

    Raises:
        ValueError: The key has another length.
    """

    def __init__(self, key: bytes) -> None: ...
    def seal(self, plain: bytes, associated: bytes = b"") -> bytes:
        """Return a nonce, the plain text under it, and the tag.

        Arguments:
            plain: What nobody else can read or make.
            associated: What it is bound to.
        """

    def open(self, sealed: bytes, associated: bytes = b"") -> bytes | None:
        """Return what was sealed, or ``None`` if that was not under this key, or for another."""
