"""The generations that were in force, on disk: what to go back to, and after a crash to begin with.

One file for each, written whole before it has its name, with a checksum, readable by its owner
alone. It holds the configuration's text and fingerprints of the files that this names, never their
content.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from spooky.control.overrides import Overrides
from spooky.control.safe_files import check_directory, open_lock, read_whole, write_whole

logger = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the files; those of another version are left alone."""

DIRECTORY_MODE: Final = 0o700

RECORD_MAX_BYTES: Final = 64 * 1024 * 1024
"""No configuration is longer; a file that is, is not ours."""

LOCK_NAME: Final = ".lock"
"""Locked by whoever uses the directory; holds what tells this history from others."""

IDENTITY_BYTES: Final = 16

_IDENTITY: Final = re.compile(f"[0-9a-f]{{{2 * IDENTITY_BYTES}}}")
_NAME: Final = re.compile(r"(\d{1,19})\.json")
_UNFINISHED: Final = re.compile(r"\.\d{1,19}\.json\.new")
_CHECKSUM_LENGTH: Final = hashlib.sha256().digest_size * 2


class HistoryError(Exception):
    """The history cannot be read or written; says where, and why."""


class Source(StrEnum):
    """What made a generation."""

    START = "start"
    RELOAD = "reload"
    APPLY = "apply"
    OVERRIDE = "override"
    ROLLBACK = "rollback"
    RENEWAL = "renewal"
    RESTART = "restart"

    @property
    def is_by_the_way(self) -> bool:
        """Whether it leaves alone what the file says, and what is on probation."""
        return self in (Source.OVERRIDE, Source.RESTART)

    @property
    def proves_nothing(self) -> bool:
        """Whether it leaves what was not proven before as unproven as it was."""
        return self.is_by_the_way or self is Source.RENEWAL


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One generation.

    Attributes:
        version: Of this form.
        number: The generation's number.
        time: When it was committed; seconds since 1970.
        source: What made it.
        path: The file that it came from.
        text: The configuration as YAML.
        files: The SHA-256 of each file that it names, by path; hexadecimal.
        origin: The generation whose configuration it has again, or its own number.
        requested_by: Who asked for it.
        reason: What they gave as the reason; may be empty.
        overrides: What was in force in place of what the text says.
        unproven: Whether it was put on probation, and has not passed that.
        probation_seconds: How long that was to be; 0 for none.
        service: The file that the service was started with, whichever was applied since; empty if
            that is not known.
    """

    version: int = VERSION
    number: int
    time: float
    source: Source
    path: str
    text: str
    files: dict[str, str]
    origin: int
    requested_by: str
    reason: str = ""
    overrides: Overrides = ()
    unproven: bool = False
    probation_seconds: float = 0.0
    service: str = ""

    @property
    def digest(self) -> str:
        """The SHA-256 of the text, of the files and of the overrides; hexadecimal."""
        return content_digest(self.text, self.files, self.overrides)

    @property
    def is_copy(self) -> bool:
        """Whether it has the configuration of an earlier one again."""
        return self.origin != self.number

    def is_of(self, file: str) -> bool:
        """Return whether it came from a file, or is of a service that was started with it."""
        return file in (self.service, self.path)


def content_digest(text: str, files: Mapping[str, str], overrides: Overrides = ()) -> str:
    """Return the SHA-256 of a configuration; hexadecimal.

    Arguments:
        text: The configuration.
        files: The SHA-256 of each file that it names, by path.
        overrides: What is in force in place of what it says.
    """
    content = msgspec.json.encode([text, sorted(files.items()), *overrides])
    return hashlib.sha256(content).hexdigest()


class Place:
    """A directory for a history, ours as long as this is open.

    Arguments:
        directory: Which; made if it is not there. ``None`` for memory alone.
        lock: The lock of a program that this one takes over from; it is ours then.

    Attributes:
        directory: Which.
        lock: The descriptor of its lock, for a program that takes over.
        identity: What tells this history from others, wherever it was moved.

    Raises:
        HistoryError: It cannot be made or used, or another Spooky uses it.
    """

    def __init__(self, directory: Path | None, lock: int | None = None) -> None:
        self.directory = directory
        self.lock = lock
        self.identity = secrets.token_hex(IDENTITY_BYTES)
        if directory is None:
            return
        try:
            directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            check_directory(directory)
            if self.lock is None:
                self.lock = _locked(directory / LOCK_NAME)
            written = os.pread(self.lock, 2 * IDENTITY_BYTES, 0).decode("ascii", "replace")
            if _IDENTITY.fullmatch(written):
                self.identity = written
            else:
                self.mark(self.identity)
        except OSError as error:
            self.close()
            raise _error(directory, error) from error

    def mark(self, identity: str) -> None:
        """Say whose history this is.

        Raises:
            OSError: It cannot be written.
        """
        self.identity = identity
        if self.lock is not None:
            os.pwrite(self.lock, identity.encode(), 0)

    @property
    def names(self) -> list[str]:
        """The names of the files that are generations."""
        if self.directory is None:
            return []
        return [name for name in os.listdir(self.directory) if _NAME.fullmatch(name)]

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Leave it to others; idempotent."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


class History:
    """The latest generations, the newest last.

    Arguments:
        directory: Where they are kept; ``None`` to keep them in memory alone.
        limit: How many are kept.
        lock: The lock of a program that this one takes over from.

    Raises:
        HistoryError: The directory cannot be made or read, or another Spooky uses it.
    """

    def __init__(self, directory: Path | None, limit: int, lock: int | None = None) -> None:
        self._place = Place(directory, lock)
        self.limit = limit
        self._records: dict[int, Record] = {}
        # Of all files, those that are not used included: none is written over.
        self._highest = 0
        if directory is not None:
            try:
                self._load(directory)
            except HistoryError:
                self.close()
                raise

    @property
    def directory(self) -> Path | None:
        """Where they are kept; ``None`` in memory alone."""
        return self._place.directory

    @property
    def lock(self) -> int | None:
        """The descriptor of the directory's lock, for a program that takes over."""
        return self._place.lock

    def close(self) -> None:
        """Leave the directory to others; idempotent."""
        self._place.close()

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    @property
    def newest(self) -> Record | None:
        """The last that was committed: the last good one."""
        return next(reversed(self._records.values()), None)

    @property
    def newest_proven(self) -> Record | None:
        """The last that was committed, those left out whose probation did not end well."""
        return next((one for one in reversed(self._records.values()) if not one.unproven), None)

    @property
    def next_number(self) -> int:
        """The number of the generation after the newest."""
        newest = self.newest
        return max(self._highest, newest.number if newest is not None else 0) + 1

    def newest_proven_of(self, file: str) -> Record | None:
        """Return the same of a service alone.

        Arguments:
            file: The file that it was started with, absolute.
        """
        found = (one for one in reversed(self._records.values()) if one.is_of(file))
        return next((one for one in found if not one.unproven), None)

    def get(self, number: int) -> Record | None:
        """Return a generation, or ``None`` if it is not kept."""
        return self._records.get(number)

    def before(self, number: int) -> Record | None:
        """Return what a rollback without a number goes back to.

        That is the generation before the one whose configuration this one has, so that going back
        again goes further back. Those are left out whose probation did not end well.
        """
        record = self._records.get(number)
        if record is None:
            return None
        # Files are read as they are now, so what is the same but for them is no way back.
        here = (record.path, record.text, record.overrides)
        return next(
            (
                one
                for one in reversed(self._records.values())
                if one.number < record.origin
                and not one.unproven
                and (one.path, one.text, one.overrides) != here
            ),
            None,
        )

    def add(self, record: Record) -> None:
        """Keep a generation, on disk before this returns; the oldest beyond the limit go.

        Raises:
            HistoryError: It cannot be written; nothing changed.
        """
        self.write(record)
        self.remember(record)
        self.prune()

    def write(self, record: Record) -> None:
        """Write a generation to disk alone; for a thread, as a disk may be slow.

        Raises:
            HistoryError: It cannot be written.
        """
        if self.directory is not None:
            _write(self.directory, record)

    def remember(self, record: Record) -> None:
        """Keep a generation that was written."""
        self._records[record.number] = record

    def prune(self) -> None:
        """Let the oldest beyond the limit go, but copies first: going back makes one each time.

        The newest, which is in force, never goes.
        """
        surplus = len(self._records) - max(self.limit, 1)
        if surplus <= 0:
            return
        *older, newest = self._records.values()
        back = self.before(newest.number)
        way_back = back.number if back is not None else None
        proven = self.newest_proven

        def worth(one: Record) -> tuple[int, int]:
            if one is proven:
                return 4, one.number
            if one.number == way_back:
                return 3, one.number
            if one.number == newest.origin:
                return 2, one.number
            return 0 if one.is_copy and one.origin in self._records else 1, one.number

        for one in sorted(older, key=worth)[:surplus]:
            del self._records[one.number]
            self._unlink(one.number)

    def remove(self, number: int) -> None:
        """Forget a generation that did not come in force after all."""
        self._records.pop(number, None)
        self._unlink(number)

    def move(self, directory: Path | None) -> Place:
        """Keep the generations elsewhere from now on; those in the old place stay there too.

        A place where this history was before is used again. It takes as long as a disk takes: for
        a thread.

        Returns:
            The old place, to close, or to :meth:`use` again.

        Raises:
            HistoryError: The directory cannot be made or written, or holds another history;
                nothing changed.
        """
        place = Place(directory)
        try:
            if place.identity != self._place.identity and place.names:
                raise HistoryError(f"{directory} holds another history: empty it, or name another")
            place.mark(self._place.identity)
            if directory is not None:
                for name in set(place.names) - {_name(number) for number in self._records}:
                    os.unlink(directory / name)
                for record in list(self._records.values()):
                    _write(directory, record)
        except (OSError, HistoryError) as error:
            place.close()
            if isinstance(error, OSError) and directory is not None:
                raise _error(directory, error) from error
            raise
        return self.use(place)

    def use(self, place: Place) -> Place:
        """Keep the generations in a place, as they are there; return the place until now."""
        old, self._place = self._place, place
        return old

    def keep(self, limit: int) -> None:
        """Keep so many from now on."""
        self.limit = limit
        self.prune()

    def _load(self, directory: Path) -> None:
        try:
            names = os.listdir(directory)
            for name in names:
                if _UNFINISHED.fullmatch(name):
                    os.unlink(directory / name)
        except OSError as error:
            raise _error(directory, error) from error
        names = [name for name in names if _NAME.fullmatch(name)]
        self._highest = max((int(name.partition(".")[0]) for name in names), default=0)
        for name in sorted(names, key=lambda name: int(name.partition(".")[0])):
            path = directory / name
            try:
                record = _read(path)
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                # One broken file must not take the others away, nor the service.
                logger.warning("%s is not used: %s", path, error)
                continue
            self._records[record.number] = record
        self.prune()

    def _unlink(self, number: int) -> None:
        if self.directory is None:
            return
        try:
            os.unlink(self.directory / _name(number))
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning("an old generation stays on disk: %s", error)


