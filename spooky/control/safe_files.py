"""Directories and files that nobody else may tamper with: the history's, the control socket's."""

import os
import stat
from pathlib import Path


class UnsafePlaceError(OSError):
    """Somebody else could tamper with a directory or a file; says which, and what to do."""


def check_directory(path: Path, *, shared: bool = False) -> None:
    """Make sure that only root and this user decide what is in a directory.

    A link to it may be root's or this user's. What is above it is the administrator's concern.

    Arguments:
        path: The directory; it exists.
        shared: Whether it may be one such as /tmp, where others cannot touch what is ours.

    Raises:
        UnsafePlaceError: It is not so.
        OSError: It cannot be looked at.
    """
    link, status = path.lstat(), path.stat()
    for each in (link, status):
        if each.st_uid not in (0, os.geteuid()):
            raise UnsafePlaceError(
                None, f"{path} belongs to another user: chown it, or use another"
            )
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafePlaceError(None, f"{path} is no directory")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (
        shared and status.st_mode & stat.S_ISVTX
    ):
        raise UnsafePlaceError(None, f"others can write to {path}: chmod go-w it, or use another")


def open_lock(path: Path) -> int:
    """Open a file to lock, made if it is not there, and never one that somebody else put there.

    Raises:
        UnsafePlaceError: It is somebody else's.
        OSError: It cannot be opened, or is a link.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnsafePlaceError(None, f"{path} is not ours: remove it, or use another place")
    return descriptor
