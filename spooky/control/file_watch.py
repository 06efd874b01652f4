"""Files that change by themselves: certificates that are renewed, and the configuration."""

import asyncio
import datetime
import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from spooky.config.problems import ConfigurationError
from spooky.control.candidate import Candidate
from spooky.control.changes import Asked, ChangeError, Changes, StaleError
from spooky.control.expiry import ExpiryWarnings
from spooky.control.history import HistoryError
from spooky.control.renewal import read_renewal, watched_files
from spooky.control.stillness import Stillness, states_of
from spooky.generation.materials import MaterialError

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often files are looked at, and how long they have to be still: writing a certificate and then
its key takes less. Without inotify, which tells nothing on network file systems and of links."""

REVIEW_SECONDS: Final = 3600.0
"""How often expiry is looked at; and what could not be used, again, as its time may have come."""

RETRY_SECONDS: Final = 30.0
"""How long to wait where certificates are good but the change is not made, as a worker died; and
after a defect of ours."""


class CertificateWatch:
    """Puts renewed certificates, keys, authorities and tokens in force.

    Arguments:
        changes: What makes changes.
        is_busy: Whether a generation is on probation: renewal is in no hurry, and would end it.
    """

    def __init__(self, changes: Changes, is_busy: Callable[[], bool]) -> None:
        self._changes = changes
        self._is_busy = is_busy
        self._stillness = Stillness()
        # The SHA-256 of what was put in force, by path: what was taken back since stays so.
        self._taken: dict[str, bytes] = {}
        self._expiry = ExpiryWarnings()
        self._reviewed_at = float("-inf")
        self._reviewed: Candidate | None = None
        self._retry_at = float("-inf")

    async def look(self, now: float) -> None:
        """Look once.

        Arguments:
            now: Seconds on a monotonic clock.
        """
        running, number = self._changes.running, self._changes.record.number
        if running is not self._reviewed or now - self._reviewed_at >= REVIEW_SECONDS:
            self._reviewed, self._reviewed_at = running, now
            self._stillness.forget()
            await asyncio.to_thread(self._expiry.look, running, _utc())
        if self._is_busy() or now < self._retry_at:
            return
        paths = watched_files(running)
        states = await asyncio.to_thread(states_of, paths)
        if not self._stillness.has_come(states):
            return
        renewal = await asyncio.to_thread(read_renewal, running, self._taken, _utc())
        if await asyncio.to_thread(states_of, paths) != states:
            # Written just now: what was read may be half of it.
            self._stillness.forget()
            return
        for problem in renewal.problems:
            logger.warning("%s; what is in use stays", problem)
        if renewal.taken:
            asked = Asked("certificate watch", renewal.reason, number)
            await self._put(renewal.candidate, asked, renewal.taken, now)

    async def _put(
        self, candidate: Candidate, asked: Asked, taken: Mapping[str, bytes], now: float
    ) -> None:
        try:
            await self._changes.renew(candidate, asked)
        except StaleError:
            self._stillness.forget()
        except (ChangeError, HistoryError) as error:
            logger.error("renewed certificates are not put in force: %s", error)
            self._stillness.forget()
            self._retry_at = now + RETRY_SECONDS
        else:
            self._taken |= taken


class ConfigurationWatch:
    """Reloads the configuration file when it has changed, if it says so (``control.watch``).

    Arguments:
        changes: What makes changes.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._stillness = Stillness()
        self._source = ""
        self._seen = b""

    async def look(self, _: float) -> None:
        """Look once."""
        changes = self._changes
        running, source = changes.running, changes.source
        if not running.configuration.control.watch:
            self._source = ""
            return
        if source != self._source:
            self._source, self._stillness = source, Stillness()
            self._seen = _digest(running.text.encode()) if running.path == source else b""
        states = await asyncio.to_thread(states_of, [source])
        if not self._stillness.has_come(states):
            return
        digest = await asyncio.to_thread(_digest_of, Path(source))
        if digest == self._seen:
            return
        # Once for each content: a broken one is not tried again and again.
        self._seen = digest
        number = changes.record.number
        try:
            await changes.reload(Asked("file watch"))
        except (ChangeError, ConfigurationError, HistoryError, MaterialError) as error:
            logger.error("%s changed; generation %d stays: %s", source, number, error)


class FileWatch:
    """Looks at files again and again, on the running event loop.

    Arguments:
        changes: What makes changes.
        is_busy: Whether a generation is on probation.
    """

    def __init__(self, changes: Changes, is_busy: Callable[[], bool]) -> None:
        self._watches = (ConfigurationWatch(changes), CertificateWatch(changes, is_busy))
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(_look_on(watch)) for watch in self._watches]

    def close(self) -> None:
        """End; idempotent."""
        for task in self._tasks:
            task.cancel()


async def _look_on(watch: ConfigurationWatch | CertificateWatch) -> None:
    """Look again and again."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await watch.look(loop.time())
        except Exception:
            # A defect of ours in one look must not end all that come. Said first, and in its time:
            # it would fill the log with each look.
            logger.exception("cannot look at files: %s", type(watch).__name__)
            await asyncio.sleep(RETRY_SECONDS)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _digest_of(path: Path) -> bytes:
    """Return the digest of a file; of nothing if it cannot be read, which a reload explains."""
    try:
        return _digest(path.read_bytes())
    except OSError:
        return b""


def _utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