def _name(number: int) -> str:
    return f"{number:010}.json"


def _locked(path: Path) -> int:
    """Return the descriptor of a lock that is ours.

    Raises:
        OSError: It is another's.
    """
    descriptor = open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise OSError(error.errno, "another Spooky uses it") from error
        raise
    return descriptor


def _read(path: Path) -> Record:
    checksum, _, content = read_whole(path, RECORD_MAX_BYTES).partition(b"\n")
    if len(checksum) != _CHECKSUM_LENGTH:
        raise ValueError("it has no checksum")
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        raise ValueError("its checksum is wrong; it was cut off or changed")
    record = msgspec.json.decode(content, type=Record)
    if record.version != VERSION:
        raise ValueError(f"it has version {record.version}; this Spooky reads {VERSION}")
    if _name(record.number) != path.name:
        raise ValueError(f"it holds generation {record.number}")
    return record


def _write(directory: Path, record: Record) -> None:
    """Write a record so that a crash at any moment leaves all of it or nothing."""
    content = msgspec.json.encode(record)
    checksum = hashlib.sha256(content).hexdigest().encode()
    path = directory / _name(record.number)
    try:
        write_whole(path, checksum + b"\n" + content)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise _error(directory, error) from error


def _error(directory: Path, error: OSError) -> HistoryError:
    return HistoryError(f"the history in {directory} cannot be used: {error.strerror or error}")
