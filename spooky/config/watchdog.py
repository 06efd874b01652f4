"""The ``resilience.watchdog`` section: when a worker that still runs is replaced."""

from typing import Annotated, Final

from msgspec import Meta

from spooky.config.fields import MAX_MILLISECONDS, Count, Section, described
from spooky.config.report import Report

BEAT_MS: Final = 1_000
"""How often a worker says that its loop turns."""

STALL_MIN_MS: Final = 2 * BEAT_MS  # one beat may be late, and is no stall
WINDOWS_MAX: Final = 100
INTERVAL_MIN_MS: Final = 100

_PATH: Final = ("resilience", "watchdog")


class Watchdog(Section, frozen=True):
    """Replacing workers that run and do not serve. An embedded proxy has no watchdog."""

    enabled: Annotated[
        bool,
        described(
            "Have the supervisor replace workers that stall, or that alone fail.",
            hazard="Off: a worker that hangs keeps its clients waiting until somebody kills it.",
        ),
    ] = True
    check_interval_ms: Annotated[
        int,
        Meta(ge=INTERVAL_MIN_MS, le=MAX_MILLISECONDS, extra={"unit": "ms"}),
        described("How often workers are looked at; what lies between two looks is a window."),
    ] = 1_000
    poll_stall_timeout_ms: Annotated[
        int,
        Meta(ge=STALL_MIN_MS, le=MAX_MILLISECONDS, extra={"unit": "ms"}),
        described(
            "A worker whose event loop has not turned for so long stalls: its stack goes to the "
            "log, and its windows are unhealthy. Workers say once a second that they turn.",
            hazard="A busy machine keeps healthy workers from turning for seconds.",
        ),
    ] = 10_000
    timeout_error_rate_percent: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        described(
            "A window is unhealthy if so many of a worker's requests to an upstream ended because "
            "backends did not answer in time, and fewer of another worker's to the same; null for "
            "no such sign.",
            hazard="One client that asks for what is slow makes its worker look ill.",
        ),
    ] = None
    min_requests_per_window: Annotated[
        Count,
        described("Of fewer requests to an upstream in a window nothing is concluded."),
    ] = 20
    unhealthy_consecutive_windows: Annotated[
        int,
        Meta(ge=1, le=WINDOWS_MAX),
        described(
            "After so many unhealthy windows in a row a worker is replaced: one that stalls is "
            "killed, any other finishes what it has first."
        ),
    ] = 3
    drain_grace_ms: Annotated[
        int,
        Meta(ge=0, le=MAX_MILLISECONDS, extra={"unit": "ms"}),
        described("Time to finish for a worker that is replaced though its loop turns."),
    ] = 8_000
    restart_cooldown_ms: Annotated[
        int,
        Meta(ge=0, le=MAX_MILLISECONDS, extra={"unit": "ms"}),
        described(
            "Within this time after the watchdog replaced a worker, it does not replace its "
            "successor.",
            hazard="For so long clients of a successor that stalls too are kept waiting.",
        ),
    ] = 30_000

    @property
    def stall_bound_ms(self) -> int:
        """How long a worker may stall until it is killed, outside a cooldown."""
        windows = self.unhealthy_consecutive_windows * self.check_interval_ms
        return self.poll_stall_timeout_ms + windows


def check_watchdog(watchdog: Watchdog, report: Report) -> None:
    """Report what is wrong with the watchdog."""
    interval, stall = watchdog.check_interval_ms, watchdog.poll_stall_timeout_ms
    if interval > stall:
        report.error(
            (*_PATH, "check_interval_ms"),
            f"{interval} is more than poll_stall_timeout_ms, which is {stall}: a stall would end "
            "unseen",
            f"lower it to {stall} or less",
            related=((*_PATH, "poll_stall_timeout_ms"),),
        )
