"""What a client's hello says (RFC 8446 section 4.1.2), read once."""

class ClientHello:
    """A hello; what was not in it is ``None``.

    Attributes:
        random: The client's.
        session_id: Of middlebox compatibility mode, which QUIC has not.
        cipher_suites: In the client's order, as all that follows.
        compression_methods: One byte each.
        server_name: What it asks for (RFC 6066 section 3), as it was written.
        protocols: Application protocols (RFC 7301).
        versions: Of TLS.
        signature_schemes: What it can verify.
        supported_groups: What it can exchange keys with.
        key_shares: Group and public key.
        psk_modes: Of key exchange with a pre-shared key, one byte each.
        identities: Tickets, each with its obfuscated age in milliseconds.
        binders: Of the tickets.
        binders_at: Where their list begins in the message.
        early_data: Whether 0-RTT data follows.
        transport_parameters: Encoded (RFC 9001 section 8.2).
    """

    random: bytes
    session_id: bytes
    cipher_suites: tuple[int, ...]
    compression_methods: bytes
    server_name: str | None
    protocols: list[bytes] | None
    versions: tuple[int, ...] | None
    signature_schemes: tuple[int, ...] | None
    supported_groups: tuple[int, ...] | None
    key_shares: list[tuple[int, bytes]] | None
    psk_modes: bytes | None
    identities: list[tuple[bytes, int]] | None
    binders: list[bytes] | None
    binders_at: int
    early_data: bool
    transport_parameters: bytes | None

def parse_client_hello(message: bytes) -> ClientHello:
    """Read a hello.

    Arguments:
        message: The whole handshake message, header included.

    Raises:
        TlsAlert: It is malformed.
    """
