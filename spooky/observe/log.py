"""The log: what Spooky says about itself, for people or as JSON lines."""

import json
import logging
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


def configure(level: str, as_json: bool, path: str | None) -> logging.Handler:
    """Send what the ``spooky`` loggers say to stderr or to a file.

    Arguments:
        level: One of :data:`LEVELS`.
        as_json: JSON lines rather than plain ones.
        path: The file; ``None`` for stderr.

    Returns:
        The handler; a file's can be reopened with :func:`reopen`.

    Raises:
        OSError: The file cannot be opened.
    """
    handler: logging.Handler = (
        logging.FileHandler(path, encoding="utf-8") if path is not None else logging.StreamHandler()
    )
    handler.setFormatter(JsonFormatter() if as_json else PlainFormatter())
    root = logging.getLogger("spooky")
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    root.propagate = False
    return handler


def reopen(handler: logging.Handler) -> None:
    """Open a handler's file anew, after it was rotated; stderr is left alone."""
    if isinstance(handler, logging.FileHandler):
        # A closed FileHandler opens its file again at the next record.
        handler.close()


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text = f"{text}\n{formatter.formatException(record.exc_info)}"
    return text


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
