"""What HTTP/3 puts on the wire: integers and frames (RFC 9000 section 16, RFC 9114 section 7.1)."""


def encode_varint(value: int) -> bytes:
    """Encode an integer below 2**62 in its shortest form (RFC 9000 section 16)."""
    if value < 0x40:
        return value.to_bytes(1, "big")
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4, "big")
    return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")


def encode_frame(kind: int, payload: bytes) -> bytes:
    """Make a frame (RFC 9114 section 7.1)."""
    return encode_varint(kind) + encode_varint(len(payload)) + payload
