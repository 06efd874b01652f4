"""The timeouts of one exchange: several deadlines behind one timer."""

from collections.abc import Callable
from math import inf

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.timers import Timer
from spooky.runtime import Runtime


class Deadlines:
    """Who is waited for, until when; the earliest that passes ends the exchange.

    Moving a deadline is one assignment; the timer is only touched when it would fire too late.

    Arguments:
        runtime: The worker's.
        on_expired: Called with the reason of the deadline that passed.
    """

    __slots__ = (
        "_client", "_client_reason", "_on_expired", "_runtime", "_timer", "_total", "_upstream",
        "_upstream_reason",
    )  # fmt: skip

    def __init__(self, runtime: Runtime, on_expired: Callable[[Reason], None]) -> None:
        self._runtime = runtime
        self._on_expired = on_expired
        self._timer: Timer | None = None
        self._client = inf
        self._client_reason = reasons.CLIENT_BODY_TIMEOUT
        self._upstream = inf
        self._upstream_reason = reasons.UPSTREAM_HEAD_TIMEOUT
        self._total = inf

    def expect_client(self, seconds: float, reason: Reason) -> None:
        """Give the client so long from now."""
        self._client_reason = reason
        self._client = self._arm(seconds)

    def expect_upstream(self, seconds: float, reason: Reason) -> None:
        """Give the backend so long from now."""
        self._upstream_reason = reason
        self._upstream = self._arm(seconds)

    def limit_total(self, seconds: float) -> None:
        """Give the whole exchange so long from now."""
        self._total = self._arm(seconds)

    def client_acted(self) -> None:
        """Nothing is expected of the client."""
        self._client = inf

    def upstream_acted(self) -> None:
        """Nothing is expected of the backend."""
        self._upstream = inf

    def close(self) -> None:
        """Expect nothing any more, and let go of who expected it."""
        self._on_expired = _ignore
        self._client = self._upstream = self._total = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> float:
        deadline = self._runtime.now() + seconds
        if self._timer is None:
            self._timer = self._runtime.schedule(deadline, self._on_timer)
        elif deadline < self._timer.deadline:
            self._timer.cancel()
            self._timer = self._runtime.schedule(deadline, self._on_timer)
        return deadline

    def _on_timer(self) -> None:
        self._timer = None
        now = self._runtime.now()
        if self._upstream <= now:
            self._on_expired(self._upstream_reason)
        elif self._client <= now:
            self._on_expired(self._client_reason)
        elif self._total <= now:
            self._on_expired(reasons.REQUEST_TIMEOUT)
        else:
            earliest = min(self._upstream, self._client, self._total)
            if earliest < inf:
                self._timer = self._runtime.schedule(earliest, self._on_timer)


def _ignore(reason: Reason) -> None:
    """Nobody waits."""
