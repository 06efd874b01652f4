# cython: annotation_typing=False
"""The timeouts of one exchange: several deadlines behind one timer.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from math import inf
from typing import Any

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.timers import Timer
from spooky._core.turns import Turns

_NEVER = inf


class Deadlines:
    """Who is waited for, until when; the earliest that passes is told to the owner.

    Moving a deadline is one assignment; the timer is only touched when it would fire too late.

    Arguments:
        runtime: The worker's.
        owner: Its ``on_deadline`` is called with the reason of the deadline that passed.
    """

    def __init__(self, runtime: Turns, owner: Any) -> None:
        self._runtime = runtime
        self._owner = owner
        self._timer: Timer | None = None
        self._client = _NEVER
        self._client_reason: Reason | None = None
        self._upstream = _NEVER
        self._upstream_reason: Reason | None = None
        self._total = _NEVER

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
        self._client = _NEVER

    def upstream_acted(self) -> None:
        """Nothing is expected of the backend."""
        self._upstream = _NEVER

    def close(self) -> None:
        """Expect nothing any more, and let go of who expected it."""
        self._owner = None
        self._client = self._upstream = self._total = _NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> float:
        deadline = self._runtime.clock() + seconds
        self._wake_at(deadline)
        return deadline

    def _wake_at(self, deadline: float) -> None:
        """Look then at the latest."""
        if self._timer is None:
            self._timer = self._runtime.schedule(deadline, self)
        elif deadline < self._timer.deadline:
            self._timer.cancel()
            self._timer = self._runtime.schedule(deadline, self)

    def __call__(self) -> None:
        """Tell the owner what passed, or wait on: the timer's callback."""
        self._on_timer()

    def _on_timer(self) -> None:
        self._timer = None
        now = self._runtime.clock()
        if self._owner is None:
            return
        if self._total <= now:
            self._total = _NEVER
            self._owner.on_deadline(reasons.REQUEST_TIMEOUT)
        elif self._upstream <= now:
            self._upstream = _NEVER
            self._owner.on_deadline(self._upstream_reason)
        elif self._client <= now:
            self._client = _NEVER
            self._owner.on_deadline(self._client_reason)
        # The owner may go on, with another try: what else was expected still is.
        earliest = min(self._upstream, self._client, self._total)
        if earliest < _NEVER:
            self._wake_at(earliest)
