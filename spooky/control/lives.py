"""The life of a request: what the ring says of it, and why it went where it went."""

import functools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from spooky._core.routes import RouteTable, Rule
from spooky._core.shared import Segment
from spooky.config.inventory import route_name, rules_of
from spooky.config.loading import diagnose_text
from spooky.config.problems import ConfigurationError
from spooky.config.schema import Configuration
from spooky.control.answers import (
    LifeEvent,
    RequestLife,
    RouteChoice,
    StageView,
)
from spooky.control.changes import Changes
from spooky.control.choices import choice_of, excluded_text
from spooky.control.history import Record
from spooky.control.overrides import override
from spooky.control.tries import first_try_began, milliseconds, tries_of
from spooky.observe.decisions import (
    Decision,
    NoteKind,
    decode,
    parse_id,
    ring_of,
)
from spooky.overload.retry import Verdict

GENERATIONS_KEPT: Final = 4
"""Route tables of earlier generations that are kept for the next question."""

_PORT: Final = re.compile(rb":[0-9]*\Z")

_ROUTE_TEXTS: Final = {
    "only_match": "it is the only route that matches",
    "path_length": "its path prefix is the longest that matches",
    "host_specific": "it names a host, the others that match do not",
    "exact_host": "it names the host itself, the others that match a wildcard",
    "wildcard_length": "its wildcard host is the longest that matches",
    "method_specific": "it names the method, the others that match do not",
    "no_match": "no route matches",
}


_DENIED_TEXTS: Final[Mapping[str, str]] = {
    Verdict.CONDITION: "none of the conditions is met by how it failed",
    Verdict.METHOD: "its method may not be repeated",
    Verdict.BODY: "its body was sent, and is kept no more",
    Verdict.BEGUN: "the client was sent some of a response",
    Verdict.TRIES: "it had as many as it may have",
    Verdict.PAUSE: "the backend asks to be left alone for longer than a pause may be",
    Verdict.BUDGET: "the retry budget of the upstream is spent",
}


class UnknownRequestError(Exception):
    """Nothing is known of a request; says why."""


class Lives:
    """Looks requests up in the rings of all workers, dead ones too.

    Arguments:
        segment: Where the rings are.
        changes: Knows what is in force, and what was.
    """

    def __init__(self, segment: Segment, changes: Changes) -> None:
        self._segment = segment
        self._changes = changes
        self._routes = functools.lru_cache(GENERATIONS_KEPT)(_route_table)

    def life(self, request_id: str) -> RequestLife:
        """Return what is known of a request.

        Raises:
            ValueError: It is no request id.
            UnknownRequestError: Nothing is known of it, or no longer.
        """
        decision = self._decision(request_id)
        configuration = self._configuration(decision.generation)
        started = time.time() - time.monotonic() + decision.started
        reason = decision.reason
        return RequestLife(
            request_id=request_id,
            worker=int(request_id[:2], 16),
            generation=decision.generation,
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds"),
            duration_ms=milliseconds(decision, decision.ended),
            protocol=decision.protocol,
            upstream_protocol=decision.upstream_protocol or None,
            method=_text(decision.method),
            authority=_text(decision.host),
            path=_text(decision.path),
            path_cut=decision.path_cut,
            status=decision.status or None,
            stage=reason.stage.value,
            reason=reason.code,
            text=reason.text,
            fault=reason.fault.value,
            bytes_received=decision.bytes_received,
            bytes_sent=decision.bytes_sent,
            route=self._route(decision, configuration),
            backend=choice_of(decision, configuration),
            admission=tuple(_stages(decision)),
            tries=tries_of(decision),
            events=tuple(_events(decision)),
            events_cut=decision.notes_cut,
        )

    def _decision(self, request_id: str) -> Decision:
        slot, key = parse_id(request_id)
        if slot >= self._segment.slots:
            raise UnknownRequestError(
                f"there is no worker slot {slot}, which the id begins with: it is not from this "
                "Spooky"
            )
        ring = ring_of(self._segment, slot)
        record = ring.find(key)
        decision = decode(slot, record) if record is not None else None
        if decision is not None:
            return decision
        if ring.capacity == 0:
            raise UnknownRequestError(
                f"worker {slot} keeps no decisions: observability.decisions.bytes is 0, or no "
                "worker has had this slot"
            )
        if not ring.has_forgotten:
            raise UnknownRequestError(
                f"worker {slot} has ended no such request: it is still in flight, or from before "
                "the start"
            )
        oldest = ring.oldest()
        first = decode(slot, oldest) if oldest is not None else None
        reach = f"{max(0.0, time.monotonic() - first.ended):.0f} s" if first else "0 s"
        raise UnknownRequestError(
            f"nothing is known of it any more: worker {slot} keeps the requests that ended in the "
            f"last {reach} ({ring.capacity} bytes); raise observability.decisions.bytes to keep "
            "more. One that is in flight is known when it ends"
        )

    def _configuration(self, number: int) -> Configuration | None:
        """Return what a generation said; ``None`` if it is kept no more."""
        if number == self._changes.record.number:
            return self._changes.running.configuration
        record = self._changes.history.get(number)
        return _read(record) if record is not None else None

    def _route(self, decision: Decision, configuration: Configuration | None) -> RouteChoice | None:
        """Return why a request was routed as it was; ``None`` if it was refused before."""
        if not decision.upstream and decision.reason.code != "no_route":
            return None
        if configuration is None:
            text = f"generation {decision.generation} is kept no more, so nobody can say why"
            return RouteChoice(decision.upstream, None, "unknown", text, ())
        host = _PORT.sub(b"", decision.host.lower()).rstrip(b".")
        table = self._routes(_Identity(configuration))
        explanation = table.explain(host, decision.path, decision.method)
        names = tuple(_shown(rule) for rule in explanation.candidates)
        rule, why = explanation.rule, explanation.decided_by
        if rule is None or rule.name != decision.upstream:
            if decision.path_cut:
                text = "only the beginning of the path is kept, which does not tell"
                return RouteChoice(decision.upstream, None, "unknown", text, names)
            if rule is not None:
                text = "the generation as it is kept routes otherwise"
                return RouteChoice(decision.upstream, None, "unknown", text, names)
        shown = route_name(rule) if rule is not None else None
        return RouteChoice(decision.upstream or None, shown, why, _ROUTE_TEXTS[why], names)


