"""All counting goes through slots: numbers with one writer each, in one flat array.

A slot is named once, when whatever counts is built, and incremented by position on the hot path.
The array and the names lie in the shared segment, where the supervisor sums them over all workers
without asking any. A worker that replaces another goes on with its numbers, so none goes back.
"""

import struct
from collections.abc import Iterator, Mapping
from operator import add
from typing import Final, NamedTuple

import msgspec

from spooky._core.reasons import TABLE, Reason
from spooky._core.shared import HISTOGRAM_VALUES, VALUES_MAX, Histogram, Segment
from spooky.observe.metrics import BY_NAME, OVERFLOW, Kind
from spooky.observe.segment import private_segment

# Before each name: its first value's position and its length in bytes.
_NAME_HEAD: Final = struct.Struct("<II")

# The values from here on have no name: they take what finds no room, a histogram even.
_NAMED_MAX: Final = VALUES_MAX - HISTOGRAM_VALUES


class SlotName(NamedTuple):
    """What a slot counts: a metric name and its labels."""

    metric: str
    labels: tuple[tuple[str, str], ...]


class Counters:
    """The slots of one worker.

    Arguments:
        segment: Where they lie; made for this process alone if none is given.
        worker: Which of the segment's worker slots is ours.

    Attributes:
        segment: Where they lie.
        worker: The worker's slot in the segment.
        values: The numbers; ``values[slot] += 1`` counts.
    """

    def __init__(self, segment: Segment | None = None, worker: int = 0) -> None:
        self.segment = segment if segment is not None else private_segment()
        self.worker = worker
        self.values = self.segment.values(worker)
        self._slots: dict[SlotName, int] = {}
        self._next = 0
        for name, position in named_slots(self.segment, worker):
            self._slots[name] = position
            self._next = position + _width(name)
        self._overflow = self.slot(OVERFLOW)

    def slot(self, metric: str, labels: Mapping[str, str] | None = None) -> int:
        """Return the slot of a metric with these labels, made at the first call.

        Raises:
            KeyError: The table of metrics does not have it.
        """
        name = SlotName(metric, tuple(sorted((labels or {}).items())))
        slot = self._slots.get(name)
        return slot if slot is not None else self._add(name)

    def histogram(self, metric: str, labels: Mapping[str, str] | None = None) -> Histogram:
        """Return the histogram of a metric with these labels, made at the first call.

        Raises:
            KeyError: The table of metrics does not have it.
        """
        return self.segment.histogram(self.worker, self.slot(metric, labels))

    def reason_slots(self, metric: str) -> tuple[int, ...]:
        """Return one slot for each row of the reason table, by :attr:`Reason.index`."""
        return tuple(self.slot(metric, reason_labels(reason)) for reason in TABLE)

    def snapshot(self) -> Iterator[tuple[SlotName, int]]:
        """Yield every slot with its number; a histogram's is that of its first bucket."""
        for name, slot in self._slots.items():
            yield name, self.values[slot]

    def _add(self, name: SlotName) -> int:
        width = _width(name)
        encoded = msgspec.msgpack.encode(name)
        entry = _NAME_HEAD.pack(self._next, len(encoded)) + encoded
        if self._next + width > _NAMED_MAX or not self.segment.add_name(self.worker, entry):
            self.values[self._overflow] += 1
            slot = _NAMED_MAX
        else:
            slot, self._next = self._next, self._next + width
        self._slots[name] = slot
        return slot


def named_slots(segment: Segment, worker: int) -> Iterator[tuple[SlotName, int]]:
    """Yield the names that a worker gave its slots, each with its first value's position."""
    return added_slots(segment, worker, 0)[0]


def added_slots(
    segment: Segment, worker: int, since: int
) -> tuple[Iterator[tuple[SlotName, int]], int]:
    """Return what :func:`named_slots` does, but only what was added later.

    Arguments:
        since: 0 for everything, or what the last call said.

    Returns:
        The slots, and where the next call goes on.
    """
    names = segment.names(worker)
    return _parse(names, since), len(names)


def _parse(names: bytes, at: int) -> Iterator[tuple[SlotName, int]]:
    while at < len(names):
        position, length = _NAME_HEAD.unpack_from(names, at)
        at += _NAME_HEAD.size
        yield msgspec.msgpack.decode(names[at : at + length], type=SlotName), position
        at += length


class CounterReader:
    """Sums every slot over all workers; slots keep their places, so that names are read once.

    Arguments:
        segment: Where the workers count.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._read = [0] * segment.slots
        self._values: dict[int, memoryview[int]] = {}
        self._places: dict[SlotName, list[_Place]] = {}

    def read(self) -> dict[SlotName, list[int]]:
        """Return the sums.

        Returns:
            One number for a counter or a gauge; for a histogram its values, as the shared kernel
            lays them out.
        """
        for worker in range(self._segment.slots):
            slots, self._read[worker] = added_slots(self._segment, worker, self._read[worker])
            for name, position in slots:
                values = self._values.get(worker)
                if values is None:
                    values = self._values[worker] = self._segment.values(worker)
                place = _Place(worker, values, slice(position, position + _width(name)))
                self._places.setdefault(name, []).append(place)
        return {name: _sum(places) for name, places in self._places.items()}

    def by_worker(self, metric: str) -> Iterator[tuple[int, SlotName, int]]:
        """Yield a counter's numbers by worker, of the names that the last :meth:`read` knew."""
        for name, places in self._places.items():
            if name.metric == metric:
                for place in places:
                    yield place.worker, name, place.values[place.where.start]


class _Place(NamedTuple):
    """Where a worker counts something."""

    worker: int
    values: "memoryview[int]"
    where: slice


def _sum(places: list[_Place]) -> list[int]:
    first, *others = (place.values[place.where].tolist() for place in places)
    for other in others:
        first = list(map(add, first, other))
    return first


def totals(segment: Segment) -> dict[SlotName, list[int]]:
    """Return what a :class:`CounterReader` reads, once."""
    return CounterReader(segment).read()


def forget_gauges(segment: Segment, worker: int) -> None:
    """Set a dead worker's gauges to 0: what it had is gone. Its counters stay as they are."""
    values = segment.values(worker)
    for name, position in named_slots(segment, worker):
        if BY_NAME[name.metric].kind is Kind.GAUGE:
            values[position] = 0


def reason_labels(reason: Reason) -> dict[str, str]:
    """Return the labels that say a reason."""
    return {"stage": reason.stage.value, "reason": reason.code}


def _width(name: SlotName) -> int:
    return HISTOGRAM_VALUES if BY_NAME[name.metric].kind is Kind.HISTOGRAM else 1
