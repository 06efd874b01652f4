"""Clients that stay half through the handshake of TCP for as long as a test wants."""

import ctypes
import socket
import struct
from typing import Final

from spooky.protocol.bpf import JUMP_IF_SET, LOAD_BYTE, RETURN, Instruction, packed

# Socket options that Python's socket module has no names for: asm-generic/socket.h.
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27

# Of a TCP header (RFC 9293 section 3.1): where its flags are, and that of the first segment.
_FLAGS: Final = 13
_SYN: Final = 0x02


def hold_back(listening: socket.socket) -> None:
    """Have the kernel drop what completes handshakes with a listening socket."""
    program = (
        Instruction(LOAD_BYTE, value=_FLAGS),
        Instruction(JUMP_IF_SET, 0, 1, _SYN),
        Instruction(RETURN, value=2**32 - 1),
        Instruction(RETURN, value=0),
    )
    memory = ctypes.create_string_buffer(packed(program))
    pointer = struct.pack("HP", len(program), ctypes.addressof(memory))
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)


def let_through(listening: socket.socket) -> None:
    """Drop nothing any more: the next that a client sends completes its handshake."""
    listening.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
