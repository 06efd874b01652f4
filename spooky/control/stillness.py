"""Whether files have changed, and whoever changes them is done."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from spooky.config.world import CA_FILE_SUFFIXES

State: TypeAlias = tuple[tuple[int, int, int, int], ...]
"""Device, inode, size and time of change of a file, or of all PEM files in a directory; empty if
there is none. Links are followed: who renews by moving a link (certbot, Kubernetes) is seen."""


class Stillness:
    """Notices changes of files, and says so when they are over."""

    def __init__(self) -> None:
        self._told: Mapping[str, State] | None = None
        self._seen: Mapping[str, State] | None = None

    def has_come(self, states: Mapping[str, State]) -> bool:
        """Return whether files differ from when this was last true, but not from the last look.

        What is written file by file, as a certificate and its key are, is not taken half done.

        Arguments:
            states: What is there now; looks are a moment apart.
        """
        still, self._seen = states == self._seen, states
        if not still or states == self._told:
            return False
        self._told = states
        return True

    def forget(self) -> None:
        """Say it again, even if nothing changes."""
        self._told = None


def states_of(paths: Iterable[str]) -> dict[str, State]:
    """Return the state of each file or directory."""
    return {path: _state(Path(path)) for path in paths}


def _state(path: Path) -> State:
    try:
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in CA_FILE_SUFFIXES)
        return tuple(
            (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            for status in map(os.stat, files)
        )
    except OSError:
        # Gone, or not for us: that is a state as well, and to read it says why.
        return ()
