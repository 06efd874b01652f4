"""The generations that were in force, on disk: what to go back to, and after a crash to begin with.

One file for each, written whole before it has its name, with a checksum, readable by its owner
alone. It holds the configuration's text and fingerprints of the files that this names, never their
content.
"""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from spooky.control.overrides import Overrides

logger = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the files; those of another version are left alone."""

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600

RECORD_MAX_BYTES: Final = 64 * 1024 * 1024
"""No configuration is longer; a file that is, is not ours."""

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

    @property
    def digest(self) -> str:
        """The SHA-256 of the text, of the files and of the overrides; hexadecimal."""
        return content_digest(self.text, self.files, self.overrides)


def content_digest(text: str, files: Mapping[str, str], overrides: Overrides = ()) -> str:
    """Return the SHA-256 of a configuration; hexadecimal.

    Arguments:
        text: The configuration.
        files: The SHA-256 of each file that it names, by path.
        overrides: What is in force in place of what it says.
    """
    content = msgspec.json.encode([text, sorted(files.items()), *overrides])
    return hashlib.sha256(content).hexdigest()


class History:
    """The latest generations, the newest last.

    Arguments:
        directory: Where they are kept; ``None`` to keep them in memory alone.
        limit: How many are kept.

    Raises:
        HistoryError: The directory cannot be made or read.
    """

    def __init__(self, directory: Path | None, limit: int) -> None:
        self.directory = directory
        self.limit = limit
        self._records: dict[int, Record] = {}
        # Of all files, those that are not used included: none is written over.
        self._highest = 0
        if directory is not None:
            self._load(directory)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    @property
    def newest(self) -> Record | None:
        """The last that was committed: the last good one."""
        return next(reversed(self._records.values()), None)

    @property
    def next_number(self) -> int:
        """The number of the generation after the newest."""
        newest = self.newest
        return max(self._highest, newest.number if newest is not None else 0) + 1

    def get(self, number: int) -> Record | None:
        """Return a generation, or ``None`` if it is not kept."""
        return self._records.get(number)

    def before(self, number: int) -> Record | None:
        """Return what a rollback without a number goes back to.

        That is the generation before the one whose configuration this one has, so that going back
        again goes further back.
        """
        record = self._records.get(number)
        if record is None:
            return None
        # Files are read as they are now, so what is the same but for them is no way back.
        earlier = (one for one in reversed(self._records.values()) if one.number < record.origin)
        here = (record.path, record.text, record.overrides)
        return next((one for one in earlier if (one.path, one.text, one.overrides) != here), None)

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
        """Let the oldest beyond the limit go."""
        while len(self._records) > self.limit:
            number = next(iter(self._records))
            del self._records[number]
            self._unlink(number)

    def remove(self, number: int) -> None:
        """Forget a generation that did not come in force after all."""
        self._records.pop(number, None)
        self._unlink(number)

    def move(self, directory: Path | None) -> None:
        """Keep the generations elsewhere from now on; those in the old place stay there too.

        Raises:
            HistoryError: The directory cannot be made or written, or holds another history;
                nothing changed.
        """
        if directory is not None and directory != self.directory:
            _make(directory)
            if any(_NAME.fullmatch(name) for name in os.listdir(directory)):
                raise HistoryError(f"{directory} holds another history: empty it, or name another")
            for record in self._records.values():
                _write(directory, record)
        self.directory = directory

    def keep(self, limit: int) -> None:
        """Keep so many from now on."""
        self.limit = limit
        self.prune()

    def _load(self, directory: Path) -> None:
        _make(directory)
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


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise _error(directory, error) from error


def _read(path: Path) -> Record:
    if path.stat().st_size > RECORD_MAX_BYTES:
        raise ValueError("it is too large")
    data = path.read_bytes()
    checksum, _, content = data.partition(b"\n")
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
    temporary = directory / f".{_name(record.number)}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with open(descriptor, "wb") as file:
            file.write(checksum + b"\n" + content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, directory / _name(record.number))
        _sync_directory(directory)
    except OSError as error:
        for path in (temporary, directory / _name(record.number)):
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise _error(directory, error) from error


def _sync_directory(directory: Path) -> None:
    """Have the new name on disk, not only the content."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _error(directory: Path, error: OSError) -> HistoryError:
    return HistoryError(f"the history in {directory} cannot be used: {error.strerror or error}")
