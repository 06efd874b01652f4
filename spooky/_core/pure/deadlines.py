# cython: annotation_typing=False
"""The timeouts of one exchange: several deadlines behind one timer.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from math import inf
from typing import Any

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.terms import Timeouts
from spooky._core.timers import Timer
from spooky._core.turns import Turns

_NEVER = inf
_BODY_TIMEOUT = reasons.CLIENT_BODY_TIMEOUT
_BODY_SLOW = reasons.CLIENT_BODY_SLOW
_READ_TIMEOUT = reasons.CLIENT_READ_TIMEOUT
_READ_SLOW = reasons.CLIENT_READ_SLOW


class Deadlines:
    """Who is waited for, until when; the earliest that passes is told to the owner.

    Moving a deadline is one assignment; the timer is only touched when it would fire too late.

    A client that is held to a rate has an allowance of time, at most the grace. It shrinks while
    the client is waited for, and grows with each byte that moves, by the time that the byte may
    take. Who has none left is too slow, however often something moved.

    Arguments:
        runtime: The worker's.
        owner: Its ``on_deadline`` is called with the reason of the deadline that passed, and its
            ``client_moved`` is asked before, where a client is to move: it returns how many bytes
            did since it was asked.
    """

    def __init__(self, runtime: Turns, owner: Any) -> None:
        self._runtime = runtime
        self._owner = owner
        self._timer: Timer | None = None
        self._client = _NEVER
        self._client_reason: Reason | None = None
        # The client's idle time, and since when it is charged; never if it is not.
        self._idle = _NEVER
        self._idle_reason: Reason | None = None
        self._charged_since = _NEVER
        # Bytes per second, none if 0; and seconds.
        self._rate = 0.0
        self._grace = 0.0
        self._allowance = 0.0
        self._slow_reason: Reason | None = None
        # What had come of the body when its time was last looked at; bytes.
        self._received = 0
        self._upstream = _NEVER
        self._upstream_reason: Reason | None = None
        self._total = _NEVER

    @property
    def allowance(self) -> float:
        """How long the client may still be waited for if nothing moves; seconds."""
        if self._charged_since < _NEVER:
            return self._allowance - (self._runtime.clock() - self._charged_since)
        return self._allowance

    def expect_client(self, seconds: float, reason: Reason) -> None:
        """Give the client so long from now."""
        self.client_acted()
        self._client_reason = reason
        self._client = self._arm(seconds)

    def hold_to_rate(self, rate: float, grace: float, reason: Reason) -> None:
        """Hold the client to a rate where it is to move from now on, with a full allowance.

        Nothing changes if that is so already.

        Arguments:
            rate: Bytes per second; 0 for none.
            grace: The largest allowance; seconds.
            reason: Why who is slower is ended.
        """
        if self._slow_reason is not reason:
            self._slow_reason = reason
            self._rate = rate
            self._grace = self._allowance = grace

    def expect_movement(self, seconds: float, reason: Reason | None, moved: int) -> None:
        """Give the client so long from now until something moves, and its allowance in all.

        Arguments:
            seconds: How long nothing may move.
            reason: Why a client is ended of which nothing did.
            moved: Bytes that did since the last time.
        """
        now = self._runtime.clock()
        self._settle(now, moved)
        self._charged_since = now
        self._idle = seconds
        self._idle_reason = reason
        self._client_reason = reason
        if self._rate > 0 and self._allowance < seconds:
            seconds = self._allowance
            self._client_reason = self._slow_reason
        self._client = now + seconds
        self._wake_at(self._client)

    def expect_body(self, timeouts: Timeouts, is_declared: bool, received: int) -> None:
        """Give the client until it sends on, and from its first byte on its allowance.

        Before that it may wait for a 100 of the backend.

        Arguments:
            timeouts: Those in force.
            is_declared: Whether the length of its body is known.
            received: How much came so far; bytes.
        """
        if not received:
            self.expect_client(timeouts.request_idle, _BODY_TIMEOUT)
            return
        rates = timeouts.rates
        rate = rates.request if is_declared else rates.stream
        self.hold_to_rate(rate, rates.grace, _BODY_SLOW)
        moved = received - self._received
        self._received = received
        self.expect_movement(timeouts.request_idle, _BODY_TIMEOUT, moved)

    def expect_reading(self, timeouts: Timeouts) -> None:
        """Give the client until it takes more of the response, unless that is so already."""
        if self._charged_since < _NEVER:
            return
        rates = timeouts.rates
        self.hold_to_rate(rates.response, rates.grace, _READ_SLOW)
        moved = self._owner.client_moved()
        self.expect_movement(timeouts.request_idle, _READ_TIMEOUT, moved)

    def expect_upstream(self, seconds: float, reason: Reason) -> None:
        """Give the backend so long from now."""
        self._upstream_reason = reason
        self._upstream = self._arm(seconds)

    def limit_total(self, seconds: float) -> None:
        """Give the whole exchange so long from now."""
        self._total = self._arm(seconds)

    def client_acted(self) -> None:
        """Nothing is expected of the client."""
        if self._charged_since < _NEVER:
            self._settle(self._runtime.clock(), 0)
            self._charged_since = _NEVER
        self._client = _NEVER

    def upstream_acted(self) -> None:
        """Nothing is expected of the backend."""
        self._upstream = _NEVER

    def close(self) -> None:
        """Expect nothing any more, and let go of who expected it."""
        self._owner = None
        self._client = self._upstream = self._total = self._charged_since = _NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _settle(self, now: float, moved: int) -> None:
        """Charge the time since the client began to be waited for, and credit what moved."""
        if self._rate > 0:
            if self._charged_since < _NEVER:
                self._allowance -= now - self._charged_since
            self._allowance = min(self._grace, self._allowance + moved / self._rate)

    def _has_moved(self, now: float) -> bool:
        """Return whether the client, whose time is over, has more because something moved."""
        if self._charged_since == _NEVER:
            return False
        moved = self._owner.client_moved()
        if moved <= 0:
            return False
        self.expect_movement(self._idle, self._idle_reason, moved)
        return self._client > now

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
        elif self._client <= now and not self._has_moved(now):
            self._client = self._charged_since = _NEVER
            self._owner.on_deadline(self._client_reason)
        # The owner may go on, with another try: what else was expected still is.
        earliest = min(self._upstream, self._client, self._total)
        if earliest < _NEVER:
            self._wake_at(earliest)
