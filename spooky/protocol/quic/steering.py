"""Which worker slot a datagram is for: one rule, as a table and as a program for the kernel.

The first byte of a connection ID of ours is the slot of the worker that issued it. A table says
whose it is: a slot whose worker lives stands for itself, and all else -- what a client chose at
random, and what a worker issued that is gone -- is spread over the active slots, steadily.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from spooky.protocol.quic.packet import LONG_HEADER

SLOTS_MAX: Final = 256
"""The first byte of a connection ID tells so many slots apart."""

LONG_HEADER_ID_AT: Final = 6
"""Where the destination connection ID begins: after the first byte, the version and its length."""

SHORT_HEADER_ID_AT: Final = 1

# Instructions of the classic BPF (linux/bpf_common.h): load a byte, jump, jump if a bit is set,
# return a constant.
_LOAD_BYTE: Final = 0x30
_JUMP: Final = 0x05
_JUMP_IF_SET: Final = 0x45
_RETURN: Final = 0x06


class Instruction(NamedTuple):
    """One instruction of a classic BPF program (struct sock_filter)."""

    code: int
    jump_true: int = 0
    jump_false: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class Steering:
    """Which slots there are, and what for.

    Attributes:
        active: Those that take new connections.
        leaving: Those whose workers only finish what they have.
        before: The table until a moment ago, for handshakes that began under it; empty if there is
            none any more.
    """

    active: tuple[int, ...]
    leaving: tuple[int, ...] = ()
    before: bytes = b""

    @property
    def table(self) -> bytes:
        """The slot for each first byte of a connection ID."""
        return steering_table(self.active, self.leaving)


def steering_table(active: Iterable[int], leaving: Iterable[int] = ()) -> bytes:
    """Return the slot for each first byte of a connection ID.

    Arguments:
        active: The slots that take new connections.
        leaving: The slots that keep those they have.

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
    for slot in (*slots, *leaving):
        table[slot] = slot
    return bytes(table)


def slot_of(datagram: bytes, table: bytes) -> int | None:
    """Return the slot a datagram is for; ``None`` if it is too short to say."""
    if not datagram:
        return None
    at = LONG_HEADER_ID_AT if datagram[0] & LONG_HEADER else SHORT_HEADER_ID_AT
    return table[datagram[at]] if len(datagram) > at else None


def steering_program(table: bytes) -> list[Instruction]:
    """Return the program that does as :func:`slot_of` says.

    A datagram too short goes to the first socket of the group.
    """
    tree = _choose(table, 0x80)
    return [
        Instruction(_LOAD_BYTE, value=0),
        Instruction(_JUMP_IF_SET, jump_true=2, jump_false=0, value=LONG_HEADER),
        Instruction(_LOAD_BYTE, value=SHORT_HEADER_ID_AT),
        Instruction(_JUMP, value=1),
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
