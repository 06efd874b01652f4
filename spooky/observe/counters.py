"""All counting goes through slots: numbers with one writer each, in one flat array.

A slot is named once, when whatever counts is built, and incremented by position on the hot path.
The array and the names lie in the shared segment, where the supervisor sums them over all workers
without asking any. A worker that replaces another goes on with its numbers, so none goes back.

What counted upstreams that were removed is forgotten: the names that stay are written anew, and the
positions of the others are free for other names.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import add
from typing import Final, NamedTuple

import msgspec

from spooky._core.reasons import TABLE, Reason
from spooky._core.shared import (
    HISTOGRAM_VALUES,
    NAMES_MAX_BYTES,
    VALUES_MAX,
    Histogram,
    Segment,
)
from spooky.observe.metrics import BY_NAME, OVERFLOW, Kind
from spooky.observe.segment import private_segment

# Before each name: its first value's position and its length in bytes.
_NAME_HEAD: Final = struct.Struct("<II")

# The values from here on have no name: they take what finds no room, a histogram even.
_NAMED_MAX: Final = VALUES_MAX - HISTOGRAM_VALUES

READ_TRIES: Final = 8
"""How often counts are read again while names are written anew meanwhile; that is seldom."""


_ZEROS: Final = memoryview(bytes(8 * HISTOGRAM_VALUES)).cast("Q")


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
        names = self.segment.names(worker)
        known = list(_entries(names, 0))
        self._slots: dict[SlotName, int] = {name: position for name, position, _ in known}
        readable = b"".join(entry for _, _, entry in known)
        if len(readable) < len(names):
            # Nobody would read what is added behind them.
            self.segment.write_names(worker, readable)
        self._named_bytes = len(readable)
        # First positions and lengths of what no name has, the lowest first.
        self._free = _gaps(self._slots)
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

    @property
    def is_scarce(self) -> bool:
        """Whether more than half of the room for names or numbers is used."""
        free = sum(length for _, length in self._free)
        return free < _NAMED_MAX // 2 or self._named_bytes > NAMES_MAX_BYTES // 2

    def forget(self, is_used: Callable[[SlotName], bool]) -> int:
        """Give up the slots of what is no more.

        Whoever kept such a slot, or one that found no room, has to ask for it again.

        Arguments:
            is_used: Whether there still is what a name is about.

        Returns:
            How many names were given up.
        """
        if all(map(is_used, self._slots)):
            # After most changes: reading all entries takes several times as long.
            return 0
        kept: dict[SlotName, int] = {}
        entries: list[bytes] = []
        count = len(self._slots)
        for name, position, entry in _entries(self.segment.names(self.worker), 0):
            if is_used(name):
                kept[name] = position
                entries.append(entry)
        names = b"".join(entries)
        self.segment.write_names(self.worker, names)
        self._slots, self._named_bytes = kept, len(names)
        self._free = _gaps(kept)
        return count - len(kept)

    def _add(self, name: SlotName) -> int:
        width = _width(name)
        place = next((at for at, (_, free) in enumerate(self._free) if free >= width), None)
        slot = self._free[place][0] if place is not None else _NAMED_MAX
        encoded = msgspec.msgpack.encode(name)
        entry = _NAME_HEAD.pack(slot, len(encoded)) + encoded
        if place is not None:
            # Another name may have had it.
            self.values[slot : slot + width] = _ZEROS[:width]
        if place is None or not self.segment.add_name(self.worker, entry):
            self.values[self._overflow] += 1
            slot = _NAMED_MAX
        else:
            self._named_bytes += len(entry)
            left = self._free[place][1] - width
            self._free[place : place + 1] = [(slot + width, left)] if left else []
        self._slots[name] = slot
        return slot


def _gaps(slots: Mapping[SlotName, int]) -> list[tuple[int, int]]:
    """Return first positions and lengths of what no name has."""
    gaps, end = [], 0
    for position, width in sorted((at, _width(name)) for name, at in slots.items()):
        if position > end:
            gaps.append((end, position - end))
        end = max(end, position + width)
    if end < _NAMED_MAX:
        gaps.append((end, _NAMED_MAX - end))
    return gaps


def named_slots(segment: Segment, worker: int) -> Iterator[tuple[SlotName, int]]:
    """Yield the names that a worker gave its slots, each with its first value's position."""
    for name, position, _ in _entries(segment.names(worker), 0):
        yield name, position


class NameReader:
    """Reads names that workers gave their slots, each once as long as it keeps its place.

    Arguments:
        segment: Where they are.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        # How often a worker's were written anew, and how far they are read.
        self._read = [(0, 0)] * segment.slots

    def added(self, worker: int) -> tuple[Iterator[tuple[SlotName, int]], bool]:
        """Return what a worker has added since the last call.

        Returns:
            Names with the position of their first values, and whether these are all that there are:
            what was known of this worker's before is void.
        """
        version, since = self._read[worker]
        now = self._segment.names_version(worker)
        names = self._segment.names(worker)
        anew = now != version
        self._read[worker] = now, len(names)
        entries = _entries(names, 0 if anew else since)
        return ((name, position) for name, position, _ in entries), anew

    def is_current(self, workers: Iterable[int]) -> bool:
        """Return whether the names of workers are still those that were read.

        Values that were read before may be those of other names if not.
        """
        version = self._segment.names_version
        return all(version(worker) == self._read[worker][0] for worker in workers)


def _entries(names: bytes, at: int) -> Iterator[tuple[SlotName, int, bytes]]:
    """Yield each name with its position, and both as they are written.

    What cannot be a name is left out: a worker that went wrong may have written anything.
    """
    while at + _NAME_HEAD.size <= len(names):
        position, length = _NAME_HEAD.unpack_from(names, at)
        start, at = at, at + _NAME_HEAD.size + length
        if at > len(names):
            return
        try:
            name = msgspec.msgpack.decode(names[start + _NAME_HEAD.size : at], type=SlotName)
        except msgspec.DecodeError:
            continue
        if name.metric in BY_NAME and position + _width(name) <= VALUES_MAX:
            yield name, position, names[start:at]


class CounterReader:
    """Sums every slot over all workers; most keep their places, so that names are read once.

    Arguments:
        segment: Where the workers count.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._names = NameReader(segment)
        self._values: dict[int, memoryview[int]] = {}
        self._places: dict[SlotName, list[_Place]] = {}

    def read(self) -> dict[SlotName, list[int]]:
        """Return the sums.

        Returns:
            One number for a counter or a gauge; for a histogram its values, as the shared kernel
            lays them out.
        """
        for _ in range(READ_TRIES):
            self._read_names()
            sums = {name: _sum(places) for name, places in self._places.items()}
            if self._names.is_current(self._values):
                break
        return sums

    def _read_names(self) -> None:
        for worker in range(self._segment.slots):
            slots, anew = self._names.added(worker)
            if anew:
                self._forget(worker)
            for name, position in slots:
                values = self._values.get(worker)
                if values is None:
                    values = self._values[worker] = self._segment.values(worker)
                place = _Place(worker, values, slice(position, position + _width(name)))
                self._places.setdefault(name, []).append(place)

    def _forget(self, worker: int) -> None:
        for name, places in list(self._places.items()):
            self._places[name] = [place for place in places if place.worker != worker]
            if not self._places[name]:
                del self._places[name]

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
