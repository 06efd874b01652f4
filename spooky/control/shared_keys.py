"""The keys that all workers share: rotated, and kept beside the history for the next start.

Else a restart would leave clients without what they hold of ours: tickets, tokens, and above all
connections of before, which end at once by a stateless reset that is made under the same key, and
otherwise after their idle timeout.
"""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from spooky.control.change import ChangeError
from spooky.control.safe_files import read_whole, unfinished, write_whole
from spooky.protocol.quic.keys import SECRET_BYTES, Keys

logger = logging.getLogger(__name__)

NAME: Final = "keys.secret"
"""The file's, in the history's directory, which is its owner's alone."""

VERSION: Final = 1
"""Of the file; one of another version is replaced."""

FILE_MAX_BYTES: Final = 64 * 1024
"""Of ours some hundred are used."""

KEY_SECONDS: Final = 12 * 3600.0
"""How long tickets and tokens are sealed under the same secret; they say how old they are."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds.

    Attributes:
        version: Of this form.
        made: When the current secret was; seconds since 1970.
        number: See :class:`.Keys`, as the others.
    """

    version: int = VERSION
    made: float
    number: int
    current: bytes
    previous: tuple[bytes, ...]
    fixed: bytes


class SharedKeys:
    """Owns the keys.

    Arguments:
        inherited: Those of a program that this one takes over from.
        tell: Gives workers those that replace the current ones.
        still: Entered while no other program takes over.
        wall_clock: Seconds since 1970; rotations go on after a restart.

    Attributes:
        current: What is in use.
    """

    def __init__(
        self,
        inherited: Keys | None,
        tell: Callable[[Keys], None],
        still: Callable[[], AbstractAsyncContextManager[None]],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.current = inherited or Keys.generate()
        self._is_inherited = inherited is not None
        self._tell = tell
        self._still = still
        self._wall_clock = wall_clock
        self._made = wall_clock()
        self._directory: Path | None = None
        self._writing = asyncio.Lock()

    def open(self, directory: Path | None) -> None:
        """Go on with what an earlier start left, before any worker has keys.

        Nothing is written before :meth:`run`: a program that takes over may fail to.

        Arguments:
            directory: Where they are kept; ``None`` for nowhere.
        """
        self._directory = directory
        kept = None if directory is None else _read(directory / NAME)
        if kept is not None:
            self._go_on(kept)

    def _go_on(self, kept: Kept) -> None:
        now = self._wall_clock()
        if self._is_inherited:
            if kept.current == self.current.current:
                self._made = min(kept.made, now)
            return
        age = now - kept.made
        self.current = Keys(kept.number, kept.current, kept.previous, kept.fixed)
        if 0 <= age < KEY_SECONDS:
            self._made = kept.made
        else:
            # What was sealed under a secret that is too old is over, however long nobody served.
            self._rotate(keeps_last=0 <= age < 2 * KEY_SECONDS)

    def _rotate(self, *, keeps_last: bool) -> None:
        rotated = self.current.rotated(secrets.token_bytes(SECRET_BYTES))
        if not keeps_last:
            rotated = replace(rotated, previous=())
        self.current, self._made = rotated, self._wall_clock()

    async def run(self) -> None:
        """Keep them, and rotate them, for as long as this process serves."""
        await self.save()
        while True:
            left = self._made + KEY_SECONDS - self._wall_clock()
            # A clock that was put back does not make them live longer.
            await asyncio.sleep(min(max(left, 0.0), KEY_SECONDS))
            try:
                # One that takes over has those of now, and would not know others.
                async with self._still():
                    self._rotate(keeps_last=True)
                    self._tell(self.current)
            except ChangeError:
                # This one is ending.
                return
            await self.save()

    def move(self, directory: Path | None) -> None:
        """Keep them elsewhere from now on, and no more where they were; :meth:`save` follows.

        At once, as the old directory may be another's a moment later.
        """
        left, self._directory = self._directory, directory
        if left is not None and left != directory:
            _remove(left / NAME)

    async def save(self) -> None:
        """Write them; what cannot be written is warned of."""
        async with self._writing:
            directory, keys = self._directory, self.current
            if directory is None:
                return
            kept = Kept(
                made=self._made,
                number=keys.number,
                current=keys.current,
                previous=keys.previous,
                fixed=keys.fixed,
            )
            await asyncio.to_thread(_write, directory / NAME, msgspec.json.encode(kept))
            if directory != self._directory:
                _remove(directory / NAME)


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        logger.warning(
            "the keys of tickets, tokens and resets may not outlive this process: %s", error
        )


def _read(path: Path) -> Kept | None:
    """Return what a file of an earlier start holds; ``None`` if that is nothing of use."""
    try:
        kept = msgspec.json.decode(read_whole(path, FILE_MAX_BYTES), type=Kept)
        if kept.version != VERSION:
            raise ValueError(f"it has version {kept.version}; this Spooky reads {VERSION}")
        lengths = {len(each) for each in (kept.current, kept.fixed, *kept.previous)}
        if lengths != {SECRET_BYTES} or not math.isfinite(kept.made):
            raise ValueError("it was changed")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        logger.warning("%s is not used, and replaced: %s", path, error)
        return None
    return kept


def _remove(path: Path) -> None:
    try:
        # What a crash left half written has secrets in it, too.
        for one in (path, unfinished(path)):
            one.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("keys stay where the history was: %s", error)
