"""All counting goes through slots: numbers with one writer each, in one flat array.

A slot is named once, when whatever counts is built, and incremented by position on the hot path.
"""

from array import array
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from spooky._core.reasons import TABLE, Reason


class SlotName(NamedTuple):
    """What a slot counts: a metric name and its labels."""

    metric: str
    labels: tuple[tuple[str, str], ...]


class Counters:
    """The slots of one worker.

    Attributes:
        values: The numbers; ``values[slot] += 1`` counts.
    """

    def __init__(self) -> None:
        self.values = array("q")
        self._slots: dict[SlotName, int] = {}

    def slot(self, metric: str, labels: Mapping[str, str] | None = None) -> int:
        """Return the slot of a metric with these labels, made at the first call."""
        name = SlotName(metric, tuple(sorted((labels or {}).items())))
        slot = self._slots.get(name)
        if slot is None:
            slot = self._slots[name] = len(self.values)
            self.values.append(0)
        return slot

    def reason_slots(self, metric: str) -> tuple[int, ...]:
        """Return one slot for each row of the reason table, by :attr:`Reason.index`."""
        return tuple(self.slot(metric, _reason_labels(reason)) for reason in TABLE)

    def snapshot(self) -> Iterator[tuple[SlotName, int]]:
        """Yield every slot with its number."""
        for name, slot in self._slots.items():
            yield name, self.values[slot]


def _reason_labels(reason: Reason) -> dict[str, str]:
    return {"stage": reason.stage.value, "reason": reason.code}
