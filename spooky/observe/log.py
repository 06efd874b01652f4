"""The log: what Spooky says about itself, for people or as JSON lines."""

import contextlib
import json
import logging
import os
import time
from typing import Final

LEVELS: Final = {
    "off": logging.CRITICAL + 1,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG - 5,
}
"""The configuration's levels as those of :mod:`logging`."""

_LEVEL_NAMES: Final = {
    logging.ERROR: "error",
    logging.CRITICAL: "error",
    logging.WARNING: "warn",
    logging.INFO: "info",
    logging.DEBUG: "debug",
}


class PlainFormatter(logging.Formatter):
    """``time level [part] message``, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        text = _message(self, record)
        escaped = "".join(
            character if character.isprintable() or character in "\n\t" else repr(character)[1:-1]
            for character in text
        )
        level = _LEVEL_NAMES.get(record.levelno, "trace")
        return f"{_time(record)} {level} [{record.name}] {escaped}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return json.dumps(
            {
                "time": _time(record),
                "level": _LEVEL_NAMES.get(record.levelno, "trace"),
                "part": record.name,
                "message": _message(self, record),
            }
        )


class DescriptorHandler(logging.Handler):
    """Writes each line to a descriptor in one piece, so that processes can share it.

    Arguments:
        descriptor: Where to; owned by the caller.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; one that the descriptor does not take is lost."""
        with contextlib.suppress(OSError):
            os.write(self.descriptor, self.format(record).encode("utf-8", "replace") + b"\n")


def configure(level: str, as_json: bool, descriptor: int) -> DescriptorHandler:
    """Send what the ``spooky`` loggers say to a descriptor.

    Arguments:
        level: One of :data:`LEVELS`.
        as_json: JSON lines rather than plain ones.
        descriptor: Where to; owned by the caller.

    Returns:
        The handler; give it another descriptor after a log was reopened.
    """
    handler = DescriptorHandler(descriptor)
    handler.setFormatter(JsonFormatter() if as_json else PlainFormatter())
    root = logging.getLogger("spooky")
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    root.propagate = False
    return handler


def open_file(path: str) -> int:
    """Open a log to append to; not readable by others, as paths can be confidential.

    Returns:
        Its descriptor, the caller's to close.

    Raises:
        OSError: It cannot be opened.
    """
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text = f"{text}\n{formatter.formatException(record.exc_info)}"
    return text


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
