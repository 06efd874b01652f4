"""Which worker slot a datagram is for: one rule, as a table and as a program for the kernel.

A short header names the slot by the first byte of its connection ID, as it is. A long header's
first byte goes through a table of the active slots: an active slot stands for itself, and what a
client chose at random is spread over them, steadily.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from spooky.protocol.quic.packet import LONG_HEADER

SLOTS_MAX: Final = 256
"""The first byte of a connection ID tells so many slots apart."""

LONG_HEADER_ID_AT: Final = 6
"""Where the destination connection ID begins: after the first byte, the version and its length."""

SHORT_HEADER_ID_AT: Final = 1

# Instructions of the classic BPF (linux/bpf_common.h): load a byte, jump if a bit is set, return
# a constant, return what was loaded.
_LOAD_BYTE: Final = 0x30
_JUMP_IF_SET: Final = 0x45
_RETURN: Final = 0x06
_RETURN_LOADED: Final = 0x16


class Instruction(NamedTuple):
    """One instruction of a classic BPF program (struct sock_filter)."""

    code: int
    jump_true: int = 0
    jump_false: int = 0
    value: int = 0


def steering_table(active: Iterable[int]) -> bytes:
    """Return the slot for each first byte of a long header's connection ID.

    Arguments:
        active: The slots that take new connections.

    Raises:
        ValueError: There is none, or one is no byte.
    """
    slots = sorted(set(active))
    if not slots or slots[0] < 0 or slots[-1] >= SLOTS_MAX:
        raise ValueError("slots are from 0 to 255, and at least one is active")
    table = bytearray(slots[n % len(slots)] for n in range(SLOTS_MAX))
    others = [byte for byte in range(SLOTS_MAX) if byte not in slots]
    for n, byte in enumerate(others):
        table[byte] = slots[n % len(slots)]
    for slot in slots:
        table[slot] = slot
    return bytes(table)


def slot_of(datagram: bytes, table: bytes) -> int | None:
    """Return the slot a datagram is for; ``None`` if it is too short to say."""
    if not datagram:
        return None
    if datagram[0] & LONG_HEADER:
        return table[datagram[LONG_HEADER_ID_AT]] if len(datagram) > LONG_HEADER_ID_AT else None
    return datagram[SHORT_HEADER_ID_AT] if len(datagram) > SHORT_HEADER_ID_AT else None


def steering_program(table: bytes) -> list[Instruction]:
    """Return the program that does as :func:`slot_of` says.

    An index beyond the group makes the kernel choose by its hash, a datagram too short the first.
    """
    tree = _choose(table, 0x80)
    return [
        Instruction(_LOAD_BYTE, value=0),
        Instruction(_JUMP_IF_SET, jump_true=2, jump_false=0, value=LONG_HEADER),
        Instruction(_LOAD_BYTE, value=SHORT_HEADER_ID_AT),
        Instruction(_RETURN_LOADED),
        Instruction(_LOAD_BYTE, value=LONG_HEADER_ID_AT),
        *tree,
    ]


def _choose(table: bytes, bit: int) -> list[Instruction]:
    """Return instructions that look a loaded byte up, from this bit of it on downwards."""
    if len(set(table)) == 1:
        return [Instruction(_RETURN, value=table[0])]
    half = len(table) // 2
    lower, upper = _choose(table[:half], bit >> 1), _choose(table[half:], bit >> 1)
    # A jump reaches 255 instructions: just over the lower half of a table of 256.
    return [Instruction(_JUMP_IF_SET, len(lower), 0, bit), *lower, *upper]
