"""Hashes: XXH64 for balancing keys, SplitMix64 for numbers."""

from typing import Final

MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
GOLDEN: Final = 0x9E37_79B9_7F4A_7C15

_PRIME_1: Final = 0x9E37_79B1_85EB_CA87
_PRIME_2: Final = 0xC2B2_AE3D_27D4_EB4F
_PRIME_3: Final = 0x1656_67B1_9E37_79F9
_PRIME_4: Final = 0x85EB_CA77_C2B2_AE63
_PRIME_5: Final = 0x27D4_EB2F_1656_67C5


def hash_key(key: bytes) -> int:
    """Return the 64-bit hash of a balancing key; stable across processes and releases.

    It is XXH64 with seed 0.
    """
    length = len(key)
    at = 0
    if length >= 32:
        lanes = [(_PRIME_1 + _PRIME_2) & MASK, _PRIME_2, 0, -_PRIME_1 & MASK]
        while at + 32 <= length:
            for lane in range(4):
                lanes[lane] = _round(lanes[lane], _word(key, at + 8 * lane, 8))
            at += 32
        value = sum(_rotate(lanes[i], bits) for i, bits in enumerate((1, 7, 12, 18))) & MASK
        for lane_value in lanes:
            value = ((value ^ _round(0, lane_value)) * _PRIME_1 + _PRIME_4) & MASK
    else:
        value = _PRIME_5
    value = (value + length) & MASK
    while at + 8 <= length:
        value ^= _round(0, _word(key, at, 8))
        value = (_rotate(value, 27) * _PRIME_1 + _PRIME_4) & MASK
        at += 8
    if at + 4 <= length:
        value ^= (_word(key, at, 4) * _PRIME_1) & MASK
        value = (_rotate(value, 23) * _PRIME_2 + _PRIME_3) & MASK
        at += 4
    for byte in key[at:]:
        value ^= (byte * _PRIME_5) & MASK
        value = (_rotate(value, 11) * _PRIME_1) & MASK
    value = ((value ^ (value >> 33)) * _PRIME_2) & MASK
    value = ((value ^ (value >> 29)) * _PRIME_3) & MASK
    return value ^ (value >> 32)


def _word(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & MASK


def _round(lane: int, word: int) -> int:
    return (_rotate((lane + word * _PRIME_2) & MASK, 31) * _PRIME_1) & MASK


def mix(value: int) -> int:
    """Return the SplitMix64 output for a state: every bit depends on every bit."""
    value = ((value ^ (value >> 30)) * 0xBF58_476D_1CE4_E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D0_49BB_1331_11EB) & MASK
    return value ^ (value >> 31)
