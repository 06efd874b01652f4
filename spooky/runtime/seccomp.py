"""A filter of system calls for processes that serve clients (seccomp(2)).

What :mod:`spooky.runtime.system_calls` names is refused with EPERM, so that a library which asks
for something nobody foresaw goes on without. All else is allowed: serving needs few calls, but
which ones differs between C libraries and their versions.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from typing import Final

from spooky.protocol import bpf
from spooky.protocol.bpf import (
    AND,
    JUMP_IF_AT_LEAST,
    JUMP_IF_EQUAL,
    LOAD_WORD,
    RETURN,
    Instruction,
)
from spooky.runtime.system_calls import Machine

# Results (linux/seccomp.h).
ALLOW: Final = 0x7FFF_0000
KILL: Final = 0x8000_0000
_ERROR: Final = 0x0005_0000
DENY: Final = _ERROR | errno.EPERM
ABSENT: Final = _ERROR | errno.ENOSYS
"""As if the kernel were older: the C library falls back to what can be judged."""

# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits. Of these
# the lower halves are looked at; both processors are little-endian.
NUMBER_AT: Final = 0
ARCHITECTURE_AT: Final = 4
_ARGUMENTS_AT: Final = 16

_X32_BIT: Final = 0x4000_0000

_FAMILIES: Final = (2, 10)  # AF_INET, AF_INET6
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONE_THREAD: Final = 0x0001_0000
_PR_SET_NAME: Final = 15
_PR_SET_VMA: Final = 0x53564D41
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C

_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1


def filter_program(machine: Machine, pid: int) -> list[Instruction]:
    """Return the filter.

    Arguments:
        machine: The processor.
        pid: The process, which may signal itself.
    """
    program = _beginning(machine)
    for number in sorted(machine.denied.values()):
        program.append(Instruction(JUMP_IF_EQUAL, 0, 1, number))
        program.append(Instruction(RETURN, value=DENY))
    for name, number in machine.judged.items():
        judge = list(_judge(name, pid))
        program.append(Instruction(JUMP_IF_EQUAL, 0, len(judge), number))
        program += judge
    program.append(Instruction(RETURN, value=ALLOW))
    return program


def program_without_io_uring(machine: Machine) -> list[Instruction]:
    """Return a filter that takes io_uring away, as if the kernel had none.

    No filter sees what a process does through one. An event loop makes it as it begins, which is
    before :func:`filter_program` can be in force.
    """
    program = _beginning(machine)
    for name in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
        program.append(Instruction(JUMP_IF_EQUAL, 0, 1, machine.denied[name]))
        program.append(Instruction(RETURN, value=ABSENT))
    program.append(Instruction(RETURN, value=ALLOW))
    return program


def _beginning(machine: Machine) -> list[Instruction]:
    """Return what refuses other tables of numbers, and loads the number."""
    program = [
        Instruction(LOAD_WORD, value=ARCHITECTURE_AT),
        Instruction(JUMP_IF_EQUAL, 1, 0, machine.audit_arch),
        Instruction(RETURN, value=KILL),
        Instruction(LOAD_WORD, value=NUMBER_AT),
    ]
    if machine.has_x32:
        program.append(Instruction(JUMP_IF_AT_LEAST, 0, 1, _X32_BIT))
        program.append(Instruction(RETURN, value=DENY))
    return program


def _judge(name: str, pid: int) -> Iterator[Instruction]:
    """Yield what decides a call by its arguments; it always returns."""
    match name:
        case "socket":
            yield from _only(0, _FAMILIES)
        case "prctl":
            yield from _only(0, (_PR_SET_NAME, _PR_SET_VMA))
        case "kill" | "tgkill":
            yield from _only(0, (pid,))
        case "ioctl":
            yield from _all_but(1, (_TIOCSTI, _TIOCLINUX))
        case "open":
            yield from _none_of(1, _WRITES)
        case "openat":
            yield from _none_of(2, _WRITES)
        case "clone":
            # Threads are its own; all else is another process.
            yield Instruction(LOAD_WORD, value=_ARGUMENTS_AT)
            yield Instruction(AND, value=_CLONE_THREAD)
            yield Instruction(JUMP_IF_EQUAL, 0, 1, _CLONE_THREAD)
            yield Instruction(RETURN, value=ALLOW)
            yield Instruction(RETURN, value=DENY)
        case _:
            yield Instruction(RETURN, value=ABSENT)


def _only(argument: int, values: tuple[int, ...]) -> Iterator[Instruction]:
    yield from _compared(argument, values, ALLOW)
    yield Instruction(RETURN, value=DENY)


def _all_but(argument: int, values: tuple[int, ...]) -> Iterator[Instruction]:
    yield from _compared(argument, values, DENY)
    yield Instruction(RETURN, value=ALLOW)


def _compared(argument: int, values: tuple[int, ...], result: int) -> Iterator[Instruction]:
    yield Instruction(LOAD_WORD, value=_ARGUMENTS_AT + 8 * argument)
    for value in values:
        yield Instruction(JUMP_IF_EQUAL, 0, 1, value)
        yield Instruction(RETURN, value=result)


def _none_of(argument: int, bits: int) -> Iterator[Instruction]:
    yield Instruction(LOAD_WORD, value=_ARGUMENTS_AT + 8 * argument)
    yield Instruction(AND, value=bits)
    yield Instruction(JUMP_IF_EQUAL, 0, 1, 0)
    yield Instruction(RETURN, value=ALLOW)
    yield Instruction(RETURN, value=DENY)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def install(libc: ctypes.CDLL, machine: Machine, program: list[Instruction]) -> None:
    """Filter the calls of this process from now on, in all its threads.

    ``PR_SET_NO_NEW_PRIVS`` must be set.

    Raises:
        OSError: The kernel has no such filters.
    """
    argument = _Program(len(program), bpf.packed(program))
    flags = _SECCOMP_FILTER_FLAG_TSYNC
    if libc.syscall(machine.seccomp, _SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(argument)):
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")
