"""What each worker counted of its requests, read from the segment."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from spooky._core import reasons
from spooky._core.shared import Segment
from spooky.control.watchdog import Requests
from spooky.observe.counters import READ_TRIES, NameReader

TIMEOUTS: Final = frozenset(
    reason.code
    for reason in (
        reasons.CONNECT_TIMEOUT,
        reasons.UPSTREAM_HEAD_TIMEOUT,
        reasons.UPSTREAM_BODY_TIMEOUT,
    )
)
"""Requests that end so had a backend that did not do its part in time."""


@dataclass(slots=True)
class _Positions:
    """Where a slot counts the requests of an upstream."""

    ended: list[int] = field(default_factory=list)
    timed_out: list[int] = field(default_factory=list)


class WorkerCountReader:
    """Reads the counts; slots keep their places, so that names are read once.

    Arguments:
        segment: Where the workers count.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._names = NameReader(segment)
        self._positions: defaultdict[int, defaultdict[str, _Positions]] = defaultdict(
            lambda: defaultdict(_Positions)
        )

    def read(self, slot: int) -> dict[str, Requests]:
        """Return what a slot counted, of all workers it had, by upstream."""
        for _ in range(READ_TRIES):
            found = self._read(slot)
            if self._names.is_current((slot,)):
                break
        return found

    def _read(self, slot: int) -> dict[str, Requests]:
        added, anew = self._names.added(slot)
        if anew:
            self._positions.pop(slot, None)
        upstreams = self._positions[slot]
        for name, position in added:
            if name.metric == "requests_total":
                labels = dict(name.labels)
                positions = upstreams[labels["upstream"]]
                positions.ended.append(position)
                if labels["reason"] in TIMEOUTS:
                    positions.timed_out.append(position)
        return {
            upstream: Requests(self._sum(slot, each.ended), self._sum(slot, each.timed_out))
            for upstream, each in upstreams.items()
        }

    def _sum(self, slot: int, positions: list[int]) -> int:
        return sum(self._segment.load(slot, position) for position in positions)
