"""Directories and files that nobody else may tamper with: of history, keys and control socket."""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

_OWNER_ONLY: Final = 0o600

_WRITE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


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
    descriptor = os.open(path, flags, _OWNER_ONLY)
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnsafePlaceError(None, f"{path} is not ours: remove it, or use another place")
    return descriptor


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, for its owner alone, so that a crash at any moment leaves all of it or nothing.

    Arguments:
        path: In a directory of ours.
        content: What is in the file once this returns, on disk too.

    Raises:
        OSError: It cannot be written, and is as before; or its name may not be on disk yet.
    """
    temporary = unfinished(path)
    try:
        descriptor = os.open(temporary, _WRITE_FLAGS, _OWNER_ONLY)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
        _sync_directory(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_whole(path: Path, size_max: int) -> bytes:
    """Return what is in a file that is no link.

    Arguments:
        path: In a directory of ours.
        size_max: No file of ours is larger; bytes.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too large to be ours.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > size_max:
            raise ValueError("it is too large")
        return file.read()


def unfinished(path: Path) -> Path:
    """Return what a file is called until it is written."""
    return path.with_name(f".{path.name}.new")


def _sync_directory(directory: Path) -> None:
    """Have the new name on disk, not only the content."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
