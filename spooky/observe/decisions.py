"""Recent decisions: which notes a request's record may have, and reading it.

The records themselves are kept by :mod:`spooky._core.decisions`, in the shared segment, where they
outlive the worker that wrote them.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from spooky._core import reasons
from spooky._core.decisions import (
    CANDIDATE,
    NOTE,
    NOTES_CUT,
    PATH_CUT,
    RECORD,
    STAGE,
    Ring,
    key_of,
)
from spooky._core.reasons import Reason
from spooky._core.shared import Segment

ID_DIGITS: Final = 18
"""Of a request id: two for the worker's slot, eight for the second in which the worker started, and
eight that count its requests."""


CLOCK_SECONDS: Final = 1.0
"""A request that began so much later than now did not: one clock tells the time to all."""

EXCLUDED_FAILING: Final = 1
EXCLUDED_EJECTED: Final = 2
EXCLUDED_DRAINED: Final = 3
"""Why a backend could not be chosen: its checks fail, it is ejected, or it is drained."""


class NoteKind(IntEnum):
    """What a note says; its name and numbers are described here."""

    WAITED = 1
    """It waited for a place: at what (name), taken, limit."""

    REFUSED = 2
    """A stage of admission refused it: which (name), its numbers (as many as it has)."""

    ENTERED = 3
    """It found a place where it had waited: at what (name), for want of what."""

    EXCLUDED = 5
    """A backend that could not be chosen: id (name), which state, and the reason of an ejection."""

    PASSED_OVER = 6
    """A backend that was chosen and did not let it in: id (name), its numbers, and why."""

    TRY_BEGAN = 7
    """A try began: the backend's id (name), which try it is.

    The first is noted when it ends before the request does, or another begins beside it: of one
    that nothing follows the record itself tells.
    """

    TRY_ENDED = 9
    """A try ended, and why: the backend's id (name), status."""

    RETRY_DENIED = 10
    """Another try was not made, and why: name of the rule."""

    HEDGE_BEGAN = 11
    """A second try began beside the first: the backend's id (name), delay in ms."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something out of the ordinary.

    Attributes:
        kind: What.
        at: When; seconds on the monotonic clock.
        reason: Why, where that says anything.
        name: What it happened to.
        numbers: What the kind says.
    """

    kind: NoteKind
    at: float
    reason: Reason
    name: str
    numbers: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class AdmittedBy:
    """A stage that let a request in.

    Attributes:
        name: Which.
        value: What it compared with its limit; with the request itself where it counts requests.
        limit: The limit.
    """

    name: str
    value: int
    limit: int


