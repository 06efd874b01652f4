"""Taking files, new listening sockets and other processes out of reach (landlock(7))."""

import ctypes
import os
import struct
from collections.abc import Iterable
from typing import Final

# Numbers since Linux 5.13, the same for all processors.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446

_GET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1

_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_BIND_TCP: Final = 1 << 0
_ALL_SCOPES: Final = 0b11  # abstract UNIX sockets and signals

_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights over files, by the version since which there are so many."""

_NETWORK_VERSION: Final = 4
_SCOPES_VERSION: Final = 6


def version(libc: ctypes.CDLL) -> int:
    """Return the version of the interface that the kernel has; 0 if it has none, or off."""
    return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, _GET_VERSION)))


def restrict(libc: ctypes.CDLL, readable: Iterable[str]) -> int:
    """Let this thread, and those it starts, open no file but to read below some directories.

    Nor bind TCP sockets or signal other processes, as far as the kernel knows of that. What is
    open stays open. ``PR_SET_NO_NEW_PRIVS`` must be set.

    Arguments:
        readable: The directories; those that are not there are left out.

    Returns:
        The version of the interface; 0 if the kernel has none, and nothing was done.

    Raises:
        OSError: The kernel refuses.
    """
    found = version(libc)
    if not found:
        return 0
    rights = max(bits for since, bits in _FILE_RIGHTS.items() if since <= found)
    attributes = struct.pack("=Q", rights)
    if found >= _NETWORK_VERSION:
        attributes += struct.pack("=Q", _BIND_TCP)
    if found >= _SCOPES_VERSION:
        attributes += struct.pack("=Q", _ALL_SCOPES)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        for directory in readable:
            _allow(libc, ruleset, directory)
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return found


def _allow(libc: ctypes.CDLL, ruleset: int, directory: str) -> None:
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = struct.pack("=Qi", _READ_FILE | _READ_DIR, descriptor)
        _checked(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock: {os.strerror(error)}")
    return result
