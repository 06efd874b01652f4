# cython: annotation_typing=False
"""A circuit breaker: a backend that fails time after time is left alone, then tried with a few.

It is closed, open, or half-open. All workers share it, in two of the words of the backend's limit
on what is in flight: one for the state, changed by compare-and-swap, one for failures in a row.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections.abc import Callable
from typing import Final

from spooky._core.shared import Words

REFUSED: Final = -1
"""Instead of a ticket."""

CLOSED: Final = 0
OPEN: Final = 1
HALF_OPEN: Final = 2
"""What a breaker is; half-open while the results of probes are waited for."""

THRESHOLD_MAX: Final = 100
PROBES_MAX: Final = 100
"""What the fields of a word and of a ticket have room for, and more than is of use."""

# Positions of words.
STATE: Final = 1
FAILURES: Final = 2

_REFUSED = REFUSED
_CLOSED = CLOSED
_OPEN = OPEN
_HALF_OPEN = HALF_OPEN
_STATE = STATE
_FAILURES = FAILURES

# The state, from the lowest bit: how many probes are under way; how often in a row a probe failed;
# the round, which counts changes of the state so that results from before one are ignored; and
# until when it is open, in milliseconds, where 0 means closed. With probes under way it is
# half-open, and that is when they count as lost.
_PROBES_MASK = 0xFF
_STREAK_SHIFT = 8
_STREAK_MASK = 0xF
_ROUND_SHIFT = 12
_ROUND_MASK = 0xFFF
_UNTIL_SHIFT = 24
# Open until this long ago means that a probe ended without a result: still half-open.
_NO_RESULT = 1

# A ticket: failures in a row at admission, whether it is a probe, and the round.
_TICKET_FAILURES = 0xFF
_TICKET_PROBE = 0x100
_TICKET_ROUND_SHIFT = 9


class Breaker:
    """The circuit breaker of one backend.

    So many failures in a row open it, each of a request that began after the failure before: what
    one lost connection takes with it is one failure. It stays open for a time that doubles, up to a
    maximum, whenever a probe fails; one that succeeds closes it.

    Arguments:
        words: Of the backend's limit on what is in flight; all workers give the same.
        threshold: Failures in a row that open it.
        open_initial_ms: How long it is open at first.
        open_max_ms: How long at most.
        probes: Requests let through at once when that time is over.
        on_change: Called in the worker that changes what it is, with that and for how many
            milliseconds it lets nothing through.
    """

    def __init__(
        self,
        words: Words,
        threshold: int,
        open_initial_ms: int,
        open_max_ms: int,
        probes: int,
        on_change: Callable[[int, int], object] | None = None,
    ) -> None:
        if not (1 <= threshold <= THRESHOLD_MAX and 1 <= probes <= PROBES_MAX):
            raise ValueError("thresholds and probes are 1 to 100")
        if not 1 <= open_initial_ms <= open_max_ms:
            raise ValueError("a breaker needs 1 <= open_initial_ms <= open_max_ms")
        self._words = words
        self._threshold = threshold
        self._open_initial_ms = open_initial_ms
        self._open_max_ms = open_max_ms
        self._probes = probes
        self._on_change = on_change

    def enter(self, now: float) -> int:
        """Let a request through, or not.

        Arguments:
            now: Seconds on a clock that all workers share.

        Returns:
            A ticket for :meth:`succeeded`, :meth:`failed` or :meth:`gave_up`, one of which is owed;
            -1 if the request must not go to this backend.
        """
        state = self._words.load(_STATE)
        if state >> _UNTIL_SHIFT == 0:
            return self._ticket(state) | self._words.load(_FAILURES)
        return self._probe(state, int(now * 1000))

    def succeeded(self, ticket: int) -> bool:
        """Take the result of a request that the backend answered.

        Returns:
            Whether that closed the breaker.
        """
        if ticket & _TICKET_PROBE:
            return self._end_probe(ticket)
        if self._words.load(_FAILURES) and self._is_current(ticket):
            self._words.store(_FAILURES, 0)
        return False

    def answered(self, ticket: int) -> None:
        """Take it that the response head came: a probe need not wait for the end of the body."""
        if ticket & _TICKET_PROBE:
            self._end_probe(ticket)

    def failed(self, ticket: int, now: float) -> bool:
        """Take the result of a request that the backend failed.

        Returns:
            Whether that opened the breaker.
        """
        state = self._words.load(_STATE)
        if self._ticket(state) != ticket & ~(_TICKET_FAILURES | _TICKET_PROBE):
            return False
        if ticket & _TICKET_PROBE:
            return self._open(state, int(now * 1000))
        failures = ticket & _TICKET_FAILURES
        if not self._words.swap(_FAILURES, failures, failures + 1):
            return False
        return failures + 1 >= self._threshold and self._open(state, int(now * 1000))

    def gave_up(self, ticket: int) -> None:
        """Take it that a request ended with no result; its probe is another's."""
        while ticket & _TICKET_PROBE and self._is_current(ticket):
            state = self._words.load(_STATE)
            if state & _PROBES_MASK == 0:
                return
            left = state - 1
            if left & _PROBES_MASK == 0:
                # Open until long ago, so that the next request is a probe.
                left = left & ((1 << _UNTIL_SHIFT) - 1) | _NO_RESULT << _UNTIL_SHIFT
            if self._words.swap(_STATE, state, left):
                return

    def remaining(self, now: float) -> float:
        """Return for how many seconds it lets nothing through; 0 if a request may try."""
        state = self._words.load(_STATE)
        if state >> _UNTIL_SHIFT == 0 or 0 < state & _PROBES_MASK < self._probes:
            return 0.0
        return max(0.0, (state >> _UNTIL_SHIFT) / 1000 - now)

    @property
    def is_closed(self) -> bool:
        """Whether every request is let through."""
        return self._words.load(_STATE) >> _UNTIL_SHIFT == 0

    @property
    def phase(self) -> int:
        """What it is: closed, open or half-open."""
        state = self._words.load(_STATE)
        if state >> _UNTIL_SHIFT == 0:
            return _CLOSED
        if state & _PROBES_MASK or state >> _UNTIL_SHIFT == _NO_RESULT:
            return _HALF_OPEN
        return _OPEN

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._words.load(_FAILURES)

    def _ticket(self, state: int) -> int:
        return (state >> _ROUND_SHIFT & _ROUND_MASK) << _TICKET_ROUND_SHIFT

    def _is_current(self, ticket: int) -> bool:
        mine = ticket & ~(_TICKET_FAILURES | _TICKET_PROBE)
        return self._ticket(self._words.load(_STATE)) == mine

    def _probe(self, state: int, now_ms: int) -> int:
        """Take a probe if there is one to take."""
        while state >> _UNTIL_SHIFT:
            probes = state & _PROBES_MASK
            until = state >> _UNTIL_SHIFT
            if 0 < probes < self._probes:
                taken = state + 1
            elif now_ms < until:
                return _REFUSED
            else:
                # None was under way, or they are lost: a worker that dies tells no result.
                streak = state >> _STREAK_SHIFT & _STREAK_MASK
                taken = self._state(now_ms + self._open_max_ms, self._next_round(state), streak, 1)
            if self._words.swap(_STATE, state, taken):
                if probes == 0 and until != _NO_RESULT:
                    self._tell(_HALF_OPEN, 0)
                return self._ticket(taken) | _TICKET_PROBE
            state = self._words.load(_STATE)
        return self._ticket(state) | self._words.load(_FAILURES)

    def _end_probe(self, ticket: int) -> bool:
        """Close, unless the state has changed since the probe began."""
        while self._is_current(ticket):
            state = self._words.load(_STATE)
            if state >> _UNTIL_SHIFT == 0:
                return False
            if self._words.swap(_STATE, state, self._state(0, self._next_round(state), 0, 0)):
                self._tell(_CLOSED, 0)
                return True
        return False

    def _open(self, state: int, now_ms: int) -> bool:
        """Open, unless another worker changes the state."""
        streak = state >> _STREAK_SHIFT & _STREAK_MASK
        length = min(self._open_initial_ms << streak, self._open_max_ms)
        streak = min(streak + 1, _STREAK_MASK)
        opened = self._state(now_ms + length, self._next_round(state), streak, 0)
        if not self._words.swap(_STATE, state, opened):
            return False
        self._words.store(_FAILURES, 0)
        self._tell(_OPEN, length)
        return True

    def _tell(self, phase: int, open_ms: int) -> None:
        if self._on_change is not None:
            self._on_change(phase, open_ms)

    def _state(self, until: int, round_: int, streak: int, probes: int) -> int:
        low = round_ << _ROUND_SHIFT | streak << _STREAK_SHIFT | probes
        return until << _UNTIL_SHIFT | low

    def _next_round(self, state: int) -> int:
        return (state >> _ROUND_SHIFT) + 1 & _ROUND_MASK
