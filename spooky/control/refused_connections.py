"""Connections of the control API that got no answer, as lines of the audit log."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spooky.control.audit import AuditEvent, audit_text

REFUSED_SECONDS: Final = 1.0
"""Refused connections get one line for each cause in so long: a flood must not fill the log."""


@dataclass(slots=True)
class _Untold:
    """What of one cause was not written down yet.

    Attributes:
        until: Ends the second in which it is only counted.
        count: How many connections.
        peer: The address of the last one.
        detail: What was said of that one.
    """

    until: asyncio.TimerHandle
    count: int = 0
    peer: str = ""
    detail: str = ""


class RefusedConnections:
    """Writes connections down that were refused before a request: each is told of, or counted.

    Arguments:
        write: Takes a line of the audit log.
        generation: Gives the number of the generation in force.
    """

    def __init__(self, write: Callable[[AuditEvent], None], generation: Callable[[], int]) -> None:
        self._write = write
        self._generation = generation
        self._loop = asyncio.get_running_loop()
        self._untold: dict[str, _Untold] = {}

    def add(self, peer: str, code: str, detail: str = "") -> None:
        """Write a connection down, at once or with others that come within a second.

        Arguments:
            peer: The address that it came from.
            code: Why it was refused, one of a few words.
            detail: More of it, for people.
        """
        untold = self._untold.get(code)
        if untold is not None:
            untold.count += 1
            untold.peer, untold.detail = peer, detail
            return
        self._line(peer, code, detail)
        self._count_more(code)

    def close(self) -> None:
        """Write what was only counted; idempotent."""
        for code, untold in self._untold.items():
            untold.until.cancel()
            self._tell(code, untold)
        self._untold.clear()

    def _count_more(self, code: str) -> None:
        until = self._loop.call_later(REFUSED_SECONDS, self._on_second, code)
        self._untold[code] = _Untold(until)

    def _on_second(self, code: str) -> None:
        untold = self._untold.pop(code)
        if untold.count:
            self._tell(code, untold)
            self._count_more(code)

    def _tell(self, code: str, untold: _Untold) -> None:
        if untold.count:
            many = f"{untold.count} connections" if untold.count > 1 else ""
            text = ", the last: ".join(filter(None, (many, untold.detail)))
            self._line(untold.peer, code, text)

    def _line(self, peer: str, code: str, reason: str) -> None:
        event = AuditEvent(
            through="tcp", peer=audit_text(peer), actor="", role="", action="connect", method="",
            target="", status=0, outcome="refused", code=code, generation=self._generation(),
            reason=audit_text(reason),
        )  # fmt: skip
        self._write(event)
