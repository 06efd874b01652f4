"""The ring of recent decisions: what became of each request that a worker ended, the newest last.

Its area begins with a line of words: capacity, head, tail, records written. Head and tail are
positions that only grow; a position modulo the capacity is a place behind that line. What lies
between tail and head is whole: the one writer moves the tail past what it is about to write over,
then writes, then moves the head. So a reader copies first, looks at the tail after, and throws away
what is behind it. A writer that dies in between leaves nothing torn.
"""

import re
import struct
from mmap import mmap
from typing import Final

RING_MIN_BYTES: Final = 65_536
RING_HEAD_BYTES: Final = 64
METHOD_MAX: Final = 32
HOST_MAX: Final = 255
PATH_MAX: Final = 512
NAME_MAX: Final = 255
NOTES_MAX_BYTES: Final = 4_096
PATH_CUT: Final = 1
NOTES_CUT: Final = 2

RECORD: Final = struct.Struct("<IHBBQQQddddQQHHBBBBBBBBHH")
NOTE: Final = struct.Struct("<BBHIddddd")
STAGE: Final = struct.Struct("<II12s")
STAGES_MAX: Final = 6
CANDIDATE: Final = struct.Struct("<HHIfff")
CANDIDATES_MAX: Final = 6

_ID: Final = re.compile(r"..[0-9a-f]{16}")
_AT_CAPACITY = 0
_AT_HEAD = 1
_AT_TAIL = 2
_AT_COUNT = 3
_WORD = 8
_HEAD_WORDS = RING_HEAD_BYTES // _WORD
_FILLER = 0
_WHOLE = 1
_SIZE = struct.Struct("<IHHQQ")
# As often a reader begins again that the writer overtook; each time it is further behind than the
# whole ring is long.
_READS_MAX = 16
# No ring is written so far: whatever is beyond it was never written by one.
_POSITION_MAX = 1 << 62


class Notes:
    """What was out of the ordinary about one request, in the order in which it happened."""

    __slots__ = ("_data", "count", "dropped")

    def __init__(self) -> None:
        self._data = bytearray()
        self.count = 0
        self.dropped = 0

    def add(
        self,
        kind: int,
        at: float,
        reason: int,
        name: str,
        first: float = 0.0,
        second: float = 0.0,
        third: float = 0.0,
        fourth: float = 0.0,
    ) -> bool:
        """Add one; return whether there was room."""
        text = _cut(name.encode(), NAME_MAX)
        if len(self._data) + NOTE.size + len(text) > NOTES_MAX_BYTES:
            self.dropped += 1
            return False
        self._data += NOTE.pack(
            kind & 255, len(text), reason & 65535, 0, at, first, second, third, fourth
        )
        self._data += text
        self.count += 1
        return True

    def data(self) -> bytes:
        """Return all of them, as a record has them."""
        return bytes(self._data)


class Admitted:
    """The stages that let a request in, each with its numbers at that moment, and its choice."""

    __slots__ = ("_compared", "_data", "candidates", "count")

    def __init__(self) -> None:
        self._data = bytearray()
        self._compared = bytearray()
        self.count = 0
        self.candidates = 0

    def add(self, name: str, value: int, limit: int) -> None:
        """Add a stage; those beyond :data:`STAGES_MAX` are left out."""
        if self.count < STAGES_MAX:
            self._data += STAGE.pack(_word(value), _word(limit), name.encode())
            self.count += 1

    def add_candidate(
        self,
        position: int,
        is_chosen: bool,
        active: int,
        weight: float,
        latency: float,
        score: float,
    ) -> None:
        """Add a backend that was held against others; see the stub."""
        if self.candidates < CANDIDATES_MAX and position <= 0xFFFF:
            self._compared += CANDIDATE.pack(
                position, is_chosen, _word(active), weight, latency, score
            )
            self.candidates += 1

    def data(self) -> bytes:
        """Return all of them, as a record has them."""
        return bytes(self._data + self._compared)


