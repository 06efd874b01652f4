"""Transport parameters (RFC 9000 section 18, RFC 9368 section 3)."""

class TransportParameters:
    """What one endpoint tells the other about itself; the defaults are those of the RFC.

    Attributes:
        original_destination_connection_id: Of the client's first packet; ``None`` if absent, as
            the other connection IDs.
        max_idle_timeout: Milliseconds; 0 for none.
        stateless_reset_token: Of the connection ID the handshake used.
        max_udp_payload_size: The largest datagram taken, bytes.
        ack_delay_exponent: What ACK frames divide delays by, as a power of two.
        max_ack_delay: Milliseconds.
        chosen_version: The version in use; 0 without version information.
        available_versions: Preferred first; of a client those compatible with its first packet.
    """

    original_destination_connection_id: bytes | None
    max_idle_timeout: int
    stateless_reset_token: bytes | None
    max_udp_payload_size: int
    initial_max_data: int
    initial_max_stream_data_bidi_local: int
    initial_max_stream_data_bidi_remote: int
    initial_max_stream_data_uni: int
    initial_max_streams_bidi: int
    initial_max_streams_uni: int
    ack_delay_exponent: int
    max_ack_delay: int
    disable_active_migration: bool
    active_connection_id_limit: int
    initial_source_connection_id: bytes | None
    retry_source_connection_id: bytes | None
    chosen_version: int
    available_versions: tuple[int, ...]
    def encode(self) -> bytes:
        """Return the parameters as the TLS extension carries them."""

def decode(encoded: bytes, from_client: bool) -> TransportParameters:
    """Read transport parameters.

    Arguments:
        encoded: As the TLS extension carries them.
        from_client: Whether a client said them.

    Raises:
        QuicError: They are malformed, or say what may not be said.
    """
