"""QUIC packet protection (RFC 9001 sections 5 and 6, RFC 9369 section 3.3).

The ciphers are libcrypto's, or where that is missing those of the ``cryptography`` package.
"""

VERSION_1: int
VERSION_2: int

TLS_AES_128_GCM_SHA256: int
TLS_AES_256_GCM_SHA384: int
TLS_CHACHA20_POLY1305_SHA256: int

LIBCRYPTO: str
CRYPTOGRAPHY: str

class PacketKey:
    """Seals or opens the packets of one direction and one key phase; see ``packet_key``."""

    def __init__(self, cipher_suite: int, key: bytes, iv: bytes, sealing: bool) -> None: ...
    def seal_bytes(self, packet_number: int, header: bytes, plain: bytes) -> bytes:
        """Return the protected payload of a packet and its 16-byte tag.

        Arguments:
            packet_number: Whole, as not sent.
            header: The packet's header up to and with the packet number, unprotected.
            plain: The payload.

        Raises:
            ValueError: The key is one to open with.
        """

    def open_bytes(self, packet_number: int, header: bytes, cipher: bytes) -> bytes | None:
        """Return the payload of a packet, or ``None`` if it does not authenticate.

        Arguments:
            packet_number: Whole, as decoded.
            header: The packet's header up to and with the packet number, unprotected.
            cipher: The protected payload and its tag.
        """

class HeaderKey:
    """Masks the headers of one direction; see ``header_key``."""

    def __init__(self, cipher_suite: int, key: bytes) -> None: ...
    def mask_bytes(self, sample: bytes) -> bytes:
        """Return the five bytes that mask a header (RFC 9001 section 5.4).

        Arguments:
            sample: The 16 bytes sampled from the protected payload.

        Raises:
            ValueError: The sample has another length.
        """

def packet_key(cipher_suite: int, version: int, secret: bytes, sealing: bool) -> PacketKey:
    """Return the key of a traffic secret.

    Arguments:
        cipher_suite: A TLS 1.3 cipher suite of AEAD_AES_GCM or AEAD_CHACHA20_POLY1305.
        version: QUIC version 1 or 2.
        secret: The traffic secret of one direction.
        sealing: Whether it is to seal packets, or to open them.

    Raises:
        ValueError: Unknown cipher suite or version.
    """

def header_key(cipher_suite: int, version: int, secret: bytes) -> HeaderKey:
    """Return the header protection key of a traffic secret; a key update leaves it as it is.

    Arguments:
        cipher_suite: As for ``packet_key``.
        version: QUIC version 1 or 2.
        secret: The first traffic secret of one direction.

    Raises:
        ValueError: Unknown cipher suite or version.
    """

def initial_secrets(version: int, connection_id: bytes) -> tuple[bytes, bytes]:
    """Return the client's and the server's secret for Initial packets (RFC 9001 section 5.2).

    Arguments:
        version: QUIC version 1 or 2.
        connection_id: The Destination Connection ID of the client's first Initial packet.

    Raises:
        ValueError: Unknown version.
    """

def next_secret(cipher_suite: int, version: int, secret: bytes) -> bytes:
    """Return the traffic secret of the next key phase (RFC 9001 section 6.1).

    Arguments:
        cipher_suite: As for ``packet_key``.
        version: QUIC version 1 or 2.
        secret: The traffic secret of this key phase.

    Raises:
        ValueError: Unknown cipher suite or version.
    """

class Hmac:
    """Makes HMACs of texts that begin alike, with SHA-256 (RFC 2104).

    Arguments:
        key: The secret.
        prefix: What each text begins with.
        length: How much of each is given; bytes, 32 at most.
    """

    def __init__(self, key: bytes, prefix: bytes, length: int) -> None: ...
    def __call__(self, text: bytes) -> bytes: ...

def hkdf_extract(hash_name: str, salt: bytes, material: bytes) -> bytes:
    """Return the pseudorandom key of RFC 5869 section 2.2.

    Arguments:
        hash_name: ``sha256`` or ``sha384``.
        salt: May be empty.
        material: The keying material.

    Raises:
        ValueError: Another hash.
    """

def hkdf_expand_label(
    hash_name: str, secret: bytes, label: bytes, context: bytes, length: int
) -> bytes:
    """Return HKDF-Expand-Label of RFC 8446 section 7.1.

    Arguments:
        hash_name: ``sha256`` or ``sha384``.
        secret: The pseudorandom key.
        label: Without ``tls13``.
        context: A transcript hash, or nothing.
        length: Bytes wanted.

    Raises:
        ValueError: Another hash, or a length beyond what the label can say or HKDF can give.
    """

def retry_integrity_tag(
    version: int, original_destination_connection_id: bytes, retry_packet: bytes
) -> bytes:
    """Return the 16 bytes that end a Retry packet (RFC 9001 section 5.8).

    Arguments:
        version: QUIC version 1 or 2.
        original_destination_connection_id: Of the Initial packet that the Retry answers.
        retry_packet: The Retry packet without its tag.

    Raises:
        ValueError: Unknown version.
    """

def confidentiality_limit(cipher_suite: int) -> int:
    """Return how many packets may be sealed with one key (RFC 9001 section 6.6).

    Arguments:
        cipher_suite: As for ``packet_key``.

    Raises:
        ValueError: Unknown cipher suite.
    """

def integrity_limit(cipher_suite: int) -> int:
    """Return how many packets of a connection may fail to authenticate (RFC 9001 section 6.6).

    Arguments:
        cipher_suite: As for ``packet_key``.

    Raises:
        ValueError: Unknown cipher suite.
    """

def provider() -> str:
    """Return the name and version of the library whose ciphers are in use."""

def use_provider(name: str) -> None:
    """Take the ciphers of keys made from now on from one library.

    Arguments:
        name: ``LIBCRYPTO`` or ``CRYPTOGRAPHY``.

    Raises:
        ValueError: Another name.
        LookupError: libcrypto is not there, or lacks something.
    """
