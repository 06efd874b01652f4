"""When a worker that still runs is replaced: the rules, without clock and processes.

A worker whose event loop does not turn says so by its silence; it cannot finish anything, so it is
killed. One whose loop turns may be ill all the same. That shows only beside the others: where all
have timeouts it is the backends, and where there is one worker it may be. Load is no sign at all:
one client may rightly have most of what is in flight.

Never are all replaced at once. If this process itself did not run for a while -- the machine was
suspended, its clock jumped, somebody stopped everything -- nobody's silence in that time counts;
and the next worker is replaced only when the successor of the one before serves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import sub
from typing import Final, NamedTuple, TypeAlias

from spooky.config.watchdog import Watchdog

LATE_SECONDS: Final = 1.0
"""A look that comes so much too late says that this process did not run."""

SUCCESSOR_SECONDS: Final = 60.0
"""How long the next waits for the successor of one that was replaced, if that does not begin."""


class Sign(StrEnum):
    """What a worker is replaced for."""

    STALLED = "stalled"
    TIMEOUTS = "timeouts"


class Requests(NamedTuple):
    """How many requests to an upstream ended, and of them because a backend took too long."""

    ended: int
    timed_out: int


NONE: Final[Mapping[str, Requests]] = {}


class Seen(NamedTuple):
    """A worker, as it is seen from outside.

    Attributes:
        slot: Its slot.
        pid: Its process.
        beat: When its loop last said that it turns, or until when it need not have; seconds.
        serves: Whether it is one of those that serve, and is not told to finish.
        requests: Those that ended at its slot so far, by upstream.
    """

    slot: int
    pid: int
    beat: float
    serves: bool
    requests: Mapping[str, Requests] = NONE


class ShowStack(NamedTuple):
    """Have a worker that stalls put its stack into the log."""

    slot: int
    seconds: float


class Spare(NamedTuple):
    """Say that a worker that stalls is not killed."""

    slot: int
    why: str


class Replace(NamedTuple):
    """End a worker.

    Attributes:
        slot: Its slot.
        sign: What for.
        text: The same for people.
        grace: How long it has to finish what it has; seconds, ``None`` to kill it.
    """

    slot: int
    sign: Sign
    text: str
    grace: float | None


class Slept(NamedTuple):
    """Say that this process did not run, so that nothing is concluded."""

    seconds: float


Act: TypeAlias = ShowStack | Spare | Replace | Slept


@dataclass(slots=True)
class _Record:
    """What is known of the worker of a slot.

    Attributes:
        pid: Its process.
        requests: Those that had ended at the last look.
        unhealthy: Unhealthy windows in a row.
        is_shown: Whether its stack was asked for.
        is_spared: Whether it was said that it is not killed.
        ended_for: What it was told to end for, if it was.
    """

    pid: int
    requests: Mapping[str, Requests]
    unhealthy: int = 0
    is_shown: bool = False
    is_spared: bool = False
    ended_for: Sign | None = None


@dataclass(slots=True)
class _Window:
    """What happened at a worker between two looks."""

    seen: Seen
    record: _Record
    requests: Mapping[str, Requests]


@dataclass(slots=True)
class WatchdogRules:
    """Decides which workers are replaced.

    Arguments:
        settings: The rules' numbers; may be replaced at any time.
        is_traced: Whether somebody debugs a process, and so stopped it.

    Attributes:
        degraded: Unhealthy windows so far.
        replaced: How many workers were replaced, by what for.
    """

    settings: Watchdog
    is_traced: Callable[[int], bool] = lambda _: False
    degraded: int = 0
    replaced: dict[Sign, int] = field(default_factory=lambda: dict.fromkeys(Sign, 0))
    _looked: float | None = None
    _not_before: float = 0.0
    _records: dict[int, _Record] = field(default_factory=dict)
    _cooling: dict[int, float] = field(default_factory=dict)
    _replacing: Seen | None = None
    _replacing_until: float = 0.0

    def look(self, now: float, workers: Sequence[Seen]) -> list[Act]:
        """Take a look, and return what there is to do.

        Arguments:
            now: Seconds, on the clock of heartbeats.
            workers: All that run.
        """
        acts = list(self._note_sleep(now))
        self._looked = now
        self._note_successor(now, workers)
        windows = [self._window(seen) for seen in workers]
        self._records = {window.seen.slot: window.record for window in windows}
        for window in windows:
            seen, record = window.seen, window.record
            silent = now - max(seen.beat, self._not_before)
            if silent * 1000 >= self.settings.poll_stall_timeout_ms:
                acts += self._on_stall(window, silent, now)
                continue
            record.is_shown = record.is_spared = False
            upstream = self._fails_alone(window, windows)
            if upstream is None:
                record.unhealthy = 0
            elif self._is_due(record, seen, now):
                text = f"backends of {upstream} do not answer it in time, and do answer another"
                acts.append(self._replace(window, Sign.TIMEOUTS, now, text))
        return acts

    def forget(self) -> None:
        """Begin anew, after a time without looks; what was replaced is remembered."""
        self._looked = None
        self._records = {}

    def _note_sleep(self, now: float) -> Iterator[Act]:
        if self._looked is None:
            return
        late = now - self._looked - self.settings.check_interval_ms / 1000
        if late >= LATE_SECONDS:
            self._not_before = now
            yield Slept(late)

    def _note_successor(self, now: float, workers: Sequence[Seen]) -> None:
        """See whether the worker that was replaced last has a successor that serves."""
        gone = self._replacing
        if gone is None:
            return
        has_begun = any(
            seen.slot == gone.slot and seen.pid != gone.pid and 0.0 < seen.beat <= now
            for seen in workers
        )
        if has_begun or now >= self._replacing_until:
            self._replacing = None

    def _window(self, seen: Seen) -> _Window:
        record = self._records.get(seen.slot)
        if record is None or record.pid != seen.pid:
            record = _Record(seen.pid, seen.requests)
        before, record.requests = record.requests, seen.requests
        none = Requests(0, 0)
        requests = {
            upstream: Requests(*map(sub, now, before.get(upstream, none)))
            for upstream, now in seen.requests.items()
        }
        return _Window(seen, record, requests)

    # --- stalls -------------------------------------------------------------------------------

    def _on_stall(self, window: _Window, silent: float, now: float) -> Iterator[Act]:
        seen, record = window.seen, window.record
        if not record.is_shown:
            record.is_shown = True
            yield ShowStack(seen.slot, silent)
        if not self._is_due(record, seen, now):
            return
        if self.is_traced(seen.pid):
            if not record.is_spared:
                record.is_spared = True
                yield Spare(seen.slot, "a debugger holds it")
            return
        text = f"its loop has not turned for {silent:.1f} s"
        yield self._replace(window, Sign.STALLED, now, text)

    def _is_due(self, record: _Record, seen: Seen, now: float) -> bool:
        """Count an unhealthy window; return whether the worker is to be replaced now."""
        self.degraded += 1
        record.unhealthy += 1
        if record.unhealthy < self.settings.unhealthy_consecutive_windows:
            return False
        if record.ended_for is not None:
            # Who was to finish and stalls over it is killed, once.
            return record.ended_for is not Sign.STALLED and record.is_shown
        return self._replacing is None and now >= self._cooling.get(seen.slot, now)

    def _replace(self, window: _Window, sign: Sign, now: float, text: str) -> Act:
        seen, settings = window.seen, self.settings
        window.record.ended_for = sign
        window.record.unhealthy = 0
        self.replaced[sign] += 1
        self._cooling[seen.slot] = now + settings.restart_cooldown_ms / 1000
        grace = None if sign is Sign.STALLED else settings.drain_grace_ms / 1000
        self._replacing = seen
        self._replacing_until = now + (grace or 0.0) + SUCCESSOR_SECONDS
        return Replace(seen.slot, sign, text, grace)

    # --- timeouts -----------------------------------------------------------------------------

    def _fails_alone(self, window: _Window, windows: Sequence[_Window]) -> str | None:
        """Return an upstream whose backends time out for this worker and not for another."""
        percent = self.settings.timeout_error_rate_percent
        if percent is None or not window.seen.serves:
            return None
        others = [other for other in windows if other is not window and other.seen.serves]
        for upstream, requests in window.requests.items():
            if self._rate(requests) >= percent and any(
                0 <= self._rate(other.requests.get(upstream, Requests(0, 0))) < percent
                for other in others
            ):
                return upstream
        return None

    def _rate(self, requests: Requests) -> float:
        """Return which share timed out, in percent; negative if too few ended to tell."""
        if requests.ended < self.settings.min_requests_per_window:
            return -1.0
        return 100.0 * requests.timed_out / requests.ended
