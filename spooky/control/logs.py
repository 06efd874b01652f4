"""The logs: their files opened, reopened and changed here, written by all workers."""

import os
from collections.abc import Mapping
from typing import Final

from spooky.config.schema import Configuration
from spooky.control.change import NextGeneration, PrepareError, Step
from spooky.observe import log

STDERR: Final = 2


class Logs:
    """The descriptors of the logs that are files, and what this process says itself.

    Arguments:
        configuration: Says where they are.

    Attributes:
        descriptors: Of ``log`` and ``access_log``, as far as they are files.
        prepared: The same after the change under way; ``None`` if that is not about logs.

    Raises:
        OSError: One cannot be opened.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.descriptors: Mapping[str, int] = {}
        self.prepared: Mapping[str, int] | None = None
        self._use(configuration, _open(configuration))

    async def prepare(self, change: NextGeneration) -> Step:
        """Open other files, if a change is about logs.

        Raises:
            PrepareError: One cannot be opened.
        """
        old, new = self._configuration, change.candidate.configuration
        if (old.log, old.access_log) == (new.log, new.access_log):
            return Step(lambda: None, lambda: None)
        try:
            opened = self.prepared = _open(new)
        except OSError as error:
            raise PrepareError(f"cannot open a log: {error}") from error

        def commit() -> None:
            self.prepared = None
            self._use(new, opened)

        def discard() -> None:
            self.prepared = None
            _close(opened)

        return Step(commit, discard)

    def reopen(self) -> None:
        """Open all files anew; if one fails, the old ones stay in use.

        Raises:
            OSError: One cannot be opened.
        """
        self._use(self._configuration, _open(self._configuration))

    def close(self) -> None:
        """Close all, and go on on standard error; idempotent."""
        self._handler.descriptor = STDERR
        _close(self.descriptors)
        self.descriptors = {}

    def _use(self, configuration: Configuration, opened: Mapping[str, int]) -> None:
        settings = configuration.log
        self._configuration = configuration
        self._handler = log.configure(
            settings.level, settings.format == "json", opened.get("log", STDERR)
        )
        old, self.descriptors = self.descriptors, opened
        _close(old)


def _open(configuration: Configuration) -> Mapping[str, int]:
    """Open the logs that are files.

    Raises:
        OSError: One cannot be opened.
    """
    paths: dict[str, str] = {}
    if configuration.log.file.enabled:
        paths["log"] = configuration.log.file.path
    access_log = configuration.access_log
    if access_log.enabled and access_log.path is not None:
        paths["access_log"] = access_log.path
    opened: dict[str, int] = {}
    try:
        for name, path in paths.items():
            opened[name] = log.open_file(path)
    except OSError:
        _close(opened)
        raise
    return opened


def _close(descriptors: Mapping[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
