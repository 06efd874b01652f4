"""Why a backend got a request: who else was there, with which numbers, and who was passed over."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from spooky.config.schema import Configuration
from spooky.control.answers import BackendChoice, CandidateView
from spooky.observe.decisions import (
    EXCLUDED_DRAINED,
    EXCLUDED_EJECTED,
    EXCLUDED_FAILING,
    Compared,
    Decision,
    Note,
    NoteKind,
)
from spooky.upstream.excluded import EXCLUDED_MAX

CANDIDATES_SHOWN: Final = 64
"""Backends that are listed; those of which anything is known come first."""

_BALANCING_TEXTS: Final = {
    "round-robin": "it was its turn",
    "random": "it was drawn by weight",
    "consistent-hash": "the key of the request belongs to it on the ring",
    "maglev": "the key of the request belongs to it in the table",
    "sticky-cid": "the connection belongs to it on the ring",
    "least-request": "it was the less loaded of two that were drawn",
    "latency-aware": "its latency and load promised the earliest answer",
}

_SCORE_TEXTS: Final = {
    "least-request": "requests in flight over weight, the least wins",
    "latency-aware": "latency and 10 ms for each request in flight, over weight, the least wins",
    "consistent-hash": "requests in flight over the bound, below 1 is room",
    "maglev": "requests in flight over the bound, below 1 is room",
    "sticky-cid": "requests in flight over the bound, below 1 is room",
}

_OVERFLOW_TEXT: Final = "the backend of its key had as much in flight as its bound allows"

_EXCLUDED_TEXTS: Final[Mapping[float, str]] = {
    EXCLUDED_FAILING: "its checks fail",
    EXCLUDED_EJECTED: "it is ejected",
    EXCLUDED_DRAINED: "it is drained",
}


def excluded_text(numbers: Sequence[float], why: str) -> str:
    """Return why a backend was not in the choice, by the numbers of the note that says so."""
    state = _EXCLUDED_TEXTS.get(numbers[0] if numbers else 0, "it was not in the choice")
    return f"{state} ({why})" if numbers and numbers[0] == EXCLUDED_EJECTED else state


def choice_of(decision: Decision, configuration: Configuration | None) -> BackendChoice | None:
    """Return why a backend was chosen; ``None`` if none was.

    Arguments:
        configuration: What served the request; ``None`` if nobody knows it any more.
    """
    if not decision.backend:
        return None
    upstream = configuration.upstream.get(decision.upstream) if configuration is not None else None
    if configuration is None or upstream is None:
        text = f"generation {decision.generation} is kept no more, so nobody can say why"
        return BackendChoice(decision.backend, "", text, "", (), 0)
    balancing = configuration.load_balancing_of(decision.upstream).type
    known = _Known.of(decision, [backend.id for backend in upstream.listed_backends])
    views = [known.view(backend.id, decision.backend) for backend in upstream.listed_backends]
    could = sum(view.state not in ("excluded", "passed_over") for view in views)
    views.sort(key=lambda view: _ORDER.index(view.state))
    return BackendChoice(
        decision.backend,
        balancing,
        _text(balancing, known, decision, could),
        _SCORE_TEXTS.get(balancing, "") if known.compared else "",
        tuple(views[:CANDIDATES_SHOWN]),
        max(0, len(views) - CANDIDATES_SHOWN),
    )


_ORDER: Final = ("chosen", "compared", "passed_over", "excluded", "candidate")


@dataclass(slots=True)
class _Known:
    """What a decision says of backends, by their ids."""

    compared: dict[str, Compared] = field(default_factory=dict)
    passed: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, decision: Decision, names: Sequence[str]) -> "_Known":
        """Return what is known of the last choice; ``names`` are those that balancers number."""
        compared = {
            names[one.position]: one for one in decision.compared if one.position < len(names)
        }
        known = cls(compared)
        for note in _of_last_choice(decision.notes):
            if note.kind is NoteKind.EXCLUDED:
                known.excluded[note.name] = excluded_text(note.numbers, note.reason.text)
            elif note.kind is NoteKind.PASSED_OVER:
                value, limit, *_ = note.numbers
                known.passed[note.name] = f"{note.reason.text} ({value:g} of {limit:g})"
        return known

    def view(self, name: str, chosen: str) -> CandidateView:
        """Return what is known of one."""
        state, text = "candidate", ""
        if name == chosen:
            state = "chosen"
        elif name in self.passed:
            state, text = "passed_over", self.passed[name]
        elif name in self.excluded:
            state, text = "excluded", self.excluded[name]
        elif name in self.compared:
            state = "compared"
        one = self.compared.get(name)
        if one is None:
            return CandidateView(name, state, None, None, None, None, text)
        latency = None if one.latency_ms is None else round(one.latency_ms, 3)
        score = None if one.score is None else round(one.score, 6)
        return CandidateView(name, state, one.in_flight, round(one.weight, 2), latency, score, text)


def _begins_another(note: Note) -> bool:
    """Return whether a try begins that is not the first, of which that is noted when it ends."""
    if note.kind is NoteKind.TRY_BEGAN:
        return note.numbers[0] > 1
    return note.kind is NoteKind.HEDGE_BEGAN


def _of_last_choice(notes: Sequence[Note]) -> Iterable[Note]:
    """Return the notes on the last choice: those after its try is said to begin.

    Where there is only the first, it is what was noted before that ended.
    """
    for at in reversed(range(len(notes))):
        if _begins_another(notes[at]):
            return notes[at:]
    return itertools.takewhile(lambda note: note.kind is not NoteKind.TRY_ENDED, notes)


def _text(balancing: str, known: _Known, decision: Decision, could: int) -> str:
    """Return why it was this one."""
    if decision.backend in known.passed or decision.backend in known.excluded:
        return "all others had less to offer"
    if decision.notes_cut or len(known.excluded) >= EXCLUDED_MAX:
        return _why(balancing, known, decision)  # Others may have been out too.
    if could == 1:
        return "it is the only backend that could be chosen"
    return f"{_why(balancing, known, decision)}, of {could} that could be chosen"


def _why(balancing: str, known: _Known, decision: Decision) -> str:
    if known.passed:
        return "it let the request in, which those that were preferred did not"
    if len(known.compared) > 1 and balancing not in ("least-request", "latency-aware"):
        return _OVERFLOW_TEXT
    return _BALANCING_TEXTS[balancing]