@dataclass(frozen=True, slots=True)
class Compared:
    """A backend that was held against others when one was chosen.

    Attributes:
        position: Among the upstream's backends.
        is_chosen: Whether it was chosen.
        in_flight: Its requests; with ``least-request`` of all workers, else of this one alone.
        weight: Its weight, as far as its share goes.
        latency_ms: What the balancer takes for its latency; ``None`` if it knows none.
        score: What was held against that of others, the less the better; ``None`` if none was.
    """

    position: int
    is_chosen: bool
    in_flight: int
    weight: float
    latency_ms: float | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a request.

    Attributes:
        request_id: Its id.
        generation: The number of the generation that served it; 0 if none did.
        started: When its head came; seconds on the monotonic clock, as all moments, negative for
            what was not.
        admitted: The stages that let it in.
        protocol: That of the client.
        upstream_protocol: That of the backend; empty if no connection took it.
        compared: The backends that were held against each other by numbers, if any were.
        path_cut: Whether only the beginning of the path is known.
        notes_cut: Whether there were more notes.
    """

    request_id: str
    generation: int
    started: float
    connected: float
    first_byte: float
    ended: float
    bytes_received: int
    bytes_sent: int
    reason: Reason
    status: int
    protocol: str
    upstream_protocol: str
    upstream: str
    backend: str
    method: bytes
    host: bytes
    path: bytes
    admitted: tuple[AdmittedBy, ...]
    compared: tuple[Compared, ...]
    path_cut: bool
    notes_cut: bool
    notes: tuple[Note, ...]


def parse_id(text: str) -> tuple[int, int]:
    """Return the slot of a request id, and what its record is found by.

    Raises:
        ValueError: It is no request id; says why.
    """
    if len(text) != ID_DIGITS:
        raise ValueError(
            f"a request id has {ID_DIGITS} digits, as in the access log; this has {len(text)}"
        )
    # `int` takes signs, spaces and capitals too.
    if not _DIGITS.issuperset(text):
        raise ValueError(
            "a request id has lowercase hexadecimal digits alone, as in the access log"
        )
    return int(text[:2], 16), key_of(text)


def decode(slot: int, record: bytes) -> Decision | None:
    """Return what a record says; ``None`` if it cannot be one."""
    if len(record) < RECORD.size:
        return None
    size, _, stages, candidates, _, key, generation, started, connected, *rest = RECORD.unpack_from(
        record
    )
    first_byte, ended, *rest = rest
    received, sent, reason, status, flags, count, *lengths = rest
    compared_at = RECORD.size + stages * STAGE.size
    at = compared_at + candidates * CANDIDATE.size
    if at + sum(lengths) > min(size, len(record)) or reason >= len(reasons.TABLE):
        return None
    if not all(map(math.isfinite, (started, connected, first_byte, ended))) or not (
        0 <= started <= time.monotonic() + CLOCK_SECONDS
    ):
        return None
    texts = []
    for length in lengths:
        texts.append(record[at : at + length])
        at += length
    protocol, upstream_protocol, upstream, backend = (_text(text) for text in texts[:4])
    return Decision(
        request_id=f"{slot:02x}{key:016x}",
        generation=generation,
        started=started,
        connected=connected,
        first_byte=first_byte,
        ended=ended,
        bytes_received=received,
        bytes_sent=sent,
        reason=reasons.TABLE[reason],
        status=status,
        protocol=protocol,
        upstream_protocol=upstream_protocol,
        upstream=upstream,
        backend=backend,
        method=texts[4],
        host=texts[5],
        path=texts[6],
        admitted=tuple(_stages(record[RECORD.size : compared_at])),
        compared=tuple(_compared(record[compared_at : compared_at + candidates * CANDIDATE.size])),
        path_cut=bool(flags & PATH_CUT),
        notes_cut=bool(flags & NOTES_CUT),
        notes=_notes(texts[7], count),
    )


def ring_of(segment: Segment, slot: int) -> Ring:
    """Return a slot's ring."""
    return Ring(segment.decisions(slot))


def _stages(data: bytes) -> Iterator[AdmittedBy]:
    for value, limit, name in STAGE.iter_unpack(data):
        yield AdmittedBy(_text(name.rstrip(b"\0")), value, limit)


def _compared(data: bytes) -> Iterator[Compared]:
    for position, is_chosen, active, *numbers in CANDIDATE.iter_unpack(data):
        if all(map(math.isfinite, numbers)):
            weight, latency, score = numbers
            yield Compared(
                position, bool(is_chosen), active, weight,
                latency if latency >= 0 else None, score if score >= 0 else None,
            )  # fmt: skip


def _notes(data: bytes, count: int) -> tuple[Note, ...]:
    notes = []
    at = 0
    for _ in range(count):
        if at + NOTE.size > len(data):
            break
        kind, length, reason, _, moment, *numbers = NOTE.unpack_from(data, at)
        at += NOTE.size
        name = _text(data[at : at + length])
        at += length
        if kind in _KINDS and reason < len(reasons.TABLE) and math.isfinite(moment):
            first, second, third, fourth = numbers
            note = Note(
                NoteKind(kind), moment, reasons.TABLE[reason], name, (first, second, third, fourth)
            )
            notes.append(note)
    return tuple(notes)


_KINDS: Final = frozenset(NoteKind)
_DIGITS: Final = frozenset("0123456789abcdef")


def _text(data: bytes) -> str:
    """Return a name; one that was cut within a character loses that."""
    return data.decode("utf-8", "ignore")
