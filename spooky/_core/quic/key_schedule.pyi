"""The key schedule of TLS 1.3 (RFC 8446 section 7.1), over libcrypto's HMAC and hashes."""

class KeySchedule:
    """The secrets of one handshake: early, handshake and main secret, one after the other.

    Arguments:
        cipher_suite: Its number; it says which hash.
        pre_shared_key: Of the session that is resumed, if one is.

    Attributes:
        cipher_suite: Its number.
        hash_length: Of every secret; bytes.

    Raises:
        ValueError: It is no cipher suite of QUIC.
    """

    cipher_suite: int
    hash_length: int

    def __init__(self, cipher_suite: int, pre_shared_key: bytes | None = None) -> None: ...
    def update(self, messages: bytes) -> None:
        """Add messages to the transcript, headers included."""

    def transcript(self) -> bytes:
        """Return the hash of all messages so far (RFC 8446 section 4.4.1)."""

    def derive(self, label: bytes) -> bytes:
        """Return Derive-Secret of the current secret, a label and the messages so far."""

    def advance(self, material: bytes | None = None) -> None:
        """Go on to the next secret.

        Arguments:
            material: What goes into it: the shared secret of the key exchange, or nothing.
        """

    def verify_data(self, base_key: bytes) -> bytes:
        """Return what a Finished or a binder says of the messages so far.

        Arguments:
            base_key: The traffic secret of its sender, or the binder key (RFC 8446 section 4.4).
        """

    def binder_key(self) -> bytes:
        """Return the base key of a binder for a ticket (RFC 8446 section 4.2.11.2)."""

    def resumption_secret(self, nonce: bytes) -> bytes:
        """Return the pre-shared key of a ticket (RFC 8446 section 4.6.1).

        Arguments:
            nonce: The ticket's.
        """
