"""The audit log: who asked the control API for what, and what came of it; JSON lines."""

import datetime
import logging
import os
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import structs

from spooky.config.control_api import Audit

logger = logging.getLogger(__name__)

FILE_MODE: Final = 0o600
TEXT_MAX: Final = 256
"""Longest text of a request that a line repeats; characters."""


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One request, or one connection that was refused.

    Attributes:
        through: ``socket`` or ``tcp``.
        peer: The address that it came from; empty on the socket.
        actor: Who asked; empty if they did not say, or it was not true.
        role: What they may do, likewise.
        action: What they asked for: the operation's name, else ``unknown`` or ``connect``.
        method: The request's method.
        target: The request's path.
        status: The answer's.
        outcome: ``done``, ``refused`` (their fault) or ``failed`` (ours).
        code: What went wrong, for programs.
        generation: The generation in force afterwards.
        reason: Why they asked, in their words; of connections how many, and what was wrong.
    """

    through: str
    peer: str
    actor: str
    role: str
    action: str
    method: str
    target: str
    status: int
    outcome: str
    code: str
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class AuditSink:
    """Where events go.

    Attributes:
        settings: What the configuration says.
        descriptor: The file's; ``None`` for the log.
    """

    settings: Audit
    descriptor: int | None = None

    @classmethod
    def open(cls, settings: Audit) -> "AuditSink":
        """Open what the configuration names; the directory exists already.

        Raises:
            OSError: The file cannot be opened.
        """
        if not settings.enabled or settings.sink == "log" or settings.file_path is None:
            return cls(settings)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return cls(settings, os.open(settings.file_path, flags, FILE_MODE))

    def close(self) -> None:
        """Close the file; once."""
        if self.descriptor is not None:
            os.close(self.descriptor)


class AuditLog:
    """Writes events where the configuration in force says.

    Attributes:
        failures: Lines that could not be written.
    """

    def __init__(self) -> None:
        self._sink = AuditSink(Audit(enabled=False))
        self.failures = 0

    def use(self, sink: AuditSink) -> None:
        """Write elsewhere from now on; the sink is ours then."""
        old, self._sink = self._sink, sink
        old.close()

    def reopen(self) -> None:
        """Open the file anew, as it was rotated.

        Raises:
            OSError: It cannot be opened; the old one stays in use.
        """
        self.use(AuditSink.open(self._sink.settings))

    def close(self) -> None:
        """Close the file; idempotent."""
        self.use(AuditSink(Audit(enabled=False)))

    def write(self, event: AuditEvent) -> None:
        """Write an event; one that cannot be written is counted and logged, and stops nothing."""
        if not self._sink.settings.enabled:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = msgspec.json.encode({"time": now, **structs.asdict(event)})
        if self._sink.descriptor is None:
            logger.info("%s", line.decode())
            return
        try:
            os.write(self._sink.descriptor, line + b"\n")
        except OSError as error:
            self.failures += 1
            logger.error("an audit line is lost (%s): %s", error.strerror, line.decode())


def audit_text(text: str) -> str:
    """Return a text of a request as a line repeats it."""
    return text[:TEXT_MAX]
