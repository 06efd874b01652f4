"""Programs of the classic BPF, which the kernel runs on datagrams and on system calls."""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

# Instructions (linux/bpf_common.h): load a byte, a half-word or a word, a byte from the index on,
# the index, add, and, jump, jump if equal, at least, or a bit is set, return a constant.
LOAD_BYTE: Final = 0x30
LOAD_HALF: Final = 0x28
LOAD_WORD: Final = 0x20
LOAD_BYTE_FROM_INDEX: Final = 0x50
SET_INDEX: Final = 0x01
INDEX_IS_LOADED: Final = 0x07
ADD: Final = 0x04
AND: Final = 0x54
JUMP: Final = 0x05
JUMP_IF_EQUAL: Final = 0x15
JUMP_IF_AT_LEAST: Final = 0x35
JUMP_IF_SET: Final = 0x45
RETURN: Final = 0x06

_INSTRUCTION: Final = struct.Struct("=HBBI")


class Instruction(NamedTuple):
    """One instruction of a program (struct sock_filter)."""

    code: int
    jump_true: int = 0
    jump_false: int = 0
    value: int = 0


def packed(program: Iterable[Instruction]) -> bytes:
    """Return a program as the kernel takes it."""
    return b"".join(_INSTRUCTION.pack(*one) for one in program)
