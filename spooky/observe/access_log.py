"""The access log: one line for each request, JSON or plain."""

import json
import logging
import os
import time
from typing import Final

import msgspec

from spooky._core.access_record import AccessRecord

logger = logging.getLogger(__name__)

BUFFER_MAX_BYTES: Final = 1024 * 1024
"""What is kept for a log that takes no more (a full pipe); lines beyond it are only counted."""

FIELD_MAX_BYTES: Final = 2048
"""Longest path or authority that is logged; the rest is cut, as clients choose these."""


class AccessLog:
    """Writes lines to a descriptor, in one write for each turn of the loop.

    Arguments:
        descriptor: Where lines go; owned by the caller until :meth:`reopen`.
        as_json: JSON lines rather than plain ones.
    """

    def __init__(self, descriptor: int, as_json: bool) -> None:
        self._descriptor = descriptor
        self._as_json = as_json
        self._lines: list[bytes] = []
        self._size = 0
        self._flush_expected = False
        self.dropped_lines = 0
        # Of them, those since the log was last written.
        self._lost = 0

    def write(self, record: AccessRecord) -> bool:
        """Add a line.

        Returns:
            Whether a :meth:`flush` has to be arranged; one is enough for many lines.
        """
        line = _json_line(record) if self._as_json else _plain_line(record)
        if self._size + len(line) > BUFFER_MAX_BYTES:
            self._lose(1, "whoever reads it is too slow")
        else:
            self._lines.append(line)
            self._size += len(line)
        was_expected, self._flush_expected = self._flush_expected, True
        return not was_expected

    def flush(self) -> None:
        """Write what is pending; what the descriptor does not take now is kept."""
        self._flush_expected = False
        if not self._lines:
            return
        content = b"".join(self._lines)
        try:
            written = os.write(self._descriptor, content)
        except BlockingIOError:
            written = 0
        except OSError as error:
            # The log is gone (a closed pipe, a full disk): serving goes on without it.
            self._lose(content.count(b"\n"), error.strerror or str(error))
            written = len(content)
        else:
            # Not where a slow reader takes a part, and more may be lost.
            if self._lost and written == len(content):
                logger.warning("the access log is written again; %d lines were lost", self._lost)
                self._lost = 0
        rest = content[written:]
        self._lines = [rest] if rest else []
        self._size = len(rest)

    def _lose(self, lines: int, why: str) -> None:
        """Count lines that are lost, and say so once."""
        if not self._lost:
            logger.error("the access log cannot be written, and lines are lost: %s", why)
        self._lost += lines
        self.dropped_lines += lines

    def reopen(self, descriptor: int) -> None:
        """Go on in another descriptor, after writing what is pending to the old one."""
        self.flush()
        self._descriptor = descriptor


def _json_line(record: AccessRecord) -> bytes:
    return msgspec.json.encode(_values(record)) + b"\n"


def _plain_line(record: AccessRecord) -> bytes:
    values = _values(record)
    text = " ".join(f"{name}={_quoted(value)}" for name, value in values.items() if name != "time")
    return f"{values['time']} {text}\n".encode()


def _values(record: AccessRecord) -> dict[str, str | int | float | None]:
    """Return a line's values by name; durations in ms."""
    return {
        "time": _timestamp(),
        "request_id": record.request_id,
        "client": _text(record.address),
        "client_port": record.port,
        "method": _text(record.method),
        "authority": _text(record.authority),
        "path": _text(record.path),
        "protocol": record.protocol,
        "early_data": record.early,
        "upstream_protocol": record.upstream_protocol or None,
        "status": record.status or None,
        "bytes_received": record.bytes_received,
        "bytes_sent": record.bytes_sent,
        "duration_ms": _since_start(record, record.ended),
        "connect_ms": _since_start(record, record.connected),
        "first_byte_ms": _since_start(record, record.first_byte),
        "upstream": record.upstream or None,
        "backend": record.backend or None,
        "tries": record.tries,
        "hedged": record.hedged,
        "stage": record.reason.stage.value,
        "reason": record.reason.code,
        "detail": record.detail or None,
    }


def _since_start(record: AccessRecord, moment: float) -> float | None:
    return round((moment - record.started) * 1000, 3) if moment >= 0 else None


def _quoted(value: str | float | None) -> str:
    """Return a value so that a line splits at spaces: quoted where it has to be."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if text and not any(character in ' "=\\' or not character.isprintable() for character in text):
        return text
    return json.dumps(text)


def _text(value: bytes) -> str:
    """Return bytes that a client chose as text without control characters."""
    text = value[:FIELD_MAX_BYTES].decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else f"\\x{ord(character):02x}" for character in text
    )


def _timestamp() -> str:
    """Return the current time in UTC, RFC 3339 with milliseconds."""
    now = time.time()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{seconds}.{int(now * 1000) % 1000:03d}Z"
