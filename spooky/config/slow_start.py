"""The ``slow_start`` section: how a backend that begins or returns gets its full load."""

from typing import Annotated, Final

from msgspec import Meta

from spooky.config.fields import MAX_MILLISECONDS, Section, described
from spooky.config.problems import Path
from spooky.config.report import Report

AGGRESSION_MAX: Final = 100.0  # beyond it the weight is whole at once


class SlowStart(Section, frozen=True):
    """How the weight of a backend grows that is new, or can serve again."""

    window_ms: Annotated[
        int,
        Meta(ge=100, le=MAX_MILLISECONDS),
        described("How long it takes until the backend has its whole weight.", unit="ms"),
    ] = 30_000
    min_weight_percent: Annotated[
        int, Meta(ge=1, le=100), described("The share of its weight that it begins with.")
    ] = 10
    aggression: Annotated[
        float,
        Meta(ge=0.01, le=AGGRESSION_MAX),
        described(
            "How the weight grows: its share is the share of the window that is over, to the power "
            "of 1/aggression. At 1 it grows evenly, above faster at first."
        ),
    ] = 1.0


def check_slow_start(path: Path, balancing: str, hashes: bool, report: Report) -> None:
    """Report a slow start that cannot act.

    Arguments:
        path: Where the section stands.
        balancing: How the upstream balances.
        hashes: Whether it does so by a key.
        report: Where problems go.
    """
    if hashes:
        report.error(
            path,
            f"{balancing} places keys by weight: one that grows would move them again and again",
            "remove slow_start, or balance by round-robin, random, least-request or latency-aware",
        )
