"""Giving up what a process does not need: user, capabilities, files, system calls, core dumps."""

import ctypes
import errno
import os
import platform
import resource
import struct
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from spooky.protocol.bpf import Instruction
from spooky.runtime import landlock, seccomp
from spooky.runtime.system_calls import MACHINES, Machine

CORE_LIMIT: Final = 1
"""Largest core dump; bytes. Fewer than a page makes no file, and exactly 1 keeps the kernel from
piping one to a program too, which 0 does not (core(5))."""

# linux/prctl.h and linux/capability.h
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x2008_0522
_CAPABILITIES_MAX: Final = 64

_NEEDED: Final = {"CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}
"""What it takes to have workers of another user: to become that, and for a supervisor, which has at
least what its workers begin with, to end them."""


class Identity(NamedTuple):
    """A user and a group, by number."""

    user: int
    group: int


class Confined(NamedTuple):
    """What a process gave up.

    Attributes:
        refused: Why it could not become another user's; empty if it could, or was not to.
        finds_modules: Whether it can read Python's modules and ours.
        landlock: The version of Landlock that restricts it; 0 for none.
        seccomp: Whether its system calls are filtered.
    """

    refused: str
    finds_modules: bool
    landlock: int
    seccomp: bool


def keep_no_secrets() -> None:
    """Leave no core dump, and gain no privileges by running programs, from now on.

    Raises:
        OSError: The kernel refuses.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # Only the kernel's root may raise the hard limit.
    limit = CORE_LIMIT if hard == resource.RLIM_INFINITY else min(CORE_LIMIT, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    _prctl(_libc(), _PR_SET_NO_NEW_PRIVS, 1)


def forbid_io_uring() -> None:
    """Have no io_uring from now on: call it before there is an event loop.

    A kernel without filters keeps it; there nothing is filtered that it could go around.
    """
    libc = _libc()
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    _filter(libc, seccomp.program_without_io_uring)


def confine(identity: Identity | None, *, sandbox: bool) -> Confined:
    """Give up all that serving clients does not need; there is no way back.

    Arguments:
        identity: Whose the process becomes; it takes root to change that, with the capabilities
            for it. ``None`` to stay.
        sandbox: Whether to restrict files and system calls too, where the kernel can.

    Raises:
        OSError: The kernel refuses what it has.
    """
    libc = _libc()
    # What is read at first use: afterwards it cannot be.
    time.tzset()
    time.localtime()
    readable = _libraries()
    # Before Linux 6.2 a supervisor that is not root has to list what its workers have open.
    counts_files = Path("/proc/self/fd").stat().st_size > 0
    _drop_capabilities_to_gain(libc)
    refused = _become(libc, identity) if identity is not None else ""
    _drop_capabilities(libc)
    finds_modules = all(os.access(file, os.R_OK) for file in (os.__file__, __file__))
    keep_no_secrets()
    if counts_files:
        # Nobody else of the same user may look into it, or take its descriptors.
        _prctl(libc, _PR_SET_DUMPABLE, 0)
    if not sandbox:
        return Confined(refused, finds_modules, 0, False)
    version = landlock.restrict(libc, readable)
    is_filtered = _filter(libc, lambda machine: seccomp.filter_program(machine, os.getpid()))
    return Confined(refused, finds_modules, version, is_filtered)


def _filter(libc: ctypes.CDLL, program: Callable[[Machine], list[Instruction]]) -> bool:
    """Filter system calls from now on; return whether the kernel can, on this processor.

    Arguments:
        program: Returns the filter for a processor.
    """
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return False
    try:
        seccomp.install(libc, machine, program(machine))
    except OSError:
        return False
    return True


def _libraries() -> set[str]:
    """Return the directories of Python's modules and ours.

    Not all of ``sys.path``: that may have the directory in which the supervisor was started.
    """
    ours = str(Path(__file__).parents[2])
    schemes = ("stdlib", "platstdlib", "purelib", "platlib")
    return {ours, *map(sysconfig.get_path, schemes)}


def _become(libc: ctypes.CDLL, identity: Identity) -> str:
    """Become another user for good.

    Returns:
        Why that cannot be, and nothing is changed but fewer groups; empty if it is done.

    Raises:
        OSError: The kernel refuses, and it is not for want of rights.
    """
    held = _capabilities(libc)
    missing = [name for name, number in _NEEDED.items() if not held >> number & 1]
    if missing:
        return f"root lacks {', '.join(missing)}"
    group = os.getresgid()
    try:
        os.setgroups([])
        os.setresgid(identity.group, identity.group, identity.group)
        os.setresuid(identity.user, identity.user, identity.user)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
        os.setresgid(*group)
        return f"user {identity.user}, group {identity.group} are not in this user namespace"
    return ""


def _drop_capabilities_to_gain(libc: ctypes.CDLL) -> None:
    """Give up what could be had again: the ambient set, and the bounding set if we may."""
    _prctl(libc, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(_CAPABILITIES_MAX):
        # EINVAL beyond the last one that the kernel knows, EPERM without CAP_SETPCAP.
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break


def _capabilities(libc: ctypes.CDLL) -> int:
    """Return the capabilities in effect; a bit for each."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    if libc.capget(header, data):
        raise _error("capget")
    low, _, _, high, _, _ = struct.unpack("=6I", data.raw[:24])
    return int(low | high << 32)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Give up all capabilities."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    if libc.capset(header, bytes(24)):
        raise _error("capset")


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0):
        raise _error("prctl")


def _error(call: str) -> OSError:
    error = ctypes.get_errno()
    return OSError(error, f"{call}: {os.strerror(error)}")


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    return libc
