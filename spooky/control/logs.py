"""The log files: opened and reopened here, written by all workers."""

import os

from spooky.config.schema import Configuration
from spooky.observe import log


class Logs:
    """The descriptors of the logs that are files.

    Arguments:
        configuration: Says where they are.

    Raises:
        OSError: One cannot be opened.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._paths: dict[str, str] = {}
        if configuration.log.file.enabled:
            self._paths["log"] = configuration.log.file.path
        access_log = configuration.access_log
        if access_log.enabled and access_log.path is not None:
            self._paths["access_log"] = access_log.path
        self.descriptors: dict[str, int] = {}
        self.reopen()

    def reopen(self) -> None:
        """Open all files anew; if one fails, the old ones stay in use.

        Raises:
            OSError: One cannot be opened.
        """
        opened: dict[str, int] = {}
        try:
            for name, path in self._paths.items():
                opened[name] = log.open_file(path)
        except OSError:
            for descriptor in opened.values():
                os.close(descriptor)
            raise
        self.close()
        self.descriptors = opened

    def close(self) -> None:
        """Close all; idempotent."""
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors = {}
