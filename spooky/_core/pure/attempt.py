# cython: annotation_typing=False
"""One try of an exchange at one backend: the upstream side of the join.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. Streams are those of
``protocol/stream.py``, pools those of ``upstream/pool.py``.
"""

from typing import Any

from spooky._core import reasons
from spooky._core.admission import Admission
from spooky._core.reasons import Reason

Field = tuple[bytes, bytes]

_NOT_YET = -1.0
_COMPLETED = reasons.COMPLETED


class Owner:
    """What an attempt tells its exchange."""

    def _now(self) -> float:
        """Return the time."""
        return 0.0

    def _on_upstream_connected(self, attempt: "Attempt", stream: Any) -> None:
        """Take the stream."""

    def on_upstream_failed(self, attempt: "Attempt", reason: Reason, detail: str) -> None:
        """Take the failure, for good or to try again."""

    def _on_response_head(self, attempt: "Attempt", fields: list[Field], end: bool) -> None:
        """Take the response head."""

    def _on_response_informational(self, attempt: "Attempt", fields: list[Field]) -> None:
        """Take a 1xx head."""

    def _on_response_data(self, attempt: "Attempt", data: bytes, end: bool) -> None:
        """Take a piece of the response body."""

    def _on_response_trailers(self, attempt: "Attempt", fields: list[Field]) -> None:
        """Take the response trailers."""

    def _on_upstream_writable(self, attempt: "Attempt") -> None:
        """Learn that the backend accepted what it was sent."""


class Attempt:
    """One try of an exchange at one backend: the upstream side of the join.

    Asks a pool for a stream and hands the exchange what it delivers.

    Arguments:
        exchange: Whose try it is.
        admission: Its places in flight.
        started: When it began; seconds.

    Attributes:
        admission: Its places in flight.
        stream: The upstream stream, from when there is one until the end.
        reused: Whether its connection served requests before.
        heard: Whether a 1xx head came back.
        over: Whether it ended.
        owed: Response bytes delivered that the client has not accepted.
        started: When it began; seconds.
        connected: When there was a stream, likewise; negative before.
        sent: When the request was sent whole, likewise; when it began, if it had no body.
        answered: When the response head came, likewise.
        status: The response's status; 0 before there is one.
    """

    def __init__(self, exchange: Owner, admission: Admission, started: float) -> None:
        self._exchange = exchange
        self.admission = admission
        self.started = started
        self.stream: Any = None
        self.reused = False
        self.heard = False
        self.over = False
        self.owed = 0
        self.connected = _NOT_YET
        self.sent = _NOT_YET
        self.answered = _NOT_YET
        self.status = 0

    def give_up(self, reason: Reason) -> None:
        """End it from our side, places included; nothing more is heard of it."""
        if not self.over:
            self.over = True
            stream = self.stream
            self.stream = None
            if stream is not None:
                stream.reset(reason)
            else:
                self.admission.backend.pool.cancel(self)
        self.conclude(reason)

    def conclude(self, reason: Reason) -> None:
        """Give its places up, and have its outcome learnt; idempotent."""
        latency = _NOT_YET
        if self.answered >= 0 and self.status < 500:
            latency = (self.answered - self.connected) * 1000
        until = self.answered
        if reason is not _COMPLETED or until < 0:
            until = self._exchange._now()
        elapsed = (until - self.started) * 1000
        self.admission.leave(reason, self.status, elapsed, latency, until)

    def _took_head(self, now: float, status: int) -> None:
        """Note that the response head came, and have that learnt."""
        self.answered = now
        self.status = status
        service = _NOT_YET
        if self.sent >= 0:
            service = (now - self.sent) * 1000
        self.admission.answered(now, status, service)

    # --- the pool's upcalls -------------------------------------------------------------------

    def on_connected(self, stream: Any, reused: bool) -> None:
        """Take the stream."""
        self.stream = stream
        self.reused = reused
        self._exchange._on_upstream_connected(self, stream)

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        """Pass the failure on, unless it was given up while others were told of it."""
        if self.over:
            return
        self.over = True
        self._exchange.on_upstream_failed(self, reason, detail)

    # --- the stream's upcalls -----------------------------------------------------------------

    def on_head(self, fields: list[Field], end: bool) -> None:
        """Pass the response head on."""
        self._exchange._on_response_head(self, fields, end)

    def on_informational(self, fields: list[Field]) -> None:
        """Pass a 1xx head on."""
        self.heard = True
        self._exchange._on_response_informational(self, fields)

    def on_data(self, data: bytes, end: bool) -> None:
        """Pass a piece of the response body on."""
        self._exchange._on_response_data(self, data, end)

    def on_trailers(self, fields: list[Field]) -> None:
        """Pass the response trailers on."""
        self._exchange._on_response_trailers(self, fields)

    def on_reset(self, reason: Reason) -> None:
        """Pass the failure on."""
        self.over = True
        self.stream = None
        self._exchange.on_upstream_failed(self, reason, "")

    def on_stopped(self) -> None:
        """Do nothing: what is sent from now on is dropped by the session."""

    def on_writable(self) -> None:
        """Let the client send on."""
        self._exchange._on_upstream_writable(self)
