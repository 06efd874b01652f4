"""Files that change by themselves: certificates that are renewed, and the configuration."""

import asyncio
import datetime
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from spooky.config.loading import load
from spooky.config.problems import ConfigurationError
from spooky.control.candidate import Candidate
from spooky.control.change import Asked, ChangeError, StaleError
from spooky.control.changes import Changes
from spooky.control.expiry import ExpiryWarnings
from spooky.control.files_seen import sha256
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
"""How long to wait where files are good but the change is not made, as a worker died or a port is
in use; and after a defect of ours."""

RETRY_MAX_SECONDS: Final = 600.0
"""To this it doubles for a configuration: new workers that die at each try are a load."""


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
        given_up = dict(self._changes.seen.given_up)
        renewal = await asyncio.to_thread(read_renewal, running, given_up, _utc())
        if await asyncio.to_thread(states_of, paths) != states:
            # Written just now: what was read may be half of it.
            self._stillness.forget()
            return
        if self._changes.record.number == number:
            self._changes.seen.given_up = renewal.given_up
        for problem in renewal.problems:
            logger.warning("%s; what is in use stays", problem)
        if renewal.taken:
            asked = Asked("certificate watch", renewal.reason, number)
            await self._put(renewal.candidate, asked, now)

    async def _put(self, candidate: Candidate, asked: Asked, now: float) -> None:
        try:
            await self._changes.renew(candidate, asked)
        except StaleError:
            self._stillness.forget()
        except (ChangeError, HistoryError) as error:
            logger.error("renewed certificates are not put in force: %s", error)
            self._stillness.forget()
            self._retry_at = now + RETRY_SECONDS


class ConfigurationWatch:
    """Reloads the configuration file when it has changed, if it says so (``control.watch``).

    Arguments:
        changes: What makes changes.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._stillness = Stillness()
        self._source = ""
        self._retry_at = float("inf")
        self._retry_after = RETRY_SECONDS
        # What the file said that could not be put in force, and why.
        self._failed: tuple[bytes, str] | None = None

    async def look(self, now: float) -> None:
        """Look once.

        Arguments:
            now: Seconds on a monotonic clock.
        """
        changes, source = self._changes, self._changes.source
        if not changes.running.configuration.control.watch:
            self._source = ""
            return
        if source != self._source:
            # What waits for another try is told by a program that was taken over, too.
            self._source, self._stillness = source, Stillness()
            self._failed, self._retry_at = None, float("inf")
        if now >= self._retry_at:
            self._retry_at = float("inf")
            self._stillness.forget()
        states = await asyncio.to_thread(states_of, [source])
        if not self._stillness.has_come(states):
            return
        digest = await asyncio.to_thread(_digest_of, Path(source))
        if digest == changes.seen.configuration:
            self._forget_failure()
        else:
            await self._reload(digest, now)

    async def _reload(self, digest: bytes, now: float) -> None:
        """Put in force what the file says; later, if it cannot be now."""
        changes, source = self._changes, self._source
        number = changes.record.number
        try:
            await changes.reload(Asked("file watch"))
        except (ChangeError, ConfigurationError, HistoryError, MaterialError) as error:
            if self._failed != (digest, str(error)):
                logger.error("%s changed; generation %d stays: %s", source, number, error)
            if isinstance(error, ConfigurationError) and await asyncio.to_thread(
                _is_broken, Path(source)
            ):
                # Once for each content: a broken one is not tried again and again.
                changes.seen.configuration = digest
                self._forget_failure()
                return
            # A port that is in use, a worker that dies, a certificate that is not there yet.
            if self._failed is None or self._failed[0] != digest:
                self._retry_after = RETRY_SECONDS
            self._failed, changes.seen.waiting = (digest, str(error)), digest
            self._retry_at = now + self._retry_after
            self._retry_after = min(2 * self._retry_after, RETRY_MAX_SECONDS)
        else:
            self._forget_failure()

    def _forget_failure(self) -> None:
        self._failed, self._retry_at = None, float("inf")
        self._changes.seen.waiting = b""


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


def _digest_of(path: Path) -> bytes:
    """Return the digest of a file; of nothing if it cannot be read, which a reload explains."""
    try:
        return sha256(path.read_bytes())
    except OSError:
        return b""


def _is_broken(path: Path) -> bool:
    """Return whether a configuration has errors of its own, and not of the files that it names."""
    try:
        load(path)
    except ConfigurationError:
        return True
    return False


def _utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
