"""What HTTP/3 puts on the wire: integers and frames (RFC 9000 section 16, RFC 9114 section 7.1)."""

def encode_varint(value: int) -> bytes:
    """Encode an integer below 2**62 in its shortest form (RFC 9000 section 16)."""

def encode_frame(kind: int, payload: bytes) -> bytes:
    """Make a frame (RFC 9114 section 7.1)."""