class _Identity:
    """A configuration as a key: itself, not what it says."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration

    def __hash__(self) -> int:
        return id(self.configuration)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.configuration is self.configuration


def _route_table(identity: _Identity) -> RouteTable:
    return RouteTable(list(rules_of(identity.configuration)))


@functools.lru_cache(GENERATIONS_KEPT)
def _parsed(text: str, path: str) -> Configuration | None:
    try:
        return diagnose_text(text, path, directory=Path(path).parent).result()
    except ConfigurationError:
        return None


def _read(record: Record) -> Configuration | None:
    """Return what a record said; ``None`` if it is not valid any more."""
    written = _parsed(record.text, record.path)
    return override(written, record.overrides) if written is not None else None


def _shown(rule: Rule) -> str:
    return f"{route_name(rule)} -> {rule.name}"


def _stages(decision: Decision) -> Iterator[StageView]:
    for stage in decision.admitted:
        yield StageView(stage.name, stage.value, stage.limit)


def _events(decision: Decision) -> Iterator[LifeEvent]:
    """Yield what happened, in the order in which it did."""
    events = [LifeEvent(0.0, "began", "", None, (), "the request's head came")]
    for note in decision.notes:
        numbers = _trimmed(note.numbers)
        at = milliseconds(decision, note.at)
        reason = note.reason.code if note.kind in _WITH_REASON else None
        text = describe(note.kind, note.name, numbers, note.reason.text)
        events.append(LifeEvent(at, note.kind.name.lower(), note.name, reason, numbers, text))
    if (began := first_try_began(decision)) is not None:
        text = describe(NoteKind.TRY_BEGAN, decision.backend, (1.0,), "")
        at = milliseconds(decision, began)
        events.append(LifeEvent(at, "try_began", decision.backend, None, (1.0,), text))
    for moment, name, text in (
        (decision.connected, "connected", "a backend's connection took it"),
        (decision.first_byte, "answered", f"the response began, with {decision.status}"),
    ):
        if moment >= 0:
            at = milliseconds(decision, moment)
            events.append(LifeEvent(at, name, decision.backend, None, (), text))
    events.sort(key=lambda event: event.at_ms)
    ended = milliseconds(decision, decision.ended)
    events.append(LifeEvent(ended, "ended", "", decision.reason.code, (), decision.reason.text))
    yield from events


_WITH_REASON: Final = frozenset(
    (
        NoteKind.WAITED, NoteKind.REFUSED, NoteKind.EXCLUDED, NoteKind.PASSED_OVER,
        NoteKind.TRY_ENDED, NoteKind.RETRY_DENIED,
    )
)  # fmt: skip


def describe(kind: NoteKind, name: str, numbers: Sequence[float], why: str) -> str:
    """Return what a note says, in words."""
    told = ", ".join(f"{number:g}" for number in numbers)
    of = f" ({' of '.join(f'{number:g}' for number in numbers[:2])})" if numbers else ""
    match kind:
        case NoteKind.WAITED:
            return f"waited for a place at {name}{of}: {why}"
        case NoteKind.REFUSED:
            return f"{name} refused it{of}: {why}"
        case NoteKind.EXCLUDED:
            return f"{name} could not be chosen: {excluded_text(numbers, why)}"
        case NoteKind.PASSED_OVER:
            return f"{name} was passed over{of}: {why}"
        case NoteKind.ENTERED:
            return f"found a place at {name}"
        case NoteKind.TRY_BEGAN:
            return f"try {numbers[0] if numbers else 1:g} began at {name}"
        case NoteKind.TRY_ENDED:
            return f"the try at {name} ended: {why}"
        case NoteKind.RETRY_DENIED:
            return f"no other try was made: {_DENIED_TEXTS.get(name, name)}"
        case NoteKind.HEDGE_BEGAN:
            return f"a second try began at {name} beside the first, after {told} ms"


def _trimmed(numbers: Sequence[float]) -> tuple[float, ...]:
    """Return the numbers without the zeros that follow the last other."""
    last = max((place for place, number in enumerate(numbers) if number), default=-1)
    return tuple(numbers[: last + 1])


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
