"""The access log: one line for each request, JSON or plain."""

import json
import os
import time
from typing import Final

import msgspec

from spooky._core.reasons import Reason
from spooky._core.validate import Request

BUFFER_MAX_BYTES: Final = 1024 * 1024
"""What is kept for a log that takes no more (a full pipe); lines beyond it are only counted."""

FIELD_MAX_BYTES: Final = 2048
"""Longest path or authority that is logged; the rest is cut, as clients choose these."""


class AccessRecord:
    """What is known of one exchange; filled in as it happens.

    Attributes:
        started: When the request head came; seconds.
        method: Request method, empty before the head.
        upstream: Name of the upstream, empty before one is chosen.
        backend: Name of the backend, likewise.
        bytes_received: Request body bytes from the client.
        bytes_sent: Response body bytes to the client.
        detail: What the system said about a failure.
        connected: When a backend's connection took the request; seconds, negative before.
        first_byte: When the response head came, likewise.
        status: The response's status; 0 before there is one.
    """

    __slots__ = (
        "_address", "_authority", "_ended", "_path", "_port", "_protocol", "_reason",
        "_request_id", "_upstream_protocol", "backend", "bytes_received", "bytes_sent",
        "connected", "detail", "first_byte", "method", "started", "status", "upstream",
    )  # fmt: skip

    def __init__(self, request_id: str, started: float) -> None:
        self.started = started
        self.method = b""
        self.upstream = ""
        self.backend = ""
        self.bytes_received = 0
        self.bytes_sent = 0
        self.detail = ""
        self._request_id = request_id
        self._authority = b""
        self._path = b""
        self._upstream_protocol = ""
        self.connected = -1.0
        self.first_byte = -1.0
        self.status = 0
        self._ended = started
        self._reason: Reason
        self._address = b""
        self._port = 0
        self._protocol = ""

    def take_request(self, request: Request) -> None:
        """Take what the log says of a valid request; the query stays out of the log."""
        self.method = request.method
        self._authority = request.authority
        self._path = request.path

    def take_raw_head(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Take what can be had of an invalid head."""
        for name, value in fields:
            if name == b":method":
                self.method = value
            elif name == b":path":
                self._path = value.partition(b"?")[0]
            elif name in (b":authority", b"host"):
                self._authority = value

    def upstream_connected(self, now: float, protocol: str) -> None:
        """Note when a backend was connected, and what it speaks."""
        self.connected = now
        self._upstream_protocol = protocol

    def response_head(self, now: float, status: int) -> None:
        """Note when the response began."""
        self.first_byte = now
        self.status = status

    def backend_latency_ms(self) -> float:
        """Return the time from request to response head of a backend that answered, else -1."""
        if self.connected < 0 or self.first_byte < self.connected or self.status >= 500:
            return -1.0
        return (self.first_byte - self.connected) * 1000

    def close(self, now: float, reason: Reason, address: bytes, port: int, protocol: str) -> None:
        """Note the end, and whose request it was."""
        self._ended = now
        self._reason = reason
        self._address = address
        self._port = port
        self._protocol = protocol

    def values(self) -> dict[str, str | int | float | None]:
        """Return the line's values by name; durations in ms."""
        return {
            "time": _timestamp(),
            "request_id": self._request_id,
            "client": _text(self._address),
            "client_port": self._port,
            "method": _text(self.method),
            "authority": _text(self._authority),
            "path": _text(self._path),
            "protocol": self._protocol,
            "upstream_protocol": self._upstream_protocol or None,
            "status": self.status or None,
            "bytes_received": self.bytes_received,
            "bytes_sent": self.bytes_sent,
            "duration_ms": self._since_start(self._ended),
            "connect_ms": self._since_start(self.connected),
            "first_byte_ms": self._since_start(self.first_byte),
            "upstream": self.upstream or None,
            "backend": self.backend or None,
            "stage": self._reason.stage.value,
            "reason": self._reason.code,
            "detail": self.detail or None,
        }

    def _since_start(self, moment: float) -> float | None:
        return round((moment - self.started) * 1000, 3) if moment >= 0 else None


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

    def write(self, record: AccessRecord) -> bool:
        """Add a line.

        Returns:
            Whether a :meth:`flush` has to be arranged; one is enough for many lines.
        """
        line = _json_line(record) if self._as_json else _plain_line(record)
        if self._size + len(line) > BUFFER_MAX_BYTES:
            self.dropped_lines += 1
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
        except OSError:
            # The log is gone (a closed pipe, a full disk): serving goes on without it.
            self.dropped_lines += len(self._lines)
            written = len(content)
        rest = content[written:]
        self._lines = [rest] if rest else []
        self._size = len(rest)

    def reopen(self, descriptor: int) -> None:
        """Go on in another descriptor, after writing what is pending to the old one."""
        self.flush()
        self._descriptor = descriptor


def _json_line(record: AccessRecord) -> bytes:
    return msgspec.json.encode(record.values()) + b"\n"


def _plain_line(record: AccessRecord) -> bytes:
    values = record.values()
    text = " ".join(f"{name}={_quoted(value)}" for name, value in values.items() if name != "time")
    return f"{values['time']} {text}\n".encode()


def _quoted(value: str | float | None) -> str:
    """Return a value so that a line splits at spaces: quoted where it has to be."""
    if value is None:
        return "-"
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
