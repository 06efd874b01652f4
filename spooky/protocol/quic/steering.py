"""Which worker slot a datagram is for: one rule, as a table and as a program for the kernel.

The first byte of a connection ID of ours is the slot of the worker that issued it. A table says
whose it is: a slot whose worker lives stands for itself, and all else -- what a client chose at
random, and what a worker issued that is gone -- is spread over the active slots, steadily.
docs/request-life.md says why it is one table for long and short headers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from spooky.protocol.bpf import (
    ADD,
    INDEX_IS_LOADED,
    JUMP,
    JUMP_IF_EQUAL,
    JUMP_IF_SET,
    LOAD_BYTE,
    LOAD_BYTE_FROM_INDEX,
    LOAD_HALF,
    LOAD_WORD,
    RETURN,
    SET_INDEX,
    Instruction,
)
from spooky.protocol.proxy_header import V2_SIGNATURE, V2_START_BYTES, announced_bytes
from spooky.protocol.quic.packet import LONG_HEADER

SLOTS_MAX: Final = 256
"""The first byte of a connection ID tells so many slots apart."""

LONG_HEADER_ID_AT: Final = 6
"""Where the destination connection ID begins: after the first byte, the version and its length."""

SHORT_HEADER_ID_AT: Final = 1


@dataclass(frozen=True, slots=True)
class Steering:
    """Which slots there are, and what for.

    Attributes:
        active: Those that take new connections.
        leaving: Those whose workers only finish what they have.
        before: The table until a moment ago, for handshakes that began under it; empty if there is
            none any more.
        at: When that was so, in nanoseconds on the machine's monotonic clock: workers may hear of
            it from two programs, and go by the latest.
    """

    active: tuple[int, ...]
    leaving: tuple[int, ...] = ()
    before: bytes = b""
    at: int = field(default=0, compare=False)

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
    kept = set(leaving)
    if not slots or not kept.union(slots).issubset(range(SLOTS_MAX)):
        raise ValueError("slots are from 0 to 255, and at least one is active")
    table = bytearray(slots[n % len(slots)] for n in range(SLOTS_MAX))
    others = [byte for byte in range(SLOTS_MAX) if byte not in slots]
    for n, byte in enumerate(others):
        table[byte] = slots[n % len(slots)]
    for slot in kept.union(slots):
        table[slot] = slot
    return bytes(table)


def slot_of(datagram: bytes, table: bytes) -> int | None:
    """Return the slot a datagram is for; ``None`` if it is too short to say."""
    start = announced_bytes(datagram)
    if len(datagram) <= start:
        return None
    at = start + (LONG_HEADER_ID_AT if datagram[start] & LONG_HEADER else SHORT_HEADER_ID_AT)
    return table[datagram[at]] if len(datagram) > at else None


def has_long_header(datagram: bytes) -> bool:
    """Return whether a datagram's first packet has a long header."""
    start = announced_bytes(datagram)
    return len(datagram) > start and bool(datagram[start] & LONG_HEADER)


def steering_program(table: bytes) -> list[Instruction]:
    """Return the program that does as :func:`slot_of` says.

    A datagram too short goes to the first socket of the group. Where a proxy put a header before
    a datagram, that is stepped over (``spooky/protocol/proxy_header.py``).
    """
    return [
        *_index_after_proxy_header(),
        Instruction(LOAD_BYTE_FROM_INDEX, value=0),
        Instruction(JUMP_IF_SET, jump_true=2, jump_false=0, value=LONG_HEADER),
        Instruction(LOAD_BYTE_FROM_INDEX, value=SHORT_HEADER_ID_AT),
        Instruction(JUMP, value=1),
        Instruction(LOAD_BYTE_FROM_INDEX, value=LONG_HEADER_ID_AT),
        *_choose(table, 0x80),
    ]


def _index_after_proxy_header() -> list[Instruction]:
    """Return instructions that set the index to where QUIC begins."""
    words = [int.from_bytes(V2_SIGNATURE[at : at + 4]) for at in (0, 4, 8)]
    found = [
        Instruction(LOAD_HALF, value=len(V2_SIGNATURE) + 2),
        Instruction(ADD, value=V2_START_BYTES),
        Instruction(INDEX_IS_LOADED),
    ]
    # Every datagram pays for the first byte only: none of QUIC begins so.
    program = [
        Instruction(SET_INDEX, value=0),
        Instruction(LOAD_BYTE, value=0),
        Instruction(JUMP_IF_EQUAL, 0, 2 * len(words) + len(found), V2_SIGNATURE[0]),
    ]
    for number, word in enumerate(words):
        after = 2 * (len(words) - number - 1) + len(found)
        program.append(Instruction(LOAD_WORD, value=4 * number))
        program.append(Instruction(JUMP_IF_EQUAL, 0, after, word))
    return [*program, *found]


def _choose(table: bytes, bit: int) -> list[Instruction]:
    """Return instructions that look a loaded byte up, from this bit of it on downwards."""
    if len(set(table)) == 1:
        return [Instruction(RETURN, value=table[0])]
    half = len(table) // 2
    lower, upper = _choose(table[:half], bit >> 1), _choose(table[half:], bit >> 1)
    # A jump reaches 255 instructions: just over the lower half of a table of 256.
    return [Instruction(JUMP_IF_SET, len(lower), 0, bit), *lower, *upper]