class Ring:
    """One worker slot's ring; whoever writes is alone, whoever reads disturbs nobody."""

    def __init__(self, area: "mmap | bytearray | memoryview[int]") -> None:
        self._area = memoryview(area).cast("B")
        if self._area.readonly:
            raise BufferError("the ring has to be writable")
        if len(self._area) < RING_HEAD_BYTES + RING_MIN_BYTES:
            raise ValueError("the area is too small for a ring")
        self._room = (len(self._area) - RING_HEAD_BYTES) // _WORD * _WORD
        self._words = self._area[:RING_HEAD_BYTES].cast("Q")

    @property
    def capacity(self) -> int:
        return self._capacity()

    @property
    def written(self) -> int:
        return self._words[_AT_COUNT]

    @property
    def has_forgotten(self) -> bool:
        return self._words[_AT_TAIL] > 0

    def resize(self, capacity: int) -> None:
        """Use so many bytes from now on; what was written is forgotten if that is a change."""
        if capacity:
            capacity = min(max(capacity, RING_MIN_BYTES), self._room) // _WORD * _WORD
        if capacity == self._words[_AT_CAPACITY] and self._is_sound(capacity):
            return
        head = self._words[_AT_HEAD]
        head = (head + _WORD - 1) // _WORD * _WORD if head <= _POSITION_MAX else 0
        # Without room, nothing is read; what it was is behind the tail then.
        self._words[_AT_CAPACITY] = 0
        self._words[_AT_HEAD] = head
        self._words[_AT_TAIL] = head
        self._words[_AT_CAPACITY] = capacity

    def write(
        self,
        request_id: str,
        generation: int,
        started: float,
        connected: float,
        first_byte: float,
        ended: float,
        reason: int,
        status: int,
        received: int,
        sent: int,
        protocol: str,
        upstream_protocol: str,
        upstream: str,
        backend: str,
        method: bytes,
        host: bytes,
        path: bytes,
        admitted: Admitted | None = None,
        notes: Notes | None = None,
    ) -> bool:
        """Write what became of a request over the oldest; return whether there is a ring."""
        capacity = self._capacity()
        if not capacity:
            return False
        key = key_of(request_id)
        extra, count = (b"", 0) if notes is None else (notes.data(), notes.count)
        flags = PATH_CUT if len(path) > PATH_MAX else 0
        flags |= NOTES_CUT if notes is not None and notes.dropped else 0
        texts = (
            _cut(protocol.encode(), NAME_MAX),
            _cut(upstream_protocol.encode(), NAME_MAX),
            _cut(upstream.encode(), NAME_MAX),
            _cut(backend.encode(), NAME_MAX),
            method[:METHOD_MAX],
            host[:HOST_MAX],
            path[:PATH_MAX],
        )
        stages, counts = b"", (0, 0)
        if admitted is not None:
            stages, counts = admitted.data(), (admitted.count, admitted.candidates)
        size = RECORD.size + len(stages) + sum(map(len, texts)) + len(extra)
        whole = (size + _WORD - 1) // _WORD * _WORD
        if not self._is_sound(capacity):
            self.resize(capacity)
        head, tail = self._words[_AT_HEAD], self._words[_AT_TAIL]
        rest = capacity - head % capacity
        filler = rest if whole > rest else 0
        while head + filler + whole - tail > capacity:
            length = self._size_at(tail, head, capacity)
            tail = tail + length if length else head
        self._words[_AT_TAIL] = tail
        if filler:
            struct.pack_into("<IHH", self._area, self._at(head, capacity), filler, _FILLER, 0)
            head += filler
        at = self._at(head, capacity)
        RECORD.pack_into(
            self._area, at, whole, _WHOLE, *counts, head, key, generation,
            started, connected, first_byte, ended, received, sent, reason & 65535, status & 65535,
            flags, count, *map(len, texts), len(extra),
        )  # fmt: skip
        content = b"".join((stages, *texts, extra))
        self._area[at + RECORD.size : at + size] = content
        self._words[_AT_COUNT] += 1
        self._words[_AT_HEAD] = head + whole
        return True

    def find(self, key: int) -> bytes | None:
        """Return the record of a request, the last if there are several."""
        for _ in range(_READS_MAX):
            capacity = self._capacity()
            if not capacity:
                return None
            head, tail = self._words[_AT_HEAD], self._words[_AT_TAIL]
            if not 0 <= head - tail <= capacity:
                continue
            found, found_at = None, 0
            position = tail
            while position < head:
                length = self._size_at(position, head, capacity)
                if not length:
                    break
                at = self._at(position, capacity)
                kind = _SIZE.unpack_from(self._area, at)[1] if length >= RECORD.size else _FILLER
                if kind == _WHOLE and _SIZE.unpack_from(self._area, at)[4] == key:
                    found, found_at = bytes(self._area[at : at + length]), position
                position += length
            if self._words[_AT_CAPACITY] != capacity:
                continue
            tail_now = self._words[_AT_TAIL]
            if found is not None and found_at >= tail_now:
                return found
            if found is None and (position >= head or tail_now == tail):
                return None
        return None

    def recent(self, count: int) -> list[bytes]:
        """Return so many of the last records, the oldest of them first."""
        for _ in range(_READS_MAX):
            capacity = self._capacity()
            if not capacity:
                return []
            head, tail = self._words[_AT_HEAD], self._words[_AT_TAIL]
            if not 0 <= head - tail <= capacity:
                continue
            places: list[tuple[int, int]] = []
            position = tail
            while position < head and (length := self._size_at(position, head, capacity)):
                at = self._at(position, capacity)
                if length >= RECORD.size and _SIZE.unpack_from(self._area, at)[1] == _WHOLE:
                    places.append((position, length))
                position += length
            copies = [
                (position, bytes(self._area[at : at + length]))
                for position, length in (places[-count:] if count > 0 else [])
                for at in (self._at(position, capacity),)
            ]
            if self._words[_AT_CAPACITY] == capacity:
                tail = self._words[_AT_TAIL]
                return [copy for position, copy in copies if position >= tail]
        return []

    def oldest(self) -> bytes | None:
        """Return the oldest record."""
        for _ in range(_READS_MAX):
            capacity = self._capacity()
            head, position = self._words[_AT_HEAD], self._words[_AT_TAIL]
            if not 0 <= head - position <= capacity:
                continue
            found = None
            while capacity and position < head:
                length = self._size_at(position, head, capacity)
                at = self._at(position, capacity)
                if not length:
                    break
                if length >= RECORD.size and _SIZE.unpack_from(self._area, at)[1] == _WHOLE:
                    found = bytes(self._area[at : at + length])
                    break
                position += length
            if self._words[_AT_TAIL] <= position and self._words[_AT_CAPACITY] == capacity:
                return found
        return None

    def _capacity(self) -> int:
        """Return the capacity; 0 for one that cannot be."""
        capacity = self._words[_AT_CAPACITY]
        possible = RING_MIN_BYTES <= capacity <= self._room and capacity % _WORD == 0
        return capacity if possible else 0

    def _is_sound(self, capacity: int) -> bool:
        """Return whether head and tail are where a writer can have put them."""
        head, tail = self._words[_AT_HEAD], self._words[_AT_TAIL]
        return (head | tail) % _WORD == 0 and head <= _POSITION_MAX and 0 <= head - tail <= capacity

    def _at(self, position: int, capacity: int) -> int:
        return RING_HEAD_BYTES + position % capacity

    def _size_at(self, position: int, head: int, capacity: int) -> int:
        """Return how long what is at a position is; 0 if it is nothing that could be there."""
        place = position % capacity
        if place % _WORD:
            return 0
        length: int = struct.unpack_from("<I", self._area, RING_HEAD_BYTES + place)[0]
        if length == 0 or length % _WORD or length > capacity - place or length > head - position:
            return 0
        return length


def key_of(request_id: str) -> int:
    """Return what a request is found by: its id without the slot.

    Raises:
        ValueError: It is no id.
    """
    if _ID.fullmatch(request_id) is None:
        raise ValueError("a request id has 18 hexadecimal digits")
    return int(request_id[2:], 16)


def _word(number: int) -> int:
    """Return a number as 32 bits can hold it."""
    return min(max(number, 0), 0xFFFF_FFFF)


def _cut(text: bytes, maximum: int) -> bytes:
    return text[:maximum]
