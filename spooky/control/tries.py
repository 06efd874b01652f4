"""The tries of a request at backends, put together from what was noted of them."""

from dataclasses import dataclass

from spooky.control.answers import TryView
from spooky.observe.decisions import Decision, NoteKind


@dataclass(slots=True)
class _Try:
    """One try, which may not have ended yet; moments in seconds."""

    number: int
    backend: str
    began: float
    is_hedge: bool = False
    ended: float | None = None
    status: int = 0
    reason: str = ""
    text: str = ""


def first_try_began(decision: Decision) -> float | None:
    """Return when the first try began if no note says so; ``None`` if one does, or there was none.

    That of a request that had no other, and did not fail there: it began with the request, or as
    that found the last place that it waited for.
    """
    if not decision.backend or any(note.kind is NoteKind.TRY_BEGAN for note in decision.notes):
        return None
    entered = (note.at for note in decision.notes if note.kind is NoteKind.ENTERED)
    return max(entered, default=decision.started)


def tries_of(decision: Decision) -> tuple[TryView, ...]:
    """Return a request's tries in the order in which they began, each with its outcome.

    What no note ends went on until the request ended, and has its outcome.
    """
    tries = []
    if (began := first_try_began(decision)) is not None:
        tries.append(_Try(1, decision.backend, began))
    for note in decision.notes:
        if note.kind in (NoteKind.TRY_BEGAN, NoteKind.HEDGE_BEGAN):
            is_hedge = note.kind is NoteKind.HEDGE_BEGAN
            tries.append(_Try(len(tries) + 1, note.name, note.at, is_hedge))
        elif note.kind is NoteKind.TRY_ENDED:
            of_it = (one for one in reversed(tries) if one.backend == note.name)
            ended = next((one for one in of_it if one.ended is None), None)
            if ended is not None:
                ended.ended, ended.status = note.at, _status(note.numbers[0])
                ended.reason, ended.text = note.reason.code, note.reason.text
    return tuple(_view(decision, one) for one in tries)


def _view(decision: Decision, one: _Try) -> TryView:
    ended, status, reason, text = one.ended, one.status, one.reason, one.text
    if ended is None:
        ended, status = decision.ended, decision.status
        reason, text = decision.reason.code, decision.reason.text
    return TryView(
        one.number, one.backend, one.is_hedge, milliseconds(decision, one.began),
        milliseconds(decision, ended), status or None, reason, text,
    )  # fmt: skip


def milliseconds(decision: Decision, moment: float) -> float:
    """Return when a moment was, counted from when the request began; ms."""
    return round((moment - decision.started) * 1000, 3)


def _status(number: float) -> int:
    """Return a status; a note may hold any number."""
    return int(number) if 100 <= number < 1000 else 0
