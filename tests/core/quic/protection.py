"""Whole packets, protected with the engine's keys as RFC 9001 section 5 says."""

from spooky._core.quic import crypto

PROVIDERS = (crypto.LIBCRYPTO, crypto.CRYPTOGRAPHY)
SUITES = (
    crypto.TLS_AES_128_GCM_SHA256,
    crypto.TLS_AES_256_GCM_SHA384,
    crypto.TLS_CHACHA20_POLY1305_SHA256,
)
SAMPLE_SIZE = 16


def secret_size(suite: int) -> int:
    """Return the size of a cipher suite's secrets; bytes."""
    return 48 if suite == crypto.TLS_AES_256_GCM_SHA384 else 32


def mask_header(key: crypto.HeaderKey, packet: bytes, size: int, number_size: int) -> bytes:
    """Return a packet with its header masked, or unmasked (RFC 9001 section 5.4).

    Arguments:
        key: The header protection key.
        packet: Header and sealed payload.
        size: Of the header, packet number included.
        number_size: Of the packet number.
    """
    start = size - number_size
    mask = key.mask_bytes(packet[start + 4 : start + 4 + SAMPLE_SIZE])
    result = bytearray(packet)
    result[0] ^= mask[0] & (0x0F if packet[0] & 0x80 else 0x1F)
    for index in range(number_size):
        result[start + index] ^= mask[1 + index]
    return bytes(result)


def protect(
    suite: int, version: int, secret: bytes, number: int, header: bytes, payload: bytes
) -> bytes:
    """Return a protected packet."""
    key = crypto.packet_key(suite, version, secret, sealing=True)
    packet = header + key.seal_bytes(number, header, payload)
    number_size = (header[0] & 3) + 1
    return mask_header(crypto.header_key(suite, version, secret), packet, len(header), number_size)
